"""How long do 3x3 convolutions take by Winograd's products on one CPU core, against the other forms?

Convolution, gradient of its input, gradient of its kernel, in float32, for sizes that the networks have. CPU time of
both forms in turn, divided by that of the other: XLA's convolution, for the kernel's gradient also products of matrices
row by row (`ops/convolution.py`). The last column is how far apart the two results are, by the largest of them.

python benchmarks/winograd.py [--rounds 9]
"""

import statistics
import time
from collections.abc import Callable
from functools import partial

from one_core import keep_to_one_core

if __name__ == "__main__":
    keep_to_one_core()

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax import Array

from cornerjax.ops.convolution import HWIO, kernel_gradient_by_rows
from cornerjax.ops.winograd import winograd, winograd_gradient

SIZES = [  # images, rows and columns, channels
    (1, 128, 256),
    (2, 64, 256),
    (2, 32, 256),
    (2, 32, 128),
    (2, 16, 384),
    (2, 8, 384),
    (8, 32, 96),
    (8, 32, 64),
]


def convolution(x: Array, kernel: Array) -> Array:
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=HWIO)


def forms() -> dict[str, tuple[Callable, Callable]]:
    """The other form and Winograd's, of (x, kernel, g)."""

    def of_input(x: Array, kernel: Array, g: Array) -> Array:
        return jax.vjp(lambda x: convolution(x, kernel), x)[1](g)[0]

    def of_kernel(x: Array, kernel: Array, g: Array) -> Array:
        return jax.vjp(lambda kernel: convolution(x, kernel), kernel)[1](g)[0]

    return {
        "convolution": (lambda x, kernel, g: convolution(x, kernel), lambda x, kernel, g: winograd(x, kernel)),
        "gradient of its input": (of_input, lambda x, kernel, g: winograd_gradient(x, kernel, g)[0]),
        "gradient of its kernel": (of_kernel, lambda x, kernel, g: winograd_gradient(x, kernel, g)[1]),
        "the same, by rows": (
            lambda x, kernel, g: kernel_gradient_by_rows(x, g, 3, 1),
            lambda x, kernel, g: winograd_gradient(x, kernel, g)[1],
        ),
    }


def cpu_ms(run: Callable[[], Array]) -> float:
    begun = time.process_time()
    jax.block_until_ready(run())
    return 1000 * (time.process_time() - begun)


def main(rounds: int = 9) -> None:
    """Measure; see the top of the file.

    Args:
        rounds: of which medians are taken.
    """
    print(f"{'images, side, channels':24s} {'':24s} {'ms':>8s} {'ratio':>6s}  {'from, to':14s} {'apart':>8s}")
    for images, side, channels in SIZES:
        rng = np.random.default_rng(0)
        sizes = (images, side, side, channels), (3, 3, channels, channels), (images, side, side, channels)
        given = [jnp.asarray(rng.standard_normal(size).astype(np.float32)) for size in sizes]
        for name, pair in forms().items():
            other, ours = (jax.jit(form).lower(*given).compile() for form in pair)
            expected, found = other(*given), ours(*given)
            apart = float(jnp.abs(expected - found).max() / jnp.abs(expected).max())
            taken = [(cpu_ms(partial(other, *given)), cpu_ms(partial(ours, *given))) for _ in range(rounds)]
            ratios = [mine / theirs for theirs, mine in taken]
            ms, ratio = statistics.median(mine for _, mine in taken), statistics.median(ratios)
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            print(f"{f'{images}, {side}, {channels}':24s} {name:24s} {ms:8.1f} {ratio:6.2f}  {spread:14s} {apart:8.0e}")


if __name__ == "__main__":
    tyro.cli(main)
