"""Corner pooling against a plain copy of the same map: every implementation, forward and with its gradient."""

import statistics
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from corner_pool import maps_of, pooling
from on_accelerator.bench import Bench, Row, failure, in_turn, ratio

from cornerjax.ops import runnable

SETS = (
    8  # maps that a call works on, one after the other: what they need waits in no cache, and calls are not in the way
)
COPY = ("copy", "")
MODES = {"forward": 1, "with gradient": 2}  # and their passes, each over the maps that are pooled and the result
Key = tuple[str, str]  # implementation, mode


def measure(bench: Bench) -> None:
    shape = (1, 8, 8, 8) if bench.small else (8, 128, 128, 128)
    names = [name for name in runnable() if jax.default_backend() != "cpu" or name != "pallas"]
    names = ["auto", "scan"] if bench.small else sorted(names, key=lambda name: name.startswith("pallas"))
    for direction in ("tl",) if bench.small else ("tl", "top", "left"):
        for dtype in ("bfloat16", "float32"):
            compare(bench, shape, dtype, direction, names)


def compare(bench: Bench, shape: tuple[int, ...], dtype: str, direction: str, names: list[str]) -> None:
    """Time the copy and all implementations in turn."""
    keys = jax.random.split(jax.random.key(0), SETS)
    sets = [tuple(jax.random.normal(key, (maps_of(direction) + 1, *shape)).astype(dtype)) for key in keys]
    tasks: dict[Key, Callable[[], Any]] = {COPY: lambda: compiled(sets, lambda maps: -maps[0])}
    for name in names:
        for mode in MODES:
            tasks[name, mode] = partial(compiled, sets, partial(pooled, name, mode, direction))
    rows = {name: {"map": f"{'x'.join(map(str, shape))} {dtype}", "pool": direction, "how": name} for name in names}
    runs: dict[Key, Callable[[], Any]] = {}
    for key, made in bench.together(tasks).items():
        try:
            run = partial(made(), sets)
            jax.block_until_ready(run())
            runs[key] = run
        except Exception as error:
            rows[key[0]]["note"] = failure(error)
    rounds, calls = (1, 1) if bench.small else (11, 3)
    seconds = {key: [one / SETS for one in taken] for key, taken in in_turn(runs, rounds, calls).items()}
    copy = seconds.pop(COPY)
    least = (maps_of(direction) + 1) * sets[0][0].nbytes  # to read and to write in each pass
    bench.add(
        next(iter(rows.values())) | {"pool": "", "how": "copy"} | speed("forward", copy, copy, sets[0][0].nbytes * 2)
    )
    for (name, mode), taken in seconds.items():
        rows[name] |= speed(mode, taken, copy, least * MODES[mode])
    for row in rows.values():
        bench.add(row)


def compiled(sets: list, function: Callable[[tuple], Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Triton announces its end
        return jax.jit(lambda sets: [function(maps) for maps in sets]).lower(sets).compile()


def pooled(name: str, mode: str, direction: str, maps: tuple[jax.Array, ...]) -> Any:
    """The pooled map, or that and the gradients for its maps given that of the last one."""
    *xs, g = maps
    if mode == "forward":
        return pooling(name, direction)(*xs)
    y, pull = jax.vjp(pooling(name, direction), *xs)
    return y, pull(g)


def speed(mode: str, seconds: list[float], copy: list[float], least: int) -> Row:
    """Args: least: bytes that must be moved."""
    median = statistics.median(seconds)
    return {
        f"{mode} us": 1e6 * median,
        f"{mode} to copy": ratio(seconds, copy),
        f"{mode} GB/s": least / median / 1e9,
    }
