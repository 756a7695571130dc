"""A check of an op: what is computed on the device, and how far it is from what it should be."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from on_accelerator.bench import Bench, Row


class Check(NamedTuple):
    """One line of the table of ops."""

    op: str
    variant: str
    run: Callable[..., Any]  # compiled for the device
    given: tuple[Any, ...]
    error: Callable[[Any], float]  # of what run gives
    limit: float  # largest error


def run_all(bench: Bench, checks: Iterable[Check]) -> None:
    """Compile them together and check each as soon as it can be."""
    checks = list(checks)

    def compiled(check: Check) -> Any:
        return jax.jit(check.run).lower(*check.given).compile()

    programs = bench.together({i: partial(compiled, check) for i, check in enumerate(checks)}, quiet=False)
    for i, check in enumerate(checks):

        def measured(i: int = i, check: Check = check) -> Row:
            error = check.error(jax.device_get(programs[i]()(*check.given)))
            return {"error": error, "limit": check.limit, "ok": bool(error <= check.limit)}

        bench.add({"op": check.op, "variant": check.variant}, measured)


def near(expected: Any) -> Callable[[Any], float]:
    """The largest difference from a tree of arrays."""
    return lambda found: largest_difference(found, expected)


def largest_difference(found: Any, expected: Any) -> float:
    """Over all arrays of two trees; where both have the same infinity there is none, NaN is infinitely far."""
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    return max(_difference(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in pairs)


def _difference(found: np.ndarray, expected: np.ndarray) -> float:
    if found.shape != expected.shape:
        raise ValueError(f"the shape is {found.shape}, expected {expected.shape}")
    with np.errstate(invalid="ignore"):
        off = np.where(found == expected, 0, np.abs(found - expected))
    return float(np.nan_to_num(off, nan=np.inf).max(initial=0))
