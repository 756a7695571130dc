"""Which detector learns most in a few minutes? Each of them on generated shapes, with the same CPU time, several seeds.

The hourglass is that of configs/shapes.py for all that have one; the residual networks are narrow, too. How many steps
fit into the time is measured first, with everything that a step needs but without compiling; the learning rate comes
down to zero over them. A run has a core of its own, and as many run at a time as there are cores. Runs that are there
already, of as many minutes, are read.

python benchmarks/systems.py [--names points triplets ...] [--seeds 0 1 2] [--minutes 4]
"""

import contextlib
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import jax
import numpy as np
import tyro

from cornerjax.commands.cli import run
from cornerjax.config import Config, load_recipe
from cornerjax.data.pipeline import make_batches
from cornerjax.data.source import open_source
from cornerjax.detectors import get_detector
from cornerjax.detectors.base import make_network
from cornerjax.detectors.centernet_points.options import PointConfig, PointModel, PointTest
from cornerjax.detectors.centernet_triplets import TripletConfig, TripletModel, TripletTest
from cornerjax.evaluation.evaluator import Evaluator
from cornerjax.evaluation.of_run import evaluate_run
from cornerjax.evaluation.options import Options
from cornerjax.nn.backbones.resnet import ResNet
from cornerjax.training.loop import resolve, train
from cornerjax.training.mesh import data_mesh, to_devices
from cornerjax.training.optimiser import make_optimiser
from cornerjax.training.setup import network_of, start_state
from cornerjax.training.step import make_train_step
from cornerjax.validation import replaced

HOUSE = Path(__file__).parents[1]
STEPS = 10  # that are timed together
COLUMNS = ("AP", "AP50", "AP75")
R = TypeVar("R")


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


def alone(core: int) -> None:
    os.sched_setaffinity(0, {core})


def trained(name: str, steps: int, seed: int, workdir: Path) -> dict[str, float]:
    """Train and evaluate in this process, or read what is there already: AP and the like, and false discovery."""
    kept = workdir / "study.json"
    if not kept.exists():
        changes = {"seed": seed, "steps": steps, "eval_steps": 0, "data.root": f"shapes:{seed}", "data.workers": 1}
        config = replaced(systems()[name], changes | {"optim.warmup_steps": min(400, steps // 8)})
        train(config, workdir)
        evaluate_run(Options(workdir=str(workdir), report_images=0, test=config.test))
        numbers = json.loads((workdir / "eval" / "metrics.json").read_text())
        chosen = {key: numbers[key] for key in COLUMNS} | {"FD": numbers["false_discovery"]["FD"]}
        kept.write_text(json.dumps(chosen))
    return json.loads(kept.read_text())


def on_cores(task: Callable[..., R], arguments: Sequence[tuple]) -> list[R]:
    """What a task returns for each of its arguments: as many at a time as there are cores, each in a fresh process."""
    spawn, count = multiprocessing.get_context("spawn"), min(os.cpu_count() or 1, len(arguments))
    with contextlib.ExitStack() as stack:
        pools = [
            stack.enter_context(ProcessPoolExecutor(1, spawn, alone, (core,), max_tasks_per_child=1))
            for core in range(count)
        ]
        waiting = [pools[i % count].submit(task, *given) for i, given in enumerate(arguments)]
        return [one.result() for one in waiting]


def stepper(config: Config) -> Callable[[int], None]:
    """Does so many training steps, with all that they need; what is compiled is compiled here."""
    detector, mesh = get_detector(config.model.detector), data_mesh()
    source = open_source(config.data, config.data.train)
    config = resolve(config, source)
    tx = make_optimiser(config)
    apply, params, model_state = network_of(config, np.random.default_rng(0))
    state = start_state(params, model_state, tx, mesh, ema=False)
    functions = {"encode": detector.encode, "render": detector.render, "crop": detector.crop}
    batches = make_batches(source, config, **functions)

    def inputs() -> dict[str, jax.Array]:
        return to_devices({name: rows for name, rows in next(batches).items() if name != "image_id"}, mesh)

    compiled = make_train_step(detector, apply, tx, config, mesh).lower(state, inputs()).compile()

    def go(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            state, losses = compiled(state, inputs())
            jax.block_until_ready(losses)

    return go


def seconds_a_step(names: tuple[str, ...], rounds: int) -> dict[str, float]:
    """CPU time of a training step of each, timed in turn."""
    steppers = {name: stepper(replaced(systems()[name], {"data.workers": 1})) for name in names}
    taken: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds + 1):
        for name, go in steppers.items():
            begun = time.process_time()
            go(STEPS)
            taken[name].append((time.process_time() - begun) / STEPS)
    return {name: statistics.median(seconds[1:]) for name, seconds in taken.items()}


def predicted(names: tuple[str, ...], rounds: int) -> dict[str, float]:
    """Images that each finds boxes in per second of CPU time, timed in turn."""
    finders = {}
    for name in names:
        config = replaced(systems()[name], {"data.root": "shapes:0", "model.num_classes": 3})
        detector = get_detector(config.model.detector)
        apply, *weights = make_network(detector, config, np.random.default_rng(0))
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
    (per_step,), (speeds,) = (on_cores(task, [(names, rounds)]) for task in (seconds_a_step, predicted))
    steps = {name: round(60 * minutes / seconds / 10) * 10 for name, seconds in per_step.items()}
    print(json.dumps(steps), flush=True)
    runs_of = [(name, steps[name], seed, runs / f"{name}-{minutes}-{seed}") for name in names for seed in seeds]
    of_all = on_cores(trained, runs_of)
    results = {name: of_all[i * len(seeds) : (i + 1) * len(seeds)] for i, name in enumerate(names)}
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
