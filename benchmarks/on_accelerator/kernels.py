"""Every implementation of the pools on the device against NumPy, values and gradients, to the bit."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from on_accelerator import references
from on_accelerator.bench import Bench
from on_accelerator.checking import Check, near, run_all

from cornerjax.ops.pools import CORNERS, SCANS, corner_pool
from cornerjax.ops.running_max import runnable, running_max


def measure(bench: Bench) -> None:
    """Kernels of our own come last: one that is wrong may take what comes after it with it."""
    here = [name for name in runnable() if jax.default_backend() != "cpu" or name != "pallas"]  # interpreted there
    kernels = [name for name in here if name.startswith("pallas")]
    run_all(
        bench, checks(bench.small, ["auto", "scan"] if bench.small else [name for name in here if name not in kernels])
    )
    run_all(bench, checks(bench.small, kernels))


def checks(small: bool, implementations: list[str]) -> Iterator[Check]:
    """Values and gradients of all four pools and both corners, on maps with ties; gradients that any type can hold."""
    rng = np.random.default_rng(0)
    for shape in ((2, 9, 7, 5),) if small else ((1, 33, 70, 130), (2, 128, 128, 128)):
        xs = [np.round(rng.standard_normal(shape), 1).astype(np.float32) for _ in range(2)]
        g = rng.integers(-4, 5, shape).astype(np.float32)
        for dtype in ("float32", "bfloat16"):
            typed = [np.asarray(jnp.asarray(x, dtype), np.float32) for x in xs]
            made = {way: references.pool_with_gradient(typed, g, way) for way in (*SCANS, *CORNERS)}
            expected = jax.tree.map(lambda x, dtype=dtype: np.asarray(jnp.asarray(x, dtype), np.float32), made)
            given = tuple(jnp.asarray(x, dtype) for x in (*xs, g))
            for name in implementations:
                variant = f"{dtype}, {'x'.join(map(str, shape))}"
                yield Check(f"pools, {name}", variant, partial(all_pools, name), given, near(expected), 0.0)


def all_pools(implementation: str, x1: jax.Array, x2: jax.Array, g: jax.Array) -> dict[str, Any]:
    """Of every direction and corner the pooled map and the gradients for the maps."""
    found = {}
    for way in (*SCANS, *CORNERS):
        if way in SCANS:
            pool, maps = partial(running_max, axis=SCANS[way][0], reverse=SCANS[way][1]), (x1,)
        else:
            pool, maps = partial(corner_pool, corner=way), (x1, x2)
        y, pull = jax.vjp(partial(pool, implementation=implementation), *maps)
        found[way] = (y, pull(g))
    return found
