"""Files that are written whole or not at all, and JSON that is read or refused in a sentence."""

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from cornerjax.errors import InputError
from cornerjax.text import shortened


def read_json(path: Path, expected: str) -> Any:
    """The content of a JSON file.

    Args:
        expected: what the file should be, for the message.
    Raises: InputError: it cannot be read, or is no JSON that can be used.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as e:
        raise InputError(f"cannot read {path}: {e.strerror}; expected {expected}") from None
    except RecursionError:
        raise InputError(f"{path} has lists in lists, too deep to be read; expected {expected}") from None
    except ValueError as e:  # also of text that is no UTF-8, and of numbers with thousands of digits
        raise InputError(f"{path} is not JSON: {shortened(str(e), 120)}; expected {expected}") from None


@contextlib.contextmanager
def open_atomically(path: Path) -> Iterator[BinaryIO]:
    """Open a file to write: whoever reads `path`, at any moment, finds all of the old content or all of the new."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")  # other processes may write the same file
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a whole file, as `open_atomically`; text is UTF-8 everywhere."""
    with open_atomically(path) as file:
        # File names that are not UTF-8 have surrogates, and get their bytes back.
        file.write(content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape"))


def no_links(path: str, flags: int) -> int:
    """An opener for `open`: a link in place of the file is an error, as it may lead to a file of somebody else."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def sha256_of(file: Path) -> str:
    """The hash of a file.

    Raises: OSError: it cannot be read.
    """
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
