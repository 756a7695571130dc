"""What does a training example cost the host? Images/s per core of data.render "host" and "device", side by side.

python benchmarks/pipeline.py [--root a/coco/folder]
"""

import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import tyro

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


def write_photos(folder: Path, count: int = 64) -> str:
    """A COCO-format folder of 640x480 JPEGs of the size that COCO's have, about 150 KB, with 7 boxes each."""
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(1, count + 1):
        photo = np.zeros((480, 640, 3), np.float32)
        for octave in range(3, 10):  # about the spectrum of photos: each finer layer is weaker
            layer = rng.standard_normal((2**octave * 3 // 4, 2**octave, 3)).astype(np.float32)
            photo += cv2.resize(layer, (640, 480), interpolation=cv2.INTER_CUBIC) * 90 / 1.5 ** (octave - 3)
        cv2.imwrite(
            str(folder / f"{i}.jpg"), np.clip(photo + 128, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 90]
        )
        images.append({"id": i, "file_name": f"{i}.jpg", "height": 480, "width": 640})
        for _ in range(7):
            width, height = (float(side) for side in rng.uniform(20, 250, 2))
            box = [float(rng.uniform(0, 640 - width)), float(rng.uniform(0, 480 - height)), width, height]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": i, "category_id": int(rng.integers(1, 81)), "bbox": box}
            )
    categories = [{"id": i, "name": str(i)} for i in range(1, 81)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "train.json").write_text(json.dumps(content))
    print(f"{count} photos of {sum(p.stat().st_size for p in folder.glob('*.jpg')) / count / 1000:.0f} KB")
    return str(folder)


if __name__ == "__main__":
    tyro.cli(main)
