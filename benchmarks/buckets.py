"""Are images of a bucket faster together than one at a time, are the boxes the same, and is anything compiled again?

Network, decoding and non-maximum suppression of images in memory, of five sizes and their buckets: batched by bucket
and one at a time, in turn in one process; images are generated shapes, resized. By default all batches are full; other
counts show what rows without an image cost. Without a run, the network of the shapes recipe with first weights.

python benchmarks/buckets.py [runs/shapes] [--counts 13 13 13 13 12] [--batch 4]
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import jax
import numpy as np
import tyro
from compilations import Compilations

import cornerjax
from cornerjax.commands.cli import run
from cornerjax.config import load_recipe
from cornerjax.data.records import read_image
from cornerjax.data.source import open_source
from cornerjax.detectors.base import TestProcedure, make_network
from cornerjax.inference.batching import BatchPredictor
from cornerjax.inference.predictor import Predictor
from cornerjax.validation import replaced

RECIPE = Path(__file__).parents[1] / "configs" / "shapes.py"
SIZES = ((96, 120), (127, 200), (200, 120), (220, 240), (255, 255))  # height, width; the last two share a bucket
Boxes = np.ndarray  # (n, 6): x1 y1 x2 y2 score class


def untrained() -> Predictor:
    """The shapes recipe's network with first weights."""
    config = load_recipe(RECIPE)
    names = open_source(config.data, config.data.val).class_names
    config = replaced(config, {"model.num_classes": len(names)})
    detector = cornerjax.DETECTORS[config.model.detector]
    return Predictor(detector, *make_network(detector, config, np.random.default_rng(0)), config, names)


def pictures(counts: tuple[int, ...]) -> list[np.ndarray]:
    """Validation images of the generated shapes, so many of each of SIZES."""
    data = load_recipe(RECIPE).data
    sizes = [size for size, count in zip(SIZES, counts, strict=True) for _ in range(count)]
    records = open_source(data, data.val).records
    return [cv2.resize(read_image(record), size[::-1]) for record, size in zip(records, sizes, strict=False)]


def batched(procedure: TestProcedure, plan: Sequence[Any], weights: Any, images: list[np.ndarray]) -> list[Boxes]:
    found = [procedure(*weights, [procedure.preprocess(images[i]) for i in b.indices], b.bucket, b.rows) for b in plan]
    boxes: list[Boxes] = [np.zeros((0, 6))] * len(images)
    for batch, of_batch in zip(plan, jax.device_get(found), strict=True):
        for row, i in enumerate(batch.indices):
            boxes[i] = rows_of(of_batch, row)
    return boxes


def one_by_one(procedure: TestProcedure, _: Any, weights: Any, images: list[np.ndarray]) -> list[Boxes]:
    preprocessed = [(procedure.preprocess(image), procedure.bucket(*image.shape[:2])) for image in images]
    found = [procedure(*weights, [image], bucket, 1) for image, bucket in preprocessed]
    return [rows_of(of_image, 0) for of_image in jax.device_get(found)]


def rows_of(found: Any, row: int) -> Boxes:
    """The boxes in one row of what a test procedure found."""
    table = np.column_stack([found.boxes[row], found.scores[row], found.classes[row]])
    return table[found.scores[row] >= 0]


def compare(ours: list[Boxes], theirs: list[Boxes]) -> str:
    """How far the boxes of the same images are apart; each is compared with the one most like it of its class."""
    pixels, scores, lone = 0.0, 0.0, 0
    for a, b in zip(ours, theirs, strict=True):
        lone += abs(len(a) - len(b))
        for box in a:
            same = b[b[:, 5] == box[5]]
            if not len(same):
                lone += 1
                continue
            nearest = same[abs(same[:, :5] - box[:5]).max(1).argmin()]
            pixels, scores = max(pixels, abs(nearest[:4] - box[:4]).max()), max(scores, abs(nearest[4] - box[4]))
    total = sum(map(len, ours))
    return f"{total} boxes, {lone} without a counterpart; farthest apart {pixels:.1e} px, scores {scores:.1e}"


def main(
    workdir: tyro.conf.Positional[Path | None] = None,
    counts: tuple[int, int, int, int, int] = (16, 16, 16, 8, 8),
    batch: int = 16,
    rounds: int = 7,
) -> None:
    """Measure; see the top of the file.

    Args:
        workdir: of a run.
        counts: images of each size.
        batch: images taken together at most.
        rounds: of which the median is taken.
    """
    compilations = Compilations()
    predictor = cornerjax.load(workdir) if workdir else untrained()
    config = replaced(predictor.config, {"test.batch": batch})
    batches = BatchPredictor(predictor.detector, predictor.apply, config, predictor.class_names)
    images = pictures(counts)
    plan = batches.plan([image.shape[:2] for image in images])
    print(f"{len(images)} images in {sum(of.rows for of in plan)} rows of {len(plan)} batches")
    ways = [partial(way, batches.procedure, plan, predictor.weights, images) for way in (batched, one_by_one)]

    before = compilations.count
    found = [way() for way in ways]
    warm = compilations.count
    print(f"{warm - before} compilations in the first pass of both")
    print(compare(*found))
    times = np.array([[seconds(way) for way in ways] for _ in range(rounds)])
    print(f"{compilations.count - warm} compilations in {2 * rounds} more passes")
    together, alone = len(images) / np.median(times, axis=0)
    ratios = times[:, 1] / times[:, 0]
    print(
        f"batched {together:.1f} images/s, one at a time {alone:.1f}: "
        f"{np.median(ratios):.2f} x ({ratios.min():.2f} to {ratios.max():.2f})"
    )


def seconds(way: Callable[[], Any]) -> float:
    start = time.perf_counter()
    way()
    return time.perf_counter() - start


if __name__ == "__main__":
    run(lambda: tyro.cli(main))
