"""A look at a checkpoint of PyTorch before PyTorch reads it: pickles of a few bytes can take any time and memory.

PyTorch's own reader runs no code of a file, but it builds whatever the file describes: a tuple of two tuples, each of
two tuples and so on, is 2^n values to whoever hashes or prints it.
"""

import io
import pickletools
import zipfile
from pathlib import Path
from typing import IO, Any, cast

from cornerjax.errors import InputError

REFUSED = (
    "is refused: it is no checkpoint of PyTorch, or holds more than tensors, such as code to run; "
    "expected a dict of tensors"
)
MOST_BYTES = 2**28  # of the pickle in a zip, which describes the tensors but does not hold them
MOST_VALUES = 2**22  # in all tuples together, each counted as often as it is used
_PICKLES = 5  # of the older format: two numbers, a description of the machine, the tensors, the keys of their storages

# What tuples are made by, and what is called with one: each counts all values that it has been given.
_WHOLES = {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "REDUCE", "NEWOBJ", "NEWOBJ_EX", "BINPERSID"}


def refuse_bombs(path: Path) -> None:
    """Refuse a file whose pickles describe more than they could hold.

    Raises: InputError: it does, or it is in none of PyTorch's two formats. OSError.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                entry = next((one for one in archive.infolist() if one.filename.endswith("/data.pkl")), None)
                if entry is None or entry.file_size > MOST_BYTES:
                    raise ValueError("no pickle, or one too large")
                with archive.open(entry) as file:
                    values = _values(file)
        else:
            with path.open("rb") as file:
                values = 0
                for _ in range(_PICKLES):
                    if values <= MOST_VALUES:
                        values += _values(file)
    except OSError:
        raise
    except Exception:  # what zipfile and pickletools raise for damaged bytes is of all kinds
        raise InputError(f"{path} {REFUSED}") from None
    if values > MOST_VALUES:
        raise InputError(f"{path} is refused: its values are nested without end; expected a dict of tensors")


def _values(file: io.BufferedIOBase) -> int:
    """How many values the tuples of the next pickle have in all; it is not read further than to MOST_VALUES.

    A machine with the stack of a pickle, on which each value is the number of values that it holds.
    """
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    total = 0
    for opcode, argument, _ in pickletools.genops(cast(IO[bytes], file)):
        name = opcode.name
        if name in ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"):
            memo[len(memo) if argument is None else argument] = stack[-1]
            continue
        if name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
            continue
        if name == "DUP":
            stack.append(stack[-1])
            continue
        held = _popped(stack, opcode)
        size = 1 if not held else max(1, held[0])  # of a list or dict, what it was: it is neither hashed nor repeated
        if name in _WHOLES:
            size = 1 + sum(held)
            total += size
        stack += [_MARK if one is pickletools.markobject else size for one in opcode.stack_after]
        if total > MOST_VALUES:
            break
    return total


_MARK = object()


def _popped(stack: list[Any], opcode: pickletools.OpcodeInfo) -> list[int]:
    """Take from the stack what an opcode takes; all down to the last mark where it says so."""
    held: list[int] = []
    before = opcode.stack_before
    if pickletools.markobject in before:
        while (top := stack.pop()) is not _MARK:
            held.append(top)
        held += [stack.pop() for _ in range(before.index(pickletools.markobject))]
    else:
        held = [stack.pop() for _ in before]
    return held[::-1]
