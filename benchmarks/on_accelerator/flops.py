"""The floating-point operations of a program's convolutions and matrix products, counted before XLA sees it."""

import math
from collections.abc import Iterator
from typing import Any


def flops(jaxpr: Any) -> float:
    """Of a jaxpr, closed or not: two for each multiplication, but for those with zeros that are put in between cells.

    Loops count all their rounds. XLA's own count does not, and leaves out what it hands to libraries.
    """
    total = 0.0
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        name, params = equation.primitive.name, equation.params
        if name == "conv_general_dilated":
            total += _of_convolution(equation)
        elif name == "dot_general":
            (summed, _), _ = params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            total += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(shape[axis] for axis in summed)
        else:
            inside = [flops(inner) for inner in _inside(params)]
            # Of branches, which choose a form for the platform, one runs.
            total += max(inside, default=0.0) if name == "cond" else sum(inside) * params.get("length", 1)
    return total


def _of_convolution(equation: Any) -> float:
    kernel, axes = equation.invars[1].aval.shape, equation.params["dimension_numbers"].rhs_spec
    summed = math.prod(kernel) // kernel[axes[0]]
    between = math.prod(equation.params["lhs_dilation"])
    return 2 * math.prod(equation.outvars[0].aval.shape) * summed / between


def _inside(params: dict[str, Any]) -> Iterator[Any]:
    """The jaxprs that an equation holds."""
    for value in params.values():
        for one in value if isinstance(value, (tuple, list)) else (value,):
            if hasattr(getattr(one, "jaxpr", one), "eqns"):
                yield one
