"""What does a training example cost the host? Images/s per core of data.render "host" and "device", side by side.

python benchmarks/pipeline.py [--root a/coco/folder]
"""

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import tyro
from photos import write_photos

from cornerjax.config import Data
from cornerjax.data.pipeline import make_batches
from cornerjax.data.records import Source
from cornerjax.data.source import open_source
from cornerjax.detectors import get_detector
from cornerjax.validation import replaced

MODES = ("host", "device")
BATCH = 16


def main(
    root: str = "",
    split: str = "train",
    crop_px: int = 511,
    detector: Literal["cornernet", "cornernet_squeeze"] = "cornernet",
    classes: int = 80,
    rounds: int = 7,
) -> None:
    """Time both modes in turns, with one worker; the CPU time of all threads counts.

    Args:
        root: a COCO-format folder; empty: 640x480 JPEGs made for the purpose.
        split: of that folder.
        crop_px: side of a training example.
        detector: whose targets are made; the maps of CornerNet-Squeeze have a quarter of the cells.
        classes: heat maps a corner.
        rounds: rounds of 4 batches of each mode; medians are printed.
    """
    with tempfile.TemporaryDirectory() as made:
        data = Data(root=root or write_photos(Path(made)), batch=BATCH, crop_px=(crop_px, crop_px), workers=1)
        source = open_source(data, split)
        batches = {mode: batches_of(source, replaced(data, {"render": mode}), detector, classes) for mode in MODES}
        megabytes = {mode: sum(v.nbytes for v in next(batches[mode]).values()) / BATCH / 1e6 for mode in MODES}
        seconds: dict[str, list[float]] = {mode: [] for mode in MODES}
        for _ in range(rounds):
            for mode in MODES:
                seconds[mode].append(cpu_seconds(batches[mode], 4) / (4 * BATCH))
        for iterator in batches.values():
            iterator.close()
    rates = {mode: 1 / statistics.median(seconds[mode]) for mode in MODES}
    for mode in MODES:
        low, high = 1 / max(seconds[mode]), 1 / min(seconds[mode])
        speed = f"{rates[mode]:5.0f} images/s per core ({low:.0f} to {high:.0f})"
        print(f"{mode:6} {speed}, {megabytes[mode]:5.2f} MB an image")
    print(f"device / host {rates['device'] / rates['host']:.2f}")


def batches_of(source: Source, data: Data, name: str, classes: int) -> Generator[dict[str, np.ndarray], None, None]:
    """Batches with the targets of a detector, in a process whose OpenCV has no threads, as in training."""
    cv2.setNumThreads(0)
    detector = get_detector(name)
    config = dataclasses.replace(replaced(detector.defaults, {"model.num_classes": classes}), data=data)
    return make_batches(source, config, encode=detector.encode, render=detector.render)


def cpu_seconds(batches: Iterator, count: int) -> float:
    """CPU time of making `count` batches: the buffer of batches made ahead is full before and after."""
    wait_for_quiet()
    start = time.process_time()
    for _ in range(count):
        next(batches)
    wait_for_quiet()
    return time.process_time() - start


def wait_for_quiet() -> None:
    """Until no thread of this process works any more."""
    last = -1.0
    while time.process_time() - last > 0.01:
        last = time.process_time()
        time.sleep(0.2)


if __name__ == "__main__":
    tyro.cli(main)
