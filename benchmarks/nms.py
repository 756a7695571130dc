"""What does non-maximum suppression of an image cost on one core? The clean form and that of released weights, in turn.

python benchmarks/nms.py
"""

import os

if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before JAX counts the cores

import statistics
import time
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from cornerjax.ops import soft_nms, soft_nms_in_place

WANTED = 100  # boxes an image


def main(
    candidates: tuple[int, ...] = (1000, 2000, 10_000), classes: tuple[int, ...] = (80, 1), rounds: int = 7
) -> None:
    """Time all forms in turn; medians of CPU time are printed.

    Args:
        candidates: numbers of boxes before suppression; 10,000 are those of five scales, mirrored.
        classes: over which they are spread.
    """
    for count in candidates:
        for number in classes:
            boxes = candidates_of(count, number)
            times = medians({name: form.lower(*boxes).compile() for name, form in forms().items()}, boxes, rounds)
            line = ", ".join(f"{name} {seconds * 1000:.1f} ms" for name, seconds in times.items())
            print(f"{count:6} boxes, {number:2} classes: {line}", flush=True)


def forms() -> dict[str, jax.stages.Wrapped]:
    """Functions of boxes, scores, classes and the scores of the boxes' corners."""

    def clean(boxes: jax.Array, scores: jax.Array, classes: jax.Array, corners: jax.Array) -> object:
        return soft_nms(boxes, scores, classes, num=WANTED)

    return {
        "clean": jax.jit(clean),
        "released": jax.jit(partial(soft_nms_in_place, num=WANTED)),
        "released, whole buffer": jax.jit(soft_nms_in_place),
    }


def candidates_of(count: int, classes: int) -> tuple[jax.Array, ...]:
    """Boxes as detectors give them: several for each of some fifty objects, most of low scores."""
    rng = np.random.default_rng(0)
    objects = rng.integers(0, 50, count)
    places, sides = rng.uniform(0, 400, (50, 2)), rng.uniform(20, 200, (50, 2))
    first = places[objects] + rng.normal(0, 5, (count, 2))
    boxes = np.concatenate([first, first + sides[objects] + rng.normal(0, 5, (count, 2))], 1).astype(np.float32)
    scores = (rng.random(count) ** 4).astype(np.float32)
    labels = (objects % classes).astype(np.int32)
    return tuple(map(jnp.asarray, (boxes, scores, labels, rng.random((count, 2)).astype(np.float32))))


def medians(compiled: dict[str, Callable], boxes: tuple[jax.Array, ...], rounds: int) -> dict[str, float]:
    """CPU seconds of a call of each, taken in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in compiled}
    for _ in range(rounds):
        for name, function in compiled.items():
            start = time.process_time()
            jax.block_until_ready(function(*boxes))
            seconds[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


if __name__ == "__main__":
    tyro.cli(main)
