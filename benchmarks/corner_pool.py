"""How long does corner pooling take, against a plain copy of the same map?

Every implementation that runs here (interpreted kernels aside), and plain automatic differentiation through
`jax.lax.associative_scan`; in every direction and as the sum of two ("tl"); forward, backward and both; for the maps
that the detectors pool. First each is checked against the NumPy reference. All are timed in turn, in one process, and
every time is divided by that of the copy in the same round.

Prints a table and writes it as CSV with a plot: ratio to the copy and to the best, the share of the copy's bandwidth at
which the fewest possible bytes are moved (each map read and written once), temporary memory, seconds of compilation.

python benchmarks/corner_pool.py [--cores 1] [--batch 2] [--dtypes float32] [--directions tl top]
"""

import argparse
import csv
import functools
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

# The memory that XLA frees stays with the process. Otherwise the page faults of fresh memory, which can take longer
# than the copying itself, fall on whatever uses more of it.
PINNED = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=100000000000:glibc.malloc.arena_max=1"
if __name__ == "__main__" and sys.platform == "linux" and "GLIBC_TUNABLES" not in os.environ:
    os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"GLIBC_TUNABLES": PINNED})

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from jax import lax  # noqa: E402

from cornerjax.ops import IMPLEMENTATIONS, corner_pool, runnable, running_max  # noqa: E402
from cornerjax.ops.pools import CORNERS, SCANS  # noqa: E402
from cornerjax.ops.running_max.reference import gradient_reference, running_max_reference  # noqa: E402

MAPS = {"cornernet": (128, 128, 128), "squeeze, saccade": (64, 64, 128)}  # h w c
AUTODIFF = "autodiff of scan"
COPY = ("copy", "")
LINE = "{:9s} {:18s}" + 10 * " {:>9s}"
MODES = ("forward", "backward", "both")
INPUTS = 4  # sets of inputs, in turn, so that none waits in a cache
COLUMNS = ("map", "dtype", "direction", "implementation", "mode", "milliseconds", "to copy", "to best", "bandwidth")
COLUMNS += ("temporary MB", "compile s")


def autodiff_max(x, axis, reverse):
    return lax.associative_scan(jnp.maximum, x, axis=axis, reverse=reverse)


def pooling(implementation: str, direction: str):
    """The pool as a function of its maps, all of one shape: one for a direction, two for a corner."""
    if implementation == AUTODIFF:
        if direction in SCANS:
            return functools.partial(autodiff_max, axis=SCANS[direction][0], reverse=SCANS[direction][1])
        return lambda x1, x2: sum(autodiff_max(x, *SCANS[d]) for x, d in zip((x1, x2), CORNERS[direction], strict=True))
    if direction in SCANS:
        return lambda x: running_max(x, *SCANS[direction], implementation)
    return functools.partial(corner_pool, corner=direction, implementation=implementation)


def maps_of(direction: str) -> int:
    return 1 if direction in SCANS else 2


def check(implementations: list[str], directions: list[str], dtypes: list[str]) -> None:
    """Compare values and gradients with the reference, on maps with ties and odd sides."""
    rng = np.random.default_rng(0)
    for shape in ((2, 9, 7, 5), (1, 64, 64, 128)):
        xs = [np.round(rng.standard_normal(shape), 1).astype(np.float32) for _ in range(2)]
        g = rng.integers(-4, 5, shape).astype(np.float32)
        for dtype in dtypes:
            typed = [np.asarray(jnp.asarray(x, dtype), np.float32) for x in xs]
            for direction in directions:
                scans = [SCANS[d] for d in (CORNERS.get(direction) or (direction,))]
                pooled = [running_max_reference(x, *scan) for x, scan in zip(typed, scans, strict=False)]
                expected = np.asarray(jnp.asarray(sum(pooled), dtype), np.float32)
                for implementation in implementations:
                    args = [jnp.asarray(x, dtype) for x in xs[: len(scans)]]
                    y, pull = jax.jit(functools.partial(jax.vjp, pooling(implementation, direction)))(*args)
                    np.testing.assert_array_equal(np.asarray(y, np.float32), expected, err_msg=implementation)
                    for x, dx, scan in zip(typed, pull(jnp.asarray(g, dtype)), scans, strict=False):
                        if implementation != AUTODIFF:  # which divides gradients among equals
                            rounded = np.asarray(jnp.asarray(gradient_reference(x, g, *scan), dtype), np.float32)
                            np.testing.assert_array_equal(np.asarray(dx, np.float32), rounded, err_msg=implementation)


def compiled(name: str, direction: str, mode: str, sets: list) -> tuple[Callable, float, float]:
    """(function of a set of inputs, temporary MB, seconds of compilation)."""
    inputs = [(maps[: maps_of(direction)], g) for maps, g in sets]
    pool = pooling(name, direction)
    if mode == "backward":
        forward, gradient = halves(name, direction)
        marks = [jax.jit(forward)(*maps)[1] for maps, _ in inputs]
        inputs = [(marks, g) for marks, (_, g) in zip(marks, sets, strict=True)]

    def run(given, g):
        if mode == "forward":
            return pool(*given)
        if mode == "backward":
            return gradient(given, g)
        y, pull = jax.vjp(pool, *given)
        return y, pull(g)

    start = time.perf_counter()
    program = jax.jit(run).lower(*inputs[0]).compile()
    took = time.perf_counter() - start
    return (lambda i: program(*inputs[i])), program.memory_analysis().temp_size_in_bytes / 1e6, took


def halves(name: str, direction: str) -> tuple[Callable, Callable]:
    """(maps -> pooled map and marks, marks and its gradient -> gradients)."""
    implementation = IMPLEMENTATIONS[name]
    if direction in CORNERS:
        reverse = SCANS[CORNERS[direction][0]][1]
        return (
            lambda x1, x2: implementation.corner_marked(x1, x2, reverse),
            lambda marks, g: implementation.corner_gradient(marks, g, reverse),
        )
    axis, reverse = SCANS[direction]
    return (
        lambda x: implementation.marked(x, axis, reverse),
        lambda marks, g: implementation.gradient(marks, g, axis, reverse),
    )


def seconds(run, i: int, calls: int) -> float:
    start = time.perf_counter()
    for k in range(calls):
        result = run((i + k) % INPUTS)
    jax.block_until_ready(result)
    return (time.perf_counter() - start) / calls


def measure(shape: tuple, dtype: str, directions: list[str], implementations: list[str], rounds: int) -> list[dict]:
    """Rows of the table for one map."""
    keys = jax.random.split(jax.random.key(0), INPUTS)
    sets = [jax.random.normal(key, (3, *shape)).astype(dtype) for key in keys]
    sets = [((maps[0], maps[1]), maps[2]) for maps in sets]
    negative = jax.jit(jnp.negative)

    def copy(i):
        return negative(sets[i][1])

    calls = 1 if jax.default_backend() == "cpu" else 10  # elsewhere a call returns before the device has begun
    rows = []
    for direction in directions:
        # Automatic differentiation has no backward pass that could be timed without its forward pass.
        keys = [(name, mode) for name in implementations for mode in MODES if (name, mode) != (AUTODIFF, "backward")]
        runs = {(name, mode): compiled(name, direction, mode, sets) for name, mode in keys}
        times: dict = {key: [] for key in [COPY, *runs]}
        for i in range(rounds + 1):
            for j, key in enumerate(times):
                run = copy if key == COPY else runs[key][0]
                times[key].append(seconds(run, (i + j) % INPUTS, calls))
        times = {key: np.array(values[1:]) for key, values in times.items()}  # the first round warms up
        plain = times.pop(COPY)
        ratios = {key: float(np.median(values / plain)) for key, values in times.items()}
        for (name, mode), (_, temporary, compile_s) in runs.items():
            ratio = ratios[name, mode]
            # The fewest maps that must be read or written; the copy moves two.
            floor = {"forward": maps_of(direction) + 1, "backward": maps_of(direction) + 1}
            fewest = floor.get(mode, sum(floor.values()))
            rows.append(
                {
                    "direction": direction,
                    "implementation": name,
                    "mode": mode,
                    "milliseconds": float(np.median(plain)) * ratio * 1e3,
                    "to copy": ratio,
                    "to best": ratio / min(value for (_, other), value in ratios.items() if other == mode),
                    "bandwidth": fewest / 2 / ratio,
                    "temporary MB": temporary,
                    "compile s": compile_s,
                }
            )
    return rows


def show(rows: list[dict]) -> None:
    head = ("direction", "implementation", *("to copy",) * 3, *("to best",) * 3, "bandwidth", "", "MB", "compile s")
    print(LINE.format(*head))
    print(LINE.format("", "", *("forward", "backward", "both") * 2, "forward", "backward", "both", "both"))
    for key in dict.fromkeys((row["direction"], row["implementation"]) for row in rows):
        by_mode = {row["mode"]: row for row in rows if (row["direction"], row["implementation"]) == key}
        three = [by_mode.get(mode) for mode in MODES]
        ratios = [f"{row[column]:.2f}" if row else "" for column in ("to copy", "to best") for row in three]
        shares = [f"{row['bandwidth']:.0%}" if row else "" for row in three[:2]]
        both = by_mode["both"]
        print(LINE.format(*key, *ratios, *shares, f"{both['temporary MB']:.0f}", f"{both['compile s']:.1f}"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cores", type=int, default=0, help="of a CPU; all if 0")
    parser.add_argument("--maps", nargs="+", default=list(MAPS), choices=MAPS)
    parser.add_argument("--batch", type=int, default=0, help="2 on a CPU, 48 elsewhere if 0")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--directions", nargs="+", default=["tl", *SCANS], choices=["tl", "br", *SCANS])
    parser.add_argument("--implementations", nargs="+", default=[], help="all if none is given")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder for corner_pool.csv and .png")
    args = parser.parse_args()
    if args.cores:
        os.sched_setaffinity(0, range(args.cores))  # before JAX starts its threads
    here = jax.default_backend()
    args.batch = args.batch or (2 if here == "cpu" else 48)
    known = [*runnable(), AUTODIFF]
    args.implementations = args.implementations or [name for name in known if here != "cpu" or name != "pallas"]
    if unknown := set(args.implementations) - set(known):
        parser.error(f"no implementation {', '.join(unknown)}; here there are: {', '.join(known)}")

    check(args.implementations, args.directions, args.dtypes)
    cores = args.cores or os.cpu_count()
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}, {cores} cores: all agree with the reference")
    rows = []
    for name in args.maps:
        for dtype in args.dtypes:
            shape = (args.batch, *MAPS[name])
            found = measure(shape, dtype, args.directions, args.implementations, args.rounds)
            print(f"\n{name}: {dtype} {shape}")
            show(found)
            rows += [{"map": name, "dtype": dtype} | row for row in found]
    args.out.mkdir(parents=True, exist_ok=True)
    with open(args.out / "corner_pool.csv", "w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    plot(rows, args.out / "corner_pool.png")
    print(f"\n{args.out}/corner_pool.csv, {args.out}/corner_pool.png")


def plot(rows: list[dict], path: Path) -> None:
    """Ratio to the copy of each implementation, the mean over directions, for every map and type."""
    from matplotlib.figure import Figure

    panels = list(dict.fromkeys((row["map"], row["dtype"]) for row in rows))
    names = list(dict.fromkeys(row["implementation"] for row in rows))
    figure = Figure(figsize=(4.2 * len(panels), 0.45 * len(names) + 1.8), layout="constrained")
    longest = 1.6 * max(row["to copy"] for row in rows)
    for axes, panel in zip(np.atleast_1d(figure.subplots(1, len(panels), sharey=True)), panels, strict=True):
        for k, mode in enumerate(("forward", "both")):
            wanted = [row for row in rows if (row["map"], row["dtype"], row["mode"]) == (*panel, mode)]
            means = [np.mean([row["to copy"] for row in wanted if row["implementation"] == name]) for name in names]
            bars = axes.barh(0.2 - 0.4 * k - np.arange(len(names)), means, 0.38, label=["forward", "with gradient"][k])
            axes.bar_label(bars, fmt="%.1f", padding=2, fontsize=8)
        axes.set_xscale("log")
        axes.set_xlim(1, longest)
        ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100, 200, 500) if tick < longest]
        axes.set_xticks(ticks, [str(tick) for tick in ticks], minor=False)
        axes.set_xticks([], minor=True)
        axes.set_yticks(-np.arange(len(names)), names)
        axes.set_title(f"{panel[0]}, {panel[1]}", fontsize=10)
        axes.set_xlabel("times a plain copy of the map")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
