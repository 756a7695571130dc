"""What is corner pooling worth? Trains one recipe with each pooling and several seeds; prints COCO AP side by side.

A seed draws the weights, the data set and the order of its examples, the same for every pooling. The AP is that of the
last step on the validation images. Run again, it goes on where it stopped and prints what is done.

python benchmarks/pooling_ablation.py [--poolings corner none full my_module:my_pool] [--seeds 0 1 2] [--steps 3000]
"""

import dataclasses
import json
import statistics
import subprocess
import sys
from pathlib import Path

from cornerjax.commands.cli import parse, run
from cornerjax.config import load_recipe

HOUSE = Path(__file__).parents[1]
METRICS = ("AP", "AP50", "AP75", "AP_small", "AP_medium")


@dataclasses.dataclass(frozen=True)
class Ablation:
    poolings: tuple[str, ...] = ("corner", "full", "none")  # what model.pooling accepts
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 3000  # those of the recipe; the learning rate comes down to 0 over them
    config: str = "configs/shapes.py"  # a recipe that reads shapes:SEED
    runs: str = "runs/pooling"  # where the runs are kept


def trained(ablation: Ablation, pooling: str, seed: int) -> dict[str, float]:
    """COCO's numbers at the last step of a run, trained first unless it is there."""
    workdir = Path(ablation.runs) / f"{pooling.replace(':', '.')}-{ablation.steps}-{seed}"
    command = [sys.executable, HOUSE / "train.py", "--config", ablation.config, "--workdir", workdir]
    warmup = min(load_recipe(ablation.config).optim.warmup_steps, ablation.steps // 2)
    command += ["--seed", seed, "--data.root", f"shapes:{seed}", "--model.pooling", pooling]
    command += ["--steps", ablation.steps, "--optim.warmup-steps", warmup]
    if failed := subprocess.run([str(word) for word in command], check=False).returncode:
        sys.exit(failed)  # it has said why
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if "AP" in line][-1]


def table(results: dict[str, list[dict[str, float]]]) -> str:
    """A row a pooling: every seed's AP, then the mean of each metric and the standard deviation of AP."""
    rows = [f"{'pooling':24s} {'AP of each seed':24s} {'±':>6s} " + " ".join(f"{name:>9s}" for name in METRICS)]
    for pooling, runs in results.items():
        aps = [run["AP"] for run in runs]
        spread = statistics.stdev(aps) if len(aps) > 1 else 0.0
        means = " ".join(f"{statistics.mean(run[name] for run in runs):9.3f}" for name in METRICS)
        rows.append(f"{pooling:24s} {' '.join(f'{ap:.3f}' for ap in aps):24s} {spread:6.3f} {means}")
    return "\n".join(rows)


def main() -> None:
    ablation = parse(Ablation, sys.argv[1:], description=__doc__)
    results: dict[str, list[dict[str, float]]] = {pooling: [] for pooling in ablation.poolings}
    for seed in ablation.seeds:
        for pooling in ablation.poolings:
            results[pooling].append(trained(ablation, pooling, seed))
        print(f"\n{ablation.steps} steps, seeds up to {seed}\n{table(results)}\n", flush=True)


if __name__ == "__main__":
    run(main)
