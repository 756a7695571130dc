"""Corner pooling against a plain copy of the same map: every implementation, forward and with its gradient."""

import statistics
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
from corner_pool import maps_of, pooling
from on_accelerator.bench import Bench, Row, failure, in_turn, ratio

from cornerjax.ops import runnable

SETS = 8  # of maps; a call works on one after the other, so that no cache holds them and calling costs little beside
COPY = ("copy", "")
MODES = {"forward": 1, "with gradient": 2}  # and their passes, each over the maps that are pooled and the result
Key = tuple[str, str]  # implementation, mode


class Case(NamedTuple):
    """What is timed in turn: one type, one pool, some implementations."""

    dtype: str
    pool: str
    how: str  # names, between commas


def cases(small: bool) -> Iterator[Case]:
    """Kernels of our own by themselves, as one that fails may take what comes after it with it."""
    here = [name for name in runnable() if jax.default_backend() != "cpu" or name != "pallas"]  # interpreted there
    kernels = [name for name in here if name.startswith("pallas")]
    others = ["auto", "scan"] if small else [name for name in here if name not in kernels]
    for pool in ("tl",) if small else ("tl", "top", "left"):
        for names in (others, kernels):
            yield from (Case(dtype, pool, ", ".join(names)) for dtype in ("bfloat16", "float32") if names)


def measure(bench: Bench) -> None:
    for (case,) in bench.waves(list(cases(bench.small)), 1):
        try:
            rows = compared(bench, case)
        except Exception as error:
            bench.failed(case._asdict(), error)
            continue
        for row in rows:
            bench.send(row)


def compared(bench: Bench, case: Case) -> list[Row]:
    """A row of the copy, and one of each implementation."""
    shape, maps, names = (1, 8, 8, 8) if bench.small else (8, 128, 128, 128), maps_of(case.pool), case.how.split(", ")
    keys = jax.random.split(jax.random.key(0), 1 if bench.small else SETS)
    sets = [tuple(jax.random.normal(key, (maps + 1, *shape)).astype(case.dtype)) for key in keys]
    tasks: dict[Key, Callable[[], Any]] = {COPY: lambda: compiled(sets, lambda maps: -maps[0])}
    for name in names:
        tasks |= {(name, mode): partial(compiled, sets, partial(pooled, name, mode, case.pool)) for mode in MODES}
    rows: dict[str, Row] = {name: case._asdict() | {"how": name} for name in ("copy", *names)}
    runs: dict[Key, Callable[[], Any]] = {}
    for (name, mode), made in bench.together(tasks).items():
        try:
            run = partial(made(), sets)
            jax.block_until_ready(run())
            runs[name, mode] = run
        except Exception as error:
            rows[name]["note"] = failure(error)
    rounds, calls = (1, 1) if bench.small else (11, 3)
    seconds = {key: [one / len(sets) for one in taken] for key, taken in in_turn(runs, rounds, calls).items()}
    copy, moved = seconds.pop(COPY), 2 * sets[0][0].nbytes
    rows["copy"] |= speed("forward", copy, copy, moved)
    for (name, mode), taken in seconds.items():
        rows[name] |= speed(mode, taken, copy, moved // 2 * (maps + 1) * MODES[mode])
    return list(rows.values())


def compiled(sets: list, function: Callable[[tuple], Any]) -> Any:
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
