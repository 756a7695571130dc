"""Input: training examples a second of so many processes that read, decode and crop JPEGs."""

import functools
import multiprocessing
import os
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from on_accelerator.bench import Bench
from photos import write_photos

from cornerjax.config import Config, Data
from cornerjax.data import order
from cornerjax.data.coco import open_coco
from cornerjax.data.crop import as_arrays, crop_at
from cornerjax.data.records import Source, read_image
from cornerjax.keypoints import Keypoint
from cornerjax.ops.pixels import finish_image
from cornerjax.targets import encode_keypoints, render_keypoints

KEYPOINTS = (
    Keypoint("tl", "top-left corner", lambda objects: objects["boxes"][:, :2]),
    Keypoint("br", "bottom-right corner", lambda objects: objects["boxes"][:, 2:]),
)
CLASSES = 80


def measure(bench: Bench) -> None:
    """As many workers as cores at most; "host" where the device has nothing to do but train."""
    cores = len(os.sched_getaffinity(0))
    counts = [1] if bench.small else sorted({1, *(count for count in (2, 4, 8) if count < cores), cores})
    with tempfile.TemporaryDirectory() as made:
        root = write_photos(Path(made), 4 if bench.small else 64)
        for render in ("device", "host"):
            alone = []
            for workers in counts:
                row = {"render": render, "workers": workers}
                bench.add(row, lambda row=row, alone=alone: measured(root, bench.small, alone, **row))


def measured(root: str, small: bool, alone: list[float], *, render: str, workers: int) -> dict[str, float]:
    speed = measure_input(root, render, workers, examples=4 if small else 64, rounds=1 if small else 3)
    alone.append(speed)
    return {"images/s": speed, "images/s a worker": speed / workers, "to one": speed / alone[0]}


def measure_input(root: str, render: str, workers: int, *, examples: int, rounds: int) -> float:
    """Training examples a second of so many processes together; each keeps what it makes.

    Args:
        root: a COCO-format folder.
        render: see Data.
        examples: that a worker makes in a round.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn) as pool:
        list(pool.map(make_examples, [(root, render, i, 1) for i in range(workers)]))  # all have begun
        speeds = []
        for i in range(rounds):
            begun, count = time.perf_counter(), examples // 4
            parts = [(root, render, (i * workers + j) * count, count) for j in range(4 * workers)]
            made = sum(pool.map(make_examples, parts))
            speeds.append(made / (time.perf_counter() - begun))
    return statistics.median(speeds)


def make_examples(part: tuple[str, str, int, int]) -> int:
    """Make so many examples from a position on, and drop them."""
    root, render, first, count = part
    config, source = opened(root, render)
    for position in range(first, first + count):
        make_example(source, config, position)
    return count


@functools.cache
def opened(root: str, render: Literal["host", "device"]) -> tuple[Config, Source]:
    """What a worker knows from its first example on."""
    cv2.setNumThreads(0)
    config = Config(data=Data(root=root, render=render))
    return config, open_coco(config.data, "train")


def make_example(source: Source, config: Config, position: int) -> dict[str, np.ndarray]:
    """What data.pipeline.make_example does for CornerNet; that module needs TensorFlow."""
    record = source.records[order.image_index(position, seed=config.seed, num_images=len(source.records))]
    draws, image, objects = crop_at(position, record, read_image(record), config)
    data, map_size = config.data, tuple(-(-side // 4) for side in config.data.crop_px)
    options = {"map_size": map_size, "crop_px": data.crop_px, "max_objects": data.max_objects, "iou": data.gaussian_iou}
    encoded = encode_keypoints(objects, KEYPOINTS, **options)
    if data.render == "device":
        return encoded | as_arrays(draws) | {"image": image}
    heats = render_keypoints(encoded, KEYPOINTS, num_classes=CLASSES, map_size=map_size, xp=np)
    finished = finish_image(image, draws.flip, draws.jitter_order, draws.jitter, draws.lighting, np)
    return encoded | heats | {"image": finished}
