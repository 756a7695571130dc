"""What the text of a compiled program (HLO) says: which collectives it has, and what passes through the main memory.

XLA's own cost analysis has no collectives, counts the body of a loop once, whatever its rounds, and what stays in a
TPU's vector memory as if it came from the main memory. So these are counted here, from `compiled.as_text()`.
"""

import dataclasses
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

_BITS = {"pred": 8, "token": 0, "opaque": 0}
_ARRAY = re.compile(r"\b(pred|token|opaque|[a-z]+\d+\w*)\[([\d,]*)\](?:\{([\d,]*)(?::([^}]*))?\})?")
_HEADER = re.compile(r"(ENTRY )?%?([\w.-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"\s+(ROOT )?%?([\w.-]+) = (.*?) ([a-z][a-z0-9-]*)\((.*?)\)(.*)$")
_CALLED = re.compile(r"\b(?:calls|body|condition|to_apply|true_computation|false_computation)=%?([\w.-]+)")
_BRANCHES = re.compile(r"\bbranch_computations=\{([^}]*)\}")
_COLLECTIVES = frozenset(
    ("all-gather", "all-reduce", "all-to-all", "reduce-scatter", "collective-permute", "collective-broadcast")
)
# Others call computations too: fusions, whose insides touch no memory, and what adds two numbers up for a reduction.
_CALLING = ("while", "call", "conditional", "async-start")
# These name what is there already, or are counted where they lead to.
_FREE = frozenset(
    ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "call", "conditional", "async-start")
)


class Array(NamedTuple):
    """An array in a type."""

    shape: tuple[int, ...]
    nbytes: int
    padded: int  # bytes with the rest of its last tiles
    in_hbm: bool  # in the main memory, not in a TPU's vector or scalar memory


class Instruction(NamedTuple):
    """One line of a computation."""

    name: str
    kind: str  # "all-reduce", "fusion", ...
    results: tuple[Array, ...]
    operands: tuple[str, ...]
    arguments: str  # as written, for constants
    rest: str  # all that follows
    root: bool

    def attribute(self, pattern: str) -> str:
        """The first group of the first match, or nothing."""
        found = re.search(pattern, self.rest)
        return found[1] if found else ""

    @property
    def called(self) -> list[str]:
        """Computations that it names: a fusion's inside, the body of a loop, what adds two numbers for a reduction."""
        branches = _BRANCHES.search(self.rest)
        return _CALLED.findall(self.rest) + (re.findall(r"[\w.-]+", branches[1]) if branches else [])


class Collective(NamedTuple):
    """An operation in which devices tell each other something."""

    kind: str  # without -start: the halves of an asynchronous operation are one
    shapes: tuple[tuple[int, ...], ...]  # of what each device gives
    nbytes: int  # of these together
    devices: int  # that take part together
    times: int  # a step; more than one in a loop
    origin: str  # where it comes from, as jit(train_step)/transpose(jvp())/reduce_sum

    @property
    def sent(self) -> int:
        """The least bytes that each device has to send in a step: those of a ring."""
        n = self.devices
        parts = {"all-reduce": 2 * (n - 1) / n, "all-gather": n - 1, "collective-permute": 1, "collective-broadcast": 1}
        return math.ceil(self.nbytes * parts.get(self.kind, (n - 1) / n)) * self.times


Computation = dict[str, Instruction]


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled program.

    Attributes:
        computations: by name, each a dict of its instructions by name.
        rounds: how often a run of the program runs each; those inside of fusions are not in it.
        unknown: loops whose number of rounds the text does not tell; they count as one round.
    """

    computations: dict[str, Computation]
    rounds: dict[str, int]
    unknown: tuple[str, ...]

    def instructions(self) -> Iterator[tuple[Computation, Instruction, int]]:
        """Every instruction outside of fusions, with its computation and its times a run."""
        for name, times in self.rounds.items():
            for instruction in self.computations[name].values():
                yield self.computations[name], instruction, times


def read_program(text: str) -> Program:
    """Read `compiled.as_text()`."""
    computations: dict[str, Computation] = {}
    entry = ""
    for line in text.splitlines():
        if header := _HEADER.match(line):
            computations[header[2]] = current = {}
            entry = header[2] if header[1] else entry
        elif found := _INSTRUCTION.match(line):
            root, name, types, kind, arguments, rest = found.groups()
            operands = tuple(re.findall(r"%([\w.-]+)", arguments))
            results = tuple(_arrays(types))
            current[name] = Instruction(name, kind, results, operands, arguments, rest, bool(root))
    rounds: dict[str, int] = {}
    unknown: list[str] = []

    def visit(name: str, times: int) -> None:
        rounds[name] = rounds.get(name, 0) + times
        for instruction in computations[name].values():
            if instruction.kind not in _CALLING:
                continue
            trips = 1
            if instruction.kind == "while":
                found = _trips(instruction, computations)
                trips = found or 1
                unknown.extend([] if found else [instruction.name])
            for called in instruction.called:
                visit(called, times * trips)

    visit(entry, 1)
    return Program(computations, rounds, tuple(unknown))


def collectives(program: Program, devices: int) -> list[Collective]:
    """The collective operations of a program over so many devices."""
    found = []
    for computation, instruction, times in program.instructions():
        kind = instruction.kind.removesuffix("-start")
        if kind in _COLLECTIVES:
            given = [array for name in instruction.operands for array in computation[name].results]
            origin = instruction.attribute(r'op_name="([^"]*)"')
            size = sum(array.nbytes for array in given)
            together = _group(instruction.rest, devices)
            found.append(Collective(kind, tuple(array.shape for array in given), size, together, times, origin))
    return found


def traffic(program: Program) -> Iterator[tuple[Instruction, int]]:
    """Every instruction of a run with the bytes that it reads from the main memory and writes to it, rounds and all."""
    for computation, instruction, times in program.instructions():
        yield instruction, _moved(computation, instruction, program) * times


def hbm_bytes(program: Program) -> int:
    """Bytes that the instructions of a run read from the main memory and write to it."""
    return sum(nbytes for _, nbytes in traffic(program))


def loop_factor(program: Program) -> float:
    """By how much loops multiply the FLOPs of a program's convolutions and matrix products; 1.0 without loops."""
    flops = {
        name: sum(_flops(i, body) for body in with_fused(program, name) for i in body.values())
        for name in program.rounds
    }
    once = sum(flops.values())
    return sum(flops[name] * times for name, times in program.rounds.items()) / once if once else 1.0


def _arrays(types: str) -> Iterator[Array]:
    for dtype, sizes, order, layout in _ARRAY.findall(types):
        shape = tuple(int(size) for size in sizes.split(",") if size)
        bits = _BITS[dtype] if dtype in _BITS else int(re.search(r"\d+", dtype)[0])  # type: ignore[index]
        padded = [shape[int(axis)] for axis in order.split(",") if axis][
            ::-1
        ]  # the axis that varies fastest comes last
        if tile := re.match(r"T\(([\d,]+)\)", layout):
            sides = [int(side) for side in tile[1].split(",")]
            padded = [1] * (len(sides) - len(padded)) + padded
            cut = len(padded) - len(sides)
            padded[cut:] = [-(-size // side) * side for size, side in zip(padded[cut:], sides, strict=True)]
        in_hbm = "S(" not in layout or "S(0)" in layout
        yield Array(shape, math.prod(shape) * bits // 8, math.prod(padded or shape) * bits // 8, in_hbm)


def _trips(loop: Instruction, computations: dict[str, Computation]) -> int | None:
    if known := loop.attribute(r'"known_trip_count":\{"n":"(\d+)"'):
        return int(known)
    # Programs for TPUs do not say; their loops count from 0 to a constant.
    condition = computations[loop.attribute(r"\bcondition=%?([\w.-]+)")]
    root = next(instruction for instruction in condition.values() if instruction.root)
    limits = [condition[name].arguments for name in root.operands if condition[name].kind == "constant"]
    return int(limits[0]) if limits and "direction=LT" in root.rest else None


def _group(attributes: str, devices: int) -> int:
    """Devices in a replica group: {{0,1},{2,3}}, [groups,size]<=[...] or mesh['a'=4,'b'=2] {'a'}; none: all."""
    if found := re.search(r"replica_groups=\{\{([\d,]+)\}", attributes):
        return len(found[1].split(","))
    if found := re.search(r"replica_groups=\[\d+,(\d+)\]", attributes):
        return int(found[1])
    if found := re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", attributes):
        sides = dict(re.findall(r"'(\w+)'=(\d+)", found[1]))
        return math.prod(int(sides[axis]) for axis in re.findall(r"'(\w+)'", found[2]))
    return devices


def _moved(computation: Computation, instruction: Instruction, program: Program) -> int:
    if instruction.kind in _FREE or instruction.kind.endswith(("-done", "-update")):
        return 0
    if instruction.kind in ("copy-start", "slice-start"):  # (to, from, flag) and (from, to, flag)
        to, source = instruction.results[:2] if instruction.kind == "copy-start" else instruction.results[1::-1]
        return to.padded * (to.in_hbm + source.in_hbm)
    given = [_read(computation[name]) for name in instruction.operands]
    if instruction.kind in ("slice", "dynamic-slice"):
        given = [min(given[0], *(array.padded for array in instruction.results))]
    if instruction.kind == "fusion":
        inside = program.computations[instruction.called[0]]
        slices = [_sliced(inside, i) for i in range(len(given))]
        given = [size if cut is None else min(size, cut) for size, cut in zip(given, slices, strict=True)]
    results = () if instruction.kind.endswith("-start") else instruction.results
    return sum(given) + sum(array.padded for array in results if array.in_hbm)


def _read(operand: Instruction) -> int:
    return sum(array.padded for array in operand.results if array.in_hbm)


def _sliced(inside: Computation, index: int) -> int | None:
    """What a fusion reads of an argument of which it uses nothing but slices; None if it uses all."""
    name = next(i.name for i in inside.values() if i.kind == "parameter" and i.arguments == str(index))
    users = [i for i in inside.values() if name in i.operands]
    sliced = all(i.kind in ("slice", "dynamic-slice") for i in users)
    return sum(i.results[0].padded for i in users) if sliced else None


def with_fused(program: Program, name: str) -> Iterator[Computation]:
    """A computation and those of the fusions in it."""
    yield program.computations[name]
    for instruction in program.computations[name].values():
        if instruction.kind == "fusion":
            for called in instruction.called:
                yield from with_fused(program, called)


def _flops(instruction: Instruction, computation: Computation) -> int:
    """Of a convolution or a matrix product, as if all of the kernel always met the map."""
    if instruction.kind not in ("convolution", "dot"):
        return 0
    left, right = (computation[name].results[0].shape for name in instruction.operands[:2])
    if instruction.kind == "dot":
        axes = instruction.attribute(r"lhs_contracting_dims=\{([\d,]*)\}")
        summed = math.prod(left[int(axis)] for axis in axes.split(",") if axis)
    else:
        labels = instruction.attribute(r"dim_labels=\w+_(\w+)->")
        summed = math.prod(right) // right[labels.index("o")]
    return 2 * math.prod(instruction.results[0].shape) * summed
