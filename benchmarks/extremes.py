"""What do ExtremeNet's edge aggregation and its grouping of extreme points cost, and what memory do they need?

Every form of the aggregation is timed in turn with a plain copy of the map, and every form of the grouping in turn with
the one that looks at all K^4 quadruples; each time is divided by that of the other in the same round.

python benchmarks/extremes.py [--rounds 7] [--top-k 40]
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from cornerjax.ops.edges import RISING_SUMS, aggregate_edges
from cornerjax.ops.quadruples import BLOCK, Points, all_scores, group_as_pytorch, group_quadruples

MAP = (1, 128, 192, 80)
IMAGES = 4
OPTIONS = {"num": 1000, "floor": 0.1, "centre_floor": 0.1}


def every_quadruple(points: tuple[Points, ...], heat: Array) -> tuple[Array, Array]:
    """The original's form: arrays of K^4 elements, image after image."""

    def of_image(given: tuple) -> tuple[Array, Array]:
        scores = all_scores(*given, floor=OPTIONS["floor"], centre_floor=OPTIONS["centre_floor"])
        values, places = lax.top_k(scores.reshape(-1), OPTIONS["num"])
        return values, places

    return lax.map(of_image, (points, heat))


def drawn(k: int, classes: int) -> tuple[tuple[Points, ...], Array]:
    rng = np.random.default_rng(0)

    def kind() -> Points:
        cells = np.stack([rng.integers(0, side, (IMAGES, k)) for side in (192, 128)], -1).astype(np.int32)
        scores = np.sort(rng.random((IMAGES, k), np.float32))[:, ::-1]
        return Points(*map(jnp.asarray, (cells, scores, rng.integers(0, classes, (IMAGES, k)).astype(np.int32))))

    heat = rng.standard_normal((IMAGES, *MAP[1:3], classes)).astype(np.float32)
    return tuple(kind() for _ in range(4)), jnp.asarray(heat)


def ratios(forms: dict[str, Callable], given: tuple, rounds: int) -> dict[str, tuple[float, float, float]]:
    """Of each form the median time as a multiple of the first one's, its milliseconds, and its memory in MB."""
    compiled = {name: jax.jit(form).lower(*given).compile() for name, form in forms.items()}
    taken: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(rounds + 1):
        for name, run in compiled.items():
            begun = time.perf_counter()
            jax.block_until_ready(run(*given))
            taken[name].append(time.perf_counter() - begun)
    first = taken[next(iter(forms))][1:]
    return {
        name: (
            statistics.median(a / b for a, b in zip(times[1:], first, strict=True)),
            1000 * statistics.median(times[1:]),
            compiled[name].memory_analysis().temp_size_in_bytes / 1e6,
        )
        for name, times in taken.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--top-k", type=int, default=40)
    options = parser.parse_args()
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}")
    x = jnp.asarray(np.random.default_rng(0).random(MAP, np.float32))
    forms: dict[str, Callable] = {"copy": lambda x: x + 1}
    for axis, name in ((1, "columns"), (2, "rows")):
        for how in RISING_SUMS:
            forms[f"{how}, {name}"] = functools.partial(aggregate_edges, axis=axis, implementation=how)
    print(f"\nedge aggregation of {MAP}, times a copy; memory in MB, the map has {x.nbytes / 1e6:.1f}")
    for name, (ratio, ms, mb) in ratios(forms, (x,), options.rounds).items():
        print(f"{name:20s} {ratio:7.1f} {ms:9.1f} ms {mb:9.1f} MB")
    k = options.top_k
    print(f"\ngrouping {k}^4 quadruples in {IMAGES} images, times that of looking at all of them")
    for classes in (80, 20, 3, 1):
        every = {"all quadruples": every_quadruple}
        every["blocks"] = functools.partial(group_quadruples, block=BLOCK, **OPTIONS)
        every["pairs at once"] = functools.partial(group_quadruples, block=k**4, **OPTIONS)
        every["as PyTorch"] = functools.partial(group_as_pytorch, **OPTIONS)
        for name, (ratio, ms, mb) in ratios(every, drawn(k, classes), options.rounds).items():
            print(f"{classes:3d} classes, {name:15s} {ratio:7.3f} {ms / IMAGES:9.2f} ms an image {mb:9.1f} MB")


if __name__ == "__main__":
    main()
