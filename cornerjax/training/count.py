"""What a program does and needs by count, from its jaxpr: for where there is no compiler of the device.

What XLA would make of it is taken for granted in three rules. Convolutions, matrix products, sorts, loops and the like
read arrays from memory and write theirs to it, as if no cache kept any for the next. Sums write theirs only: what they
are over is computed on the way, once for all sums that follow each other and do not wait for one another. Everything
else is computed where it is read, as often as that is, and not kept.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, jaxprs_in_params

# The beginnings of names of primitives. Those of the first kind have their operands in memory.
KEEPING = (
    "conv_general",
    "dot_general",
    "ragged_dot",
    "gather",
    "scatter",
    "sort",
    "top_k",
    "cum",
    "pallas_call",
    "ffi",
)
SUMMING = ("reduce", "arg", "select_and_")


class Count(NamedTuple):
    """Of one run."""

    flops: float  # of convolutions and matrix products
    moved: float  # bytes that pass between the processor and its memory
    temporary: int  # most bytes at a time, beside arguments and results
    unknown_loops: tuple[str, ...]  # loops whose number of rounds depends on the data; they count as one round


class _Array:
    """An array of the program: in memory, or computed by those who read it from the arrays in `sources`."""

    def __init__(self, nbytes: int, sources: "Iterable[_Array] | None" = None):
        self.nbytes = nbytes
        self.sources = frozenset((self,) if sources is None else sources)
        self.written: int | None = None  # when; None: never, an argument
        self.read = 0  # the last time

    @property
    def in_memory(self) -> bool:
        return self in self.sources


def count(jaxpr: ClosedJaxpr) -> Count:
    """Count one run of `jax.jit(...).trace(...).jaxpr`; where CPUs have a form of their own, the other one is taken."""
    return _Counter(jaxpr.jaxpr).count


class _Counter:
    """Goes through a program in its order; the time is the number of operations done."""

    def __init__(self, jaxpr: Jaxpr):
        self._time, self._flops, self._moved = 0, 0.0, 0.0
        self._written: list[_Array] = []
        self._summed: set[_Array] = set()  # what the last sums read, and
        self._sums: set[_Array] = set()  # what they wrote
        self._inside: list[tuple[int, int]] = []  # time and bytes that a loop needs
        self._unknown: list[str] = []
        results = self._walk(jaxpr, [_Array(_nbytes(var)) for var in jaxpr.invars])
        for array in results:
            self._keep(array)
        self.count = Count(self._flops, self._moved, self._peak(set(results)), tuple(self._unknown))

    def _walk(self, jaxpr: Jaxpr, arguments: Sequence[_Array]) -> list[_Array]:
        known = {var: _Array(_nbytes(var)) for var in jaxpr.constvars}
        known.update(zip(jaxpr.invars, arguments, strict=True))

        def array_of(var: Any) -> _Array:
            return _Array(0, ()) if isinstance(var, Literal) else known[var]

        for equation in jaxpr.eqns:
            self._time += 1
            known.update(zip(equation.outvars, self._do(equation, [array_of(v) for v in equation.invars]), strict=True))
        return [array_of(var) for var in jaxpr.outvars]

    def _do(self, equation: JaxprEqn, operands: list[_Array]) -> Sequence[_Array]:
        name, params = equation.primitive.name, equation.params
        if name in ("scan", "while"):
            return self._loop(equation, operands)
        if name == "cond":
            return self._walk(_branch(params).jaxpr, operands[1:])
        sizes = [_nbytes(var) for var in equation.outvars]
        if name.startswith(SUMMING):
            return self._sum(operands, sizes)
        if name.startswith(KEEPING):
            self._flops += FLOPS[name](equation) if name in FLOPS else 0
            for array in operands:
                self._keep(array)
            self._read(operands)
            self._summed.clear()
            return [self._write(_Array(size)) for size in sizes]
        if (inner := next(iter(jaxprs_in_params(params)), None)) is not None:
            return self._walk(inner, operands)
        return [_Array(size, _sources(operands)) for size in sizes]

    def _sum(self, operands: list[_Array], sizes: list[int]) -> list[_Array]:
        sources = _sources(operands)
        if sources & self._sums:
            self._summed.clear()
            self._sums.clear()
        self._moved -= sum(array.nbytes for array in sources & self._summed)
        self._read(operands)
        self._summed |= sources
        results = [self._write(_Array(size)) for size in sizes]
        self._sums.update(results)
        return results

    def _loop(self, equation: JaxprEqn, operands: list[_Array]) -> list[_Array]:
        """What passes in a round is counted inside; operands and results are there all the time."""
        body = equation.params["jaxpr" if equation.primitive.name == "scan" else "body_jaxpr"].jaxpr
        inside, rounds = _Counter(body).count, equation.params.get("length", 1)
        for array in operands:
            self._keep(array)
            array.read = self._time
        self._flops += inside.flops * rounds
        self._unknown += [*inside.unknown_loops, *([] if "length" in equation.params else ["while"])]
        self._inside.append((self._time, inside.temporary))
        results = [self._write(_Array(_nbytes(var))) for var in equation.outvars]
        self._moved += inside.moved * rounds - sum(array.nbytes for array in results)
        return results

    def _keep(self, array: _Array) -> None:
        """Put an array into memory that so far was left to its readers."""
        if not array.in_memory:
            self._read([array])
            array.sources = frozenset((array,))
            self._write(array)

    def _write(self, array: _Array) -> _Array:
        array.written = array.read = self._time
        self._moved += array.nbytes
        self._written.append(array)
        return array

    def _read(self, arrays: Iterable[_Array]) -> None:
        for source in _sources(arrays):
            source.read = self._time
            self._moved += source.nbytes

    def _peak(self, results: set[_Array]) -> int:
        changes = np.zeros(self._time + 2, np.int64)
        for array in self._written:
            if array not in results:
                changes[array.written] += array.nbytes
                changes[array.read + 1] -= array.nbytes
        held = np.cumsum(changes)
        for time, nbytes in self._inside:
            held[time] += nbytes
        return int(held.max())


def _sources(arrays: Iterable[_Array]) -> set[_Array]:
    return {source for array in arrays for source in array.sources}


def _nbytes(var: Any) -> int:
    dtype = var.aval.dtype
    return math.prod(var.aval.shape) * (dtype.itemsize if isinstance(dtype, np.dtype) else 4)  # 4: a random key's word


def _branch(params: dict[str, Any]) -> ClosedJaxpr:
    """The branch that is no CPU's; where data decide, the one with most to compute."""
    branches = params["branches"]
    if platforms := params.get("branches_platforms"):
        return branches[platforms.index(None)]
    return max(branches, key=lambda branch: _Counter(branch.jaxpr).count[:2])


def _of_product(equation: JaxprEqn) -> int:
    (axes, _), _ = equation.params["dimension_numbers"]
    left, result = _shape(equation.invars[0]), _shape(equation.outvars[0])
    return 2 * math.prod(result) * math.prod(left[axis] for axis in axes)


def _of_convolution(equation: JaxprEqn) -> int:
    """Of what meets the map: neither its borders nor the holes of a dilated one."""
    params, numbers = equation.params, equation.params["dimension_numbers"]
    left, right, result = (_shape(var) for var in (*equation.invars, *equation.outvars))
    steps = zip(
        params["window_strides"], params["padding"], params["lhs_dilation"], params["rhs_dilation"], strict=True
    )
    pairs = 1  # of a place in the result and one in the kernel
    for axis, (stride, (low, _), wide, apart) in enumerate(steps, start=2):
        places = np.arange(result[numbers.out_spec[axis]])[:, None] * stride - low
        places = places + np.arange(right[numbers.rhs_spec[axis]]) * apart
        inside = (places >= 0) & (places < left[numbers.lhs_spec[axis]] * wide) & (places % wide == 0)
        pairs *= int(np.count_nonzero(inside))
    return 2 * pairs * math.prod(result[axis] for axis in numbers.out_spec[:2]) * right[numbers.rhs_spec[1]]


def _shape(var: Any) -> tuple[int, ...]:
    return var.aval.shape


FLOPS: dict[str, Callable[[JaxprEqn], int]] = {
    "conv_general_dilated": _of_convolution,
    "dot_general": _of_product,
}
