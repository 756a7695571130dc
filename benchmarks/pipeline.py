"""What does a training example cost the host? Images/s of one and of several workers, both ways of rendering, in turn.

python benchmarks/pipeline.py [--root a/coco/folder] [--worker-kind thread] [--beside-training]
python benchmarks/pipeline.py --kills 20
"""

import contextlib
import dataclasses
import statistics
import tempfile
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import jax
import numpy as np
import tyro
from kills import kill_often
from photos import write_photos

from cornerjax.config import Data, load_recipe
from cornerjax.data.pipeline import make_batches
from cornerjax.data.records import Source
from cornerjax.data.source import open_source
from cornerjax.detectors import get_detector
from cornerjax.training.mesh import data_mesh
from cornerjax.training.setup import abstract_step
from cornerjax.validation import replaced

MODES = ("device", "host")
BATCH = 48  # as published
AHEAD = 4  # batches that may have been made before the clock starts


class Rate(NamedTuple):
    """Of one round."""

    images_s: float
    parent_ms: float  # CPU time of the training process, all its threads, an image


def main(
    root: str = "",
    split: str = "train",
    crop_px: int = 511,
    detector: Literal["cornernet", "cornernet_squeeze"] = "cornernet",
    classes: int = 80,
    workers: tuple[int, ...] = (1, 2),
    worker_kind: Literal["process", "thread"] = "process",
    beside_training: bool = False,
    rounds: int = 5,
    batches: int = 4,
    kills: int = 0,
) -> None:
    """Time every number of workers in turn, in both modes; medians are printed. Or see what is left of killed ones.

    Args:
        root: a COCO-format folder; empty: 640x480 JPEGs made for the purpose.
        split: of that folder.
        crop_px: side of a training example.
        detector: whose targets are made; the maps of CornerNet-Squeeze have a quarter of the cells.
        classes: heat maps a corner.
        workers: numbers to compare; the first is what the others are divided by.
        worker_kind: see data.worker_kind.
        beside_training: the step of the demo's recipe runs all the time in the training process.
        rounds: of each number and mode.
        batches: of 48 images, a round.
        kills: instead of measuring, kill as many processes that make batches with the largest number of workers, by
            SIGKILL, at random moments.
    """
    with tempfile.TemporaryDirectory() as made, contextlib.ExitStack() as stack:
        folder = root or write_photos(Path(made))
        if kills:
            kill_often(folder, max(workers), kills)
            return
        data = Data(root=folder, batch=BATCH, crop_px=(crop_px, crop_px), worker_kind=worker_kind)
        source = open_source(data, split)
        if beside_training:
            stack.enter_context(training())
        for mode in MODES:
            rates: dict[int, list[Rate]] = {count: [] for count in workers}
            for _ in range(rounds):
                for count in workers:
                    options = replaced(data, {"render": mode, "workers": count})
                    with contextlib.closing(batches_of(source, options, detector, classes)) as made_by_count:
                        rates[count].append(rate(made_by_count, batches))
            report(mode, rates)


def report(mode: str, rates: dict[int, list[Rate]]) -> None:
    """One line for each number of workers; ratios are those of the same round."""
    first = next(iter(rates.values()))
    for count, every in rates.items():
        images_s, parent_ms = (statistics.median(values) for values in zip(*every, strict=True))
        ratios = sorted(ours.images_s / theirs.images_s for ours, theirs in zip(every, first, strict=True))
        print(
            f"{mode:6} {count} workers {images_s:5.0f} images/s, ratio {statistics.median(ratios):.2f} "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f}); the training process {parent_ms:.3f} ms an image",
            flush=True,
        )


def batches_of(source: Source, data: Data, name: str, classes: int) -> Generator[dict[str, np.ndarray], None, None]:
    """Batches with the targets of a detector, in a process whose OpenCV has no threads, as in training."""
    cv2.setNumThreads(0)
    detector = get_detector(name)
    config = dataclasses.replace(replaced(detector.defaults, {"model.num_classes": classes}), data=data)
    return make_batches(source, config, encode=detector.encode, render=detector.render)


def rate(batches: Iterator[dict[str, np.ndarray]], count: int) -> Rate:
    """Images/s and this process's CPU time of `count` batches, after those that were made ahead."""
    for _ in range(AHEAD):
        next(batches)
    start, cpu = time.perf_counter(), time.process_time()
    for _ in range(count):
        next(batches)
    images = count * BATCH
    return Rate(images / (time.perf_counter() - start), 1000 * (time.process_time() - cpu) / images)


@contextlib.contextmanager
def training() -> Iterator[None]:
    """The demo's training step, over and over, in a thread; its CPU time counts as this process's."""
    config = replaced(load_recipe("configs/points_shapes.py"), {"model.num_classes": 3})
    step, state, batch = abstract_step(config, data_mesh())
    state, batch = jax.tree.map(lambda x: jax.device_put(np.zeros(x.shape, x.dtype), x.sharding), (state, batch))
    compiled, stop = step.lower(state, batch).compile(), threading.Event()

    def run() -> None:
        nonlocal state
        steps, start = 0, time.perf_counter()
        while not stop.is_set():
            state, losses = compiled(state, batch)
            jax.block_until_ready(losses)
            steps += 1
        print(f"beside it {steps / (time.perf_counter() - start):.2f} training steps/s")

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


if __name__ == "__main__":
    tyro.cli(main)
