"""How much of a network's forward pass on one CPU core are its convolutions?

Every convolution of the pass, depthwise and transposed ones too, is compiled by itself and runs as often as the pass
has it, in turn with the pass, one image in test mode, in float32. CPU time; programs that do nothing, as many as there
are convolutions, show how much of it is calling them.

python benchmarks/convolutions.py [--recipe cornernet_squeeze] [--rounds 7]
"""

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from one_core import keep_to_one_core

if __name__ == "__main__":
    keep_to_one_core()

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax.extend.core import jaxpr_as_fun
from on_accelerator.flops import flops

from cornerjax.config import load_recipe
from cornerjax.training.setup import network_of
from cornerjax.validation import replaced

CONFIGS = Path(__file__).parents[1] / "configs"
SHOWN = 10  # kinds of convolutions


class Kind(NamedTuple):
    """Convolutions that are the same program."""

    shapes: str
    run: Callable[[], Any]
    count: int
    gflop: float  # of one


def main(recipe: str = "cornernet_squeeze", rounds: int = 7) -> None:
    """Measure; see the top of the file.

    Args:
        recipe: by its name in configs/; its network, for COCO's classes and images of its training examples' size.
        rounds: of which medians are taken.
    """
    config = replaced(load_recipe(CONFIGS / f"{recipe}.py"), {"model.num_classes": 80, "data.batch": 1})
    apply, *weights = network_of(config, np.random.default_rng(0))
    given = (*weights, jnp.zeros((1, *config.data.crop_px, 3)))

    def forward(*given: Any) -> Any:
        return apply(*given, train=False)[0]

    traced = jax.jit(forward).trace(*given)
    network, kinds = traced.lower().compile(), kinds_of(traced.jaxpr)
    number, nothing = jnp.zeros(()), jax.jit(lambda x: x + 1).lower(jnp.zeros(())).compile()
    calls, whole, empty = sum(kind.count for kind in kinds), [], []
    each: list[list[float]] = []  # of all convolutions of a kind, in a round
    for _ in range(rounds + 1):
        whole.append(cpu_ms(lambda: network(*given), 1))
        each.append([cpu_ms(kind.run, kind.count) for kind in kinds])
        empty.append(cpu_ms(lambda: nothing(number), calls))
    print(f"{recipe}, {config.data.crop_px[0]} px; {calls} convolutions of {len(kinds)} kinds, one CPU core")
    report(whole[1:], [sum(every) for every in each[1:]], empty[1:])
    show(kinds, [statistics.median(of_kind) for of_kind in zip(*each[1:], strict=True)])


def kinds_of(jaxpr: Any) -> list[Kind]:
    """The convolutions of a program, each compiled by itself, for inputs drawn at random."""
    counts: dict[str, int] = {}
    found: dict[str, Callable[[int], Kind]] = {}
    for equation in convolutions_of(jaxpr):
        inputs = [value.aval for value in equation.invars]
        own = equation.params.get("call_jaxpr")
        name = str(own or (inputs, equation.params))
        counts[name] = counts.get(name, 0) + 1
        run = jaxpr_as_fun(own) if own else partial(equation.primitive.bind, **equation.params)
        shapes = ", ".join("x".join(map(str, value.shape)) for value in (*inputs, equation.outvars[0].aval))
        found[name] = partial(compiled, shapes, run, inputs)
    return [of_kind(counts[name]) for name, of_kind in found.items()]


def convolutions_of(jaxpr: Any) -> Iterator[Any]:
    """The equations of a program that are convolutions; one with a gradient of its own may be anything inside."""
    for equation in jaxpr.eqns:
        inner = [value for value in jax.tree.leaves(list(equation.params.values())) if hasattr(value, "eqns")]
        own = equation.primitive.name == "custom_vjp_call" and any(True for one in inner for _ in convolutions_of(one))
        if own or equation.primitive.name == "conv_general_dilated":
            yield equation
        else:
            for one in inner:
                yield from convolutions_of(one)


def compiled(shapes: str, run: Callable, inputs: list[Any], count: int) -> Kind:
    rng = np.random.default_rng(0)
    given = [jnp.asarray(rng.standard_normal(value.shape), value.dtype) for value in inputs]
    traced = jax.jit(run).trace(*given)
    return Kind(shapes, partial(traced.lower().compile(), *given), count, flops(traced.jaxpr) / 1e9)


def cpu_ms(run: Callable[[], Any], calls: int) -> float:
    begun = time.process_time()
    for _ in range(calls):
        jax.block_until_ready(run())
    return 1000 * (time.process_time() - begun)


def report(whole: list[float], convolutions: list[float], empty: list[float]) -> None:
    """Medians, and the ratio to the whole pass in the same round."""
    for name, taken in {
        "forward pass": whole,
        "its convolutions": convolutions,
        "as many that do nothing": empty,
    }.items():
        shares = [part / of for part, of in zip(taken, whole, strict=True)]
        numbers = f"{statistics.median(shares):.3f} of the pass ({min(shares):.3f} to {max(shares):.3f})"
        print(f"  {name:24s} {statistics.median(taken):7.1f} ms, {numbers}")


def show(kinds: list[Kind], ms: list[float]) -> None:
    """Those that take most: how many there are, what all of them take, and how fast they are."""
    print(f"  {'input, kernel, output':50s} {'number':>6s} {'ms':>7s} {'GFLOP/s':>8s}")
    for kind, taken in sorted(zip(kinds, ms, strict=True), key=lambda pair: -pair[1])[:SHOWN]:
        print(f"  {kind.shapes:50s} {kind.count:6d} {taken:7.1f} {1000 * kind.count * kind.gflop / taken:8.0f}")


if __name__ == "__main__":
    tyro.cli(main)
