"""A look at a checkpoint of PyTorch before PyTorch reads it: pickles of a few bytes can take any time and memory.

PyTorch's own reader runs no code of a file, but it builds whatever the file describes: a tuple of two tuples, each of
two tuples and so on, is 2^n values to whoever hashes or prints it; and it calls what allocates as much as is asked for.
"""

import io
import pickletools
import re
import zipfile
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from cornerjax.errors import InputError

REFUSED = (
    "is refused: it is no checkpoint of PyTorch, or holds more than tensors, such as code to run; "
    "expected a dict of tensors"
)
MOST_BYTES = 2**28  # of the pickle in a zip, which describes the tensors but does not hold them
MOST_VALUES = 2**20  # steps of a pickle, and values that are put into others, each counted as often as it is
_PICKLES = 5  # of the older format: two numbers, a description of the machine, the tensors, the keys of their storages

# What a dict of tensors is made of. Of these only the first may be called: others can be asked for any size.
_CALLED = re.compile(
    r"collections (OrderedDict|defaultdict)|torch\._utils _rebuild_(tensor|tensor_v2|tensor_v3|parameter|"
    r"parameter_with_state|sparse_tensor|meta_tensor_no_storage)|torch (Size|device)|"
    r"torch\.nn\.parameter Parameter|torch\.serialization _get_layout"
)
_NAMED = re.compile(rf"{_CALLED.pattern}|torch(\.storage)? \w+|builtins (set|dict|list)|__builtin__ (set|dict|list)")
_REFUSED_OPCODES = ("INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4")
_MEMOIZED, _RECALLED = ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"), ("GET", "BINGET", "LONG_BINGET")


class _Value(NamedTuple):
    """What is known of a value on a pickle's stack: how many it holds, its text or name, whether it is a tuple."""

    size: int = 1
    text: str = ""
    is_tuple: bool = False


_MARK = _Value(0)


def refuse_bombs(file: io.BufferedReader, path: Path) -> None:
    """Refuse a file whose pickles describe more than a dict of tensors.

    Args:
        file: opened, at its beginning.
        path: for the error.
    Raises: InputError: they do, or it is in none of PyTorch's two formats. OSError.
    """
    try:
        zipped = file.read(4) == b"PK\3\4"  # as PyTorch tells them apart
        file.seek(0)
        if zipped:
            _look_at(io.BytesIO(_pickle_in(file)), pickles=1)
        else:
            _look_at(file, pickles=_PICKLES)
    except OSError:
        raise
    except _EndlessError:
        raise InputError(f"{path} is refused: its values are nested without end; expected a dict of tensors") from None
    except Exception:  # what zipfile and pickletools raise for damaged bytes is of all kinds
        raise InputError(f"{path} {REFUSED}") from None


class _EndlessError(Exception):
    pass


def _pickle_in(file: IO[bytes]) -> bytes:
    """The one pickle of a zip whose entries are stored as they are, as PyTorch writes it."""
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        (described,) = [entry for entry in entries if entry.filename.rpartition("/")[2] == "data.pkl"]
        roots = {entry.filename.partition("/")[0] for entry in entries}
        if len(roots) > 1 or described.filename.count("/") != 1 or described.file_size > MOST_BYTES:
            raise ValueError("no pickle, or not the one that PyTorch takes")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("compressed")
        return archive.read(described)


def _look_at(file: io.BufferedIOBase, *, pickles: int) -> None:
    """Raises: ValueError: something is in them that no dict of tensors has. _EndlessError."""
    used = 0
    for _ in range(pickles):
        for values in _puts(file):
            used += values
            if used > MOST_VALUES:
                raise _EndlessError


def _puts(file: io.BufferedIOBase) -> Any:
    """Go through a pickle with its stack, and yield 1 for each step and how many values are put into others.

    Raises: ValueError: see _look_at.
    """
    stack: list[_Value] = []
    memo: dict[Any, _Value] = {}
    for opcode, argument, _ in pickletools.genops(cast(IO[bytes], file)):
        name = opcode.name
        yield 1
        if name in _REFUSED_OPCODES:
            raise ValueError(name)
        if name in _MEMOIZED:
            memo[len(memo) if argument is None else argument] = stack[-1]
        elif name in _RECALLED:
            stack.append(memo[argument])
        elif name == "DUP":
            stack.append(stack[-1])
        elif name == "MARK":
            stack.append(_MARK)
        else:
            held = _popped(stack, opcode)
            _refuse(name, argument, held)
            yield sum(value.size for value in held)
            stack += [_made(name, argument, held)] * len(opcode.stack_after)


def _popped(stack: list[_Value], opcode: pickletools.OpcodeInfo) -> list[_Value]:
    """Take from the stack what an opcode takes; all down to the last mark where it says so."""
    held: list[_Value] = []
    before = opcode.stack_before
    if pickletools.markobject in before:
        while (top := stack.pop()) is not _MARK:
            held.append(top)
        held += [stack.pop() for _ in range(before.index(pickletools.markobject))]
    else:
        held = [stack.pop() for _ in before]
    return held[::-1]


def _refuse(name: str, argument: Any, held: list[_Value]) -> None:
    """Raises: ValueError: an opcode names, calls or keeps by key what no dict of tensors has."""
    named = argument if name == "GLOBAL" else " ".join(value.text for value in held) if name == "STACK_GLOBAL" else ""
    if named and not _NAMED.fullmatch(named):
        raise ValueError(named)
    if name == "REDUCE" and not _CALLED.fullmatch(held[0].text):
        raise ValueError(f"call of {held[0].text}")
    if name in ("SETITEM", "SETITEMS") and any(key.is_tuple for key in held[1::2]):
        raise ValueError("a tuple as a key")


def _made(name: str, argument: Any, held: list[_Value]) -> _Value:
    """What an opcode puts on the stack."""
    if name == "STACK_GLOBAL":
        return _Value(text=" ".join(value.text for value in held))
    if isinstance(argument, str):  # of text, and of GLOBAL
        return _Value(text=argument)
    if name.startswith("TUPLE") or name == "EMPTY_TUPLE":
        return _Value(1 + sum(value.size for value in held), is_tuple=True)
    if name in ("REDUCE", "BINPERSID"):
        return _Value(1 + sum(value.size for value in held))
    return _Value(1 + sum(value.size for value in held)) if name in ("APPEND", "APPENDS", "LIST") else _Value()
