"""What do bfloat16 and a running mean of the weights do to the AP? The shapes recipe, shortened, with several seeds.

For each seed one run computes in float32 and keeps a running mean beside the weights, which changes nothing in them:
both are evaluated. Another run computes in bfloat16. Some minutes a run on two cores.

python benchmarks/precision.py --workdir runs/precision
"""

from pathlib import Path

import jax
import numpy as np
import tyro

from cornerjax.checkpoint import Checkpoints
from cornerjax.config import Config, load_recipe
from cornerjax.data.source import open_source
from cornerjax.detectors import get_detector
from cornerjax.detectors.base import make_network
from cornerjax.evaluation.evaluator import Evaluator
from cornerjax.training.loop import train
from cornerjax.training.mesh import data_mesh
from cornerjax.training.optimiser import make_optimiser
from cornerjax.training.resume import resume
from cornerjax.training.setup import network_of, start_state
from cornerjax.validation import replaced


def aps(config: Config, workdir: Path) -> list[float]:
    """AP of the weights of a run, and of their running mean where there is one."""
    config = train(config, workdir).config
    _, params, model_state = network_of(config, None)
    state = start_state(params, model_state, make_optimiser(config), data_mesh(), ema=config.optim.ema_decay > 0)
    with Checkpoints(workdir, read_only=True) as checkpoints:
        state = resume(state, checkpoints)
    detector = get_detector(config.model.detector)
    apply, *_ = make_network(detector, config, None)
    evaluate = Evaluator(detector, apply, config, open_source(config.data, config.data.val))
    weights = [(state.params, state.model_state)] + ([tuple(state.ema.values())] if state.ema else [])
    return [evaluate(*jax.tree.map(np.asarray, trees)).metrics["AP"] for trees in weights]


def main(
    config: str = "configs/shapes.py",
    workdir: Path = Path("runs/precision"),
    seeds: tuple[int, ...] = (0, 1, 2),
    steps: int = 1200,
    ema_decay: float = 0.998,
) -> None:
    """Train and evaluate; a run that is there already goes on where it stopped."""
    print(f"{'seed':>4s} {'float32':>8s} {'its mean':>8s} {'bfloat16':>8s}", flush=True)
    rows = []
    for seed in seeds:
        changes = {"seed": seed, "steps": steps, "eval_steps": 0, "data.root": f"shapes:{seed}"}
        base = replaced(load_recipe(config), changes | {"optim.warmup_steps": steps // 8})
        mean = replaced(base, {"optim.ema_decay": ema_decay})
        half = replaced(base, {"compute.dtype": "bfloat16"})
        rows.append([*aps(mean, workdir / f"float32-{seed}"), *aps(half, workdir / f"bfloat16-{seed}")])
        print(f"{seed:4d} " + " ".join(f"{ap:8.3f}" for ap in rows[-1]), flush=True)
    print("mean " + " ".join(f"{ap:8.3f}" for ap in np.mean(rows, axis=0)))


if __name__ == "__main__":
    tyro.cli(main)
