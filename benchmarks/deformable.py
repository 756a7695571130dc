"""How long does a deformable convolution take, against an ordinary one of the same size, and what memory does it need?

Both are compiled for this machine and timed in turn, in one process; every time is divided by that of the ordinary one
in the same round. Offsets are drawn with a standard deviation of 2 cells.

python benchmarks/deformable.py [--rounds 7] [--batch 1]
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

from cornerjax.ops import deformable_conv

# Rows and columns, channels, where in the networks of CenterNet points.
SIZES = {(128, 128, 64): "DLA-34 and ResNets, last", (64, 64, 128): "in the middle", (32, 32, 256): "first"}


def ordinary(x: Array, offsets: Array, mask: Array, kernel: Array) -> Array:
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=numbers)


def with_gradient(convolve: Callable[..., Array], *arrays: Array) -> tuple[Array, ...]:
    return jax.grad(lambda *arrays: jnp.square(convolve(*arrays)).sum(), argnums=(0, 1, 2, 3))(*arrays)


def arrays(batch: int, h: int, w: int, c: int) -> list[Array]:
    rng = np.random.default_rng(0)
    offsets = 2 * rng.standard_normal((batch, h, w, 18))
    drawn = (rng.standard_normal((batch, h, w, c)), offsets, rng.random((batch, h, w, 9)))
    return [jnp.asarray(array, jnp.float32) for array in (*drawn, rng.standard_normal((3, 3, c, c)) / c)]


def seconds(run: Callable, given: list[Array]) -> float:
    begun = time.perf_counter()
    jax.block_until_ready(run(*given))
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=1)
    options = parser.parse_args()
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}, batch {options.batch}")
    print(f"{'map':>16s} {'':12s} {'ordinary ms':>12s} {'deformable, times as long':>26s} {'memory, in maps':>16s}")
    for (h, w, c), where in SIZES.items():
        given = arrays(options.batch, h, w, c)
        for name, wrapped in (("forward", None), ("with gradient", with_gradient)):
            runs = [
                jax.jit(functools.partial(wrapped, convolve) if wrapped else convolve).lower(*given).compile()
                for convolve in (ordinary, deformable_conv)
            ]
            taken = [[seconds(run, given) for run in runs] for _ in range(options.rounds + 1)][1:]
            ratio = statistics.median(b / a for a, b in taken)
            memory = runs[1].memory_analysis().temp_size_in_bytes / given[0].nbytes
            plain = 1000 * statistics.median(a for a, _ in taken)
            print(f"{h:4d}x{w:4d}x{c:4d}   {name:13s} {plain:11.1f} {ratio:26.2f} {memory:16.1f}  {where}")


if __name__ == "__main__":
    main()
