"""How long does corner pooling take, against a plain copy of the same map?

Every implementation, along rows and columns, forward and with its gradient; timed in turn, in one process. Prints
medians of the ratios to the copy taken in the same round.

python benchmarks/corner_pool.py [--shape 2 128 128 128] [--dtype float32] [--rounds 30]
"""

import argparse
import functools
import time

import jax
import jax.numpy as jnp
import numpy as np

from cornerjax.ops import IMPLEMENTATIONS, bottom_pool, right_pool


def seconds(run, *arrays) -> float:
    start = time.perf_counter()
    jax.block_until_ready(run(*arrays))
    return time.perf_counter() - start


def with_gradient(pool, x, g):
    y, pull_back = jax.vjp(pool, x)
    return y, pull_back(g)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", type=int, nargs=4, default=(2, 128, 128, 128), help="b h w c")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rounds", type=int, default=30)
    args = parser.parse_args()

    x, g = (jax.random.normal(jax.random.key(i), args.shape).astype(args.dtype) for i in range(2))
    runs = {"copy": jax.jit(jnp.negative)}
    for name in IMPLEMENTATIONS:
        for axis, pool in (("h", bottom_pool), ("w", right_pool)):
            pool = functools.partial(pool, implementation=name)
            runs[f"{name} {axis} fwd"] = jax.jit(pool)
            runs[f"{name} {axis} fwd+bwd"] = jax.jit(functools.partial(with_gradient, pool))

    def once(name):
        return seconds(runs[name], *((x, g) if name.endswith("bwd") else (x,)))

    for name in runs:
        once(name)  # compiles
    times = {name: [] for name in runs}
    for _ in range(args.rounds):
        for name in runs:
            times[name].append(once(name))

    copy = np.array(times.pop("copy"))
    print(f"{jax.devices()[0].device_kind}, {args.dtype} {tuple(args.shape)}: copy {np.median(copy) * 1e3:.2f} ms")
    for name, taken in times.items():
        print(f"{name:16s} {np.median(taken / copy):6.1f} x")


if __name__ == "__main__":
    main()
