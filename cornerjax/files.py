"""Files that are written whole or not at all."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


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
