"""What do the TPU kernels of corner pooling compile to, and how many bytes do they move?

Compiles them for TPUs that are not there (make tpu-aot). Prints for each generation which compile and the memory they
need beside their arguments, then XLA's own count of the bytes that corner pooling moves on a v5e, in maps of one input,
and what a deformable convolution needs beside an ordinary one of the same size.

python benchmarks/tpu_aot.py
"""

import functools
import os
from pathlib import Path

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from cornerjax.ops import deformable_conv, running_max
from cornerjax.ops.running_max import pallas_tpu
from cornerjax.ops.running_max.scan import running_max_scan

LIBRARY = Path(__file__).parents[1] / ".libtpu/libtpu/libtpu.so"
TOPOLOGIES = {"v4": "v4:2x2x1", "v5e": "v5e:2x2", "v5p": "v5p:2x2x1", "v6e": "v6e:2x2"}
SHAPE = (48, 128, 128, 128)
DEFORMABLE = (16, 64, 64, 128)


def compiled(function, generation, *shapes):
    device = topologies.get_topology_desc(platform="tpu", topology_name=TOPOLOGIES[generation]).devices[0]
    here = SingleDeviceSharding(device)
    arguments = [jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=here) for a in shapes]
    return jax.jit(function).lower(*arguments).compile()


def kernels(x):
    """Every kernel by name, with the shapes of its arguments."""
    for axis, letter in ((1, "h"), (2, "w")):
        at = {"axis": axis, "reverse": True}
        marks = jax.eval_shape(functools.partial(pallas_tpu.marked, **at), x)[1]
        yield f"forward {letter}", functools.partial(pallas_tpu.forward, **at), (x,)
        yield f"marked {letter}", functools.partial(pallas_tpu.marked, **at), (x,)
        yield f"gradient {letter}", functools.partial(pallas_tpu.gradient, **at), (marks, x)
    marks = jax.eval_shape(functools.partial(pallas_tpu.corner_marked, reverse=True), x, x)[1]
    yield "corner_forward", functools.partial(pallas_tpu.corner_forward, reverse=True), (x, x)
    yield "corner_marked", functools.partial(pallas_tpu.corner_marked, reverse=True), (x, x)
    yield "corner_gradient", functools.partial(pallas_tpu.corner_gradient, reverse=True), (marks, x)


def by_kernel(x1, x2, g):
    y, marks = pallas_tpu.corner_marked(x1, x2, True)
    return y, pallas_tpu.corner_gradient(marks, g, True)


def by_vjp(pool, x1, x2, g):
    y, pull_back = jax.vjp(lambda x1, x2: pool(x1, 1) + pool(x2, 2), x1, x2)
    return y, pull_back(g)


def scan(x, axis):
    return lax.associative_scan(jnp.maximum, x, axis=axis, reverse=True)


def ordinary_conv(x, offsets, mask, kernel):
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def gradient(convolve, *arrays):
    return jax.grad(lambda *arrays: convolve(*arrays).astype(jnp.float32).sum(), argnums=(0, 1, 2, 3))(*arrays)


def print_deformable() -> None:
    print(f"\nv5e, {DEFORMABLE}: memory beside arguments and results, and reads and writes, in maps")
    x, kernel = (jax.ShapeDtypeStruct(shape, "bfloat16") for shape in (DEFORMABLE, (3, 3, *DEFORMABLE[3:] * 2)))
    offsets, mask = (jax.ShapeDtypeStruct((*DEFORMABLE[:3], taps), "float32") for taps in (18, 9))
    for name, convolve in (("deformable", deformable_conv), ("ordinary", ordinary_conv)):
        for how, function in (("fwd", convolve), ("fwd+bwd", functools.partial(gradient, convolve))):
            executable = compiled(function, "v5e", x, offsets, mask, kernel)
            needs = executable.memory_analysis().temp_size_in_bytes, executable.cost_analysis()["bytes accessed"]
            print(f"{name + ' convolution ' + how:42s} " + " ".join(f"{n / (2 * x.size):7.2f}" for n in needs))


def main() -> None:
    if not LIBRARY.exists() and "TPU_LIBRARY_PATH" not in os.environ:
        print("There is no libtpu here to compile for TPUs with; make tpu-aot installs one.")
        return
    os.environ.setdefault("TPU_LIBRARY_PATH", str(LIBRARY))
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")

    print(f"{'kernel':16s} {'type':9s}" + "".join(f"{generation:>14s}" for generation in TOPOLOGIES))
    for dtype in ("float32", "bfloat16"):
        for name, function, shapes in kernels(jax.ShapeDtypeStruct(SHAPE, dtype)):
            memory = [compiled(function, generation, *shapes).memory_analysis() for generation in TOPOLOGIES]
            print(f"{name:16s} {dtype:9s}" + "".join(f"{m.temp_size_in_bytes:>11d} B" + " ok" for m in memory))

    print(f"\nv5e, {SHAPE}, reads and writes in maps; memory beside arguments and results in maps")
    scan_op = functools.partial(running_max, reverse=True, implementation="scan")
    for dtype in ("float32", "bfloat16"):
        x = jax.ShapeDtypeStruct(SHAPE, dtype)
        rows = {
            "fused kernel fwd": (functools.partial(pallas_tpu.corner_forward, reverse=True), (x, x)),
            "associative_scan fwd": (lambda a, b: running_max_scan(a, 1, True) + running_max_scan(b, 2, True), (x, x)),
            "fused kernel fwd+bwd": (by_kernel, (x, x, x)),
            "associative_scan, own gradient, fwd+bwd": (functools.partial(by_vjp, scan_op), (x, x, x)),
            "associative_scan, differentiated, fwd+bwd": (functools.partial(by_vjp, scan), (x, x, x)),
        }
        for name, (function, shapes) in rows.items():
            executable = compiled(function, "v5e", *shapes)
            one = x.size * x.dtype.itemsize
            moved = executable.cost_analysis()["bytes accessed"] / one
            print(f"{name:42s} {dtype:9s} {moved:7.2f} {executable.memory_analysis().temp_size_in_bytes / one:7.2f}")
    print_deformable()


if __name__ == "__main__":
    main()
