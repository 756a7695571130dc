"""Prediction: images a second from arrays of pixels to boxes, with all that the host does for them."""

import collections
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from on_accelerator.bench import Bench, Row, in_turn
from on_accelerator.networks import TINY, recipe, weights

from cornerjax.detectors import get_detector
from cornerjax.detectors.base import make_network
from cornerjax.inference.batching import BatchPredictor
from cornerjax.validation import replaced

RECIPES = (
    "cornernet_squeeze",
    "centernet_points_dla34",
    "cornernet",
    "centernet_points_resnet18",
    "cornernet_saccade",
    "extremenet",
    "centernet_triplets",
    "centernet_points_resdcn18",
    "centernet_points_hourglass",
)


class Case(NamedTuple):
    """A line of the table."""

    recipe: str
    batch: int
    dtype: str = "float32"


def cases(small: bool) -> Iterator[Case]:
    if small:
        yield from (Case(name, 2) for name in TINY)
        return
    for batch, dtype in ((16, "float32"), (1, "float32"), (16, "bfloat16"), (64, "bfloat16")):
        for name in RECIPES:
            yield Case(name, batch, dtype)


def measure(bench: Bench) -> None:
    """Some are compiled at the same time, by predicting once; then they are timed one after the other."""
    for some in bench.waves(list(cases(bench.small)), max(2, bench.cores // 4)):
        finders = bench.together({case: partial(predictor, case, bench.small) for case in some})
        for case in some:
            bench.add(case._asdict(), lambda case=case, find=finders[case]: run(case, find(), bench.small))


def predictor(case: Case, small: bool) -> Callable[[], Any]:
    """Finds the boxes in three batches of images that are in memory; has done so once."""
    side = (48, 60) if small else (480, 640)
    config = recipe(case.recipe, small=small, dtype=case.dtype)
    config = replaced(config, {"test": {"batch": case.batch, "scales": (1.0,), "flip": False}})
    if hasattr(config.test, "saccade"):  # untrained, it would crop nothing: now it crops as much as it may
        config = replaced(config, {"test.saccade.attention": (0.01,)})
    apply, *_ = make_network(get_detector(config.model.detector), config, None)
    found = BatchPredictor(get_detector(config.model.detector), apply, config, ())
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*side, 3), np.uint8) for _ in range(3 * case.batch)]
    trees = jax.device_put(weights(case.recipe, small))
    batches = found.plan([side] * len(images))

    def go() -> None:
        collections.deque(found(*trees, batches, images.__getitem__), maxlen=0)

    go()
    return go


def run(case: Case, go: Callable[[], Any], small: bool) -> Row:
    seconds = statistics.median(in_turn({case: go}, rounds=1 if small else 3)[case]) / (3 * case.batch)
    return {"images/s": 1 / seconds, "ms an image": 1e3 * seconds}
