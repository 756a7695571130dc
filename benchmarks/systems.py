"""Which detector learns most in a few minutes? Each of them on generated shapes, with the same CPU time, several seeds.

The hourglass is that of configs/shapes.py for all that have one; the residual networks are narrow, too. How many steps
fit into the time is measured first, with everything that a step needs but without compiling; the learning rate comes
down to zero over them. A run has a core of its own, and as many run at a time as
there are cores. Run again, it goes on where it stopped.

python benchmarks/systems.py [--names points triplets ...] [--seeds 0 1 2] [--minutes 4]
"""

import contextlib
import json
import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import tyro

from cornerjax.commands.cli import run
from cornerjax.config import Config, load_recipe
from cornerjax.data.source import open_source
from cornerjax.detectors import get_detector
from cornerjax.detectors.base import make_network
from cornerjax.detectors.centernet_points.options import PointConfig, PointModel, PointTest
from cornerjax.detectors.centernet_triplets import TripletConfig, TripletModel, TripletTest
from cornerjax.evaluation.evaluator import Evaluator
from cornerjax.evaluation.of_run import evaluate_run
from cornerjax.evaluation.options import Options
from cornerjax.nn.backbones.resnet import ResNet
from cornerjax.training.loop import train
from cornerjax.validation import replaced

HOUSE = Path(__file__).parents[1]
PROBES = 40, 120  # steps of the two runs whose difference is the time of a step
COLUMNS = ("AP", "AP50", "AP75")


def systems() -> dict[str, Config]:
    """The configurations by name, all for the generated shapes."""
    cornernet = load_recipe(HOUSE / "configs" / "shapes.py")
    shared = {name: getattr(cornernet, name) for name in ("optim", "steps", "log_steps", "save_steps")}
    triplets = TripletConfig(
        model=TripletModel(backbone=cornernet.model.backbone, head_kernel=1, pool_dim=32),
        data=cornernet.data,
        loss=cornernet.loss,
        test=TripletTest(batch=40, top_k=30, max_pairs=50),
        **shared,
    )

    def points(backbone: object) -> PointConfig:
        data = {"gaussian_radius": "legacy", "gaussian_iou": 0.7, "crop_px": (128, 128)}
        return PointConfig(
            model=PointModel(backbone=backbone, head_dim=32),
            data=replaced(cornernet.data, data),
            test=PointTest(batch=40, top_k=30),
            **shared,
        )

    return {
        "CornerNet": cornernet,
        "triplets": triplets,
        "points": points(cornernet.model.backbone),
        "points ResNet": points(ResNet(width=16, up_dims=(64, 48, 32))),
        "points ResNet DCN": points(ResNet(width=16, up_dims=(64, 48, 32), deformable=True)),
    }


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def alone(core: int) -> None:
    os.sched_setaffinity(0, {core})


def trained(name: str, steps: int, seed: int, workdir: Path) -> dict[str, float]:
    """Train and evaluate in this process; what is there already is read.

    Returns: AP and the like, false discovery, and the CPU seconds of all of it.
    """
    kept = workdir / "study.json"
    if not kept.exists():
        changes = {"seed": seed, "steps": steps, "eval_steps": 0, "data.root": f"shapes:{seed}", "data.workers": 1}
        config = replaced(systems()[name], changes | {"optim.warmup_steps": min(400, steps // 8)})
        before = cpu_seconds()
        train(config, workdir)
        used = cpu_seconds() - before
        evaluate_run(Options(workdir=str(workdir), report_images=0, test=config.test))
        numbers = json.loads((workdir / "eval" / "metrics.json").read_text())
        chosen = {key: numbers[key] for key in COLUMNS} | {"FD": numbers["false_discovery"]["FD"], "cpu": used}
        kept.write_text(json.dumps(chosen))
    return json.loads(kept.read_text())


def _by(results: list[dict[str, float]], count: int) -> list[list[dict[str, float]]]:
    return [results[i : i + count] for i in range(0, len(results), count)]


def on_cores(tasks: Sequence[tuple]) -> list[dict[str, float]]:
    """What `trained` returns for each of the tasks, as many at a time as there are cores, each in a fresh process."""
    spawn, count = multiprocessing.get_context("spawn"), os.cpu_count() or 1
    with contextlib.ExitStack() as stack:
        pools = [
            stack.enter_context(ProcessPoolExecutor(1, spawn, alone, (core,), max_tasks_per_child=1))
            for core in range(count)
        ]
        waiting = [pools[i % count].submit(trained, *task) for i, task in enumerate(tasks)]
        return [one.result() for one in waiting]


def predicted(names: tuple[str, ...], rounds: int) -> dict[str, float]:
    """Images that each finds boxes in per second of CPU time, timed in turn."""
    alone(0)
    finders = {}
    for name in names:
        config = replaced(systems()[name], {"data.root": "shapes:0", "model.num_classes": 3})
        detector = get_detector(config.model.detector)
        apply, *weights = make_network(detector, config, 0)
        source = open_source(config.data, "val")
        finders[name] = partial(Evaluator(detector, apply, config, source).find, *weights)
    taken: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds + 1):
        for name, find in finders.items():
            begun = time.process_time()
            images = len(find())
            taken[name].append(images / (time.process_time() - begun))
    return {name: statistics.median(speeds[1:]) for name, speeds in taken.items()}


def main(
    names: tuple[str, ...] = tuple(systems()),
    seeds: tuple[int, ...] = (0, 1, 2),
    minutes: float = 4.0,
    rounds: int = 5,
    runs: Path = Path("runs/systems"),
) -> None:
    """Train and evaluate; see the top of the file.

    Args:
        names: of what is compared.
        seeds: of the data set, the weights and the order of the examples.
        minutes: of CPU time that the steps of each run get.
        rounds: times that prediction is timed.
        runs: where the runs are kept.
    """
    probes = on_cores([(name, steps, 0, runs / f"{name}-{steps}") for name in names for steps in PROBES])
    per_step = {
        name: (long["cpu"] - short["cpu"]) / (PROBES[1] - PROBES[0])
        for name, (short, long) in zip(names, _by(probes, 2), strict=True)
    }
    steps = {name: round(60 * minutes / seconds / 10) * 10 for name, seconds in per_step.items()}
    print(json.dumps(steps), flush=True)
    of_all = on_cores(
        [(name, steps[name], seed, runs / f"{name}-{minutes}-{seed}") for name in names for seed in seeds]
    )
    results = dict(zip(names, _by(of_all, len(seeds)), strict=True))
    speeds = predicted(names, rounds)
    print(f"{'':18s} {'steps':>6s} {'training':>9s} {'predicting':>11s}  AP of each seed")
    for name, of_seeds in results.items():
        batch = systems()[name].data.batch
        mean = {key: statistics.mean(one[key] for one in of_seeds) for key in (*COLUMNS, "FD")}
        print(
            f"{name:18s} {steps[name]:6.0f} {batch / per_step[name]:9.1f} {speeds[name]:11.1f}  "
            + " ".join(f"{one['AP']:.3f}" for one in of_seeds)
            + "  mean: "
            + " ".join(f"{key} {value:.3f}" for key, value in mean.items())
        )


if __name__ == "__main__":
    run(lambda: tyro.cli(main))
