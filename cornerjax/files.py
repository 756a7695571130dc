"""Files and folders that are written whole or not at all, and files that are read or refused in a sentence."""

import contextlib
import errno
import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import stat
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from cornerjax.errors import InputError
from cornerjax.text import short, shortened

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_LONGEST = 200  # bytes of a name that a temporary one keeps; file systems take 255 in all
_MARK = ".cornerjax-"  # in temporary names: nobody else's have it
MOST_BYTES = 2**31  # of a file that is read as a whole
FEW_BYTES = 2**24  # of one that describes something


def open_regular(path: str | os.PathLike[str]) -> io.BufferedReader:
    """Open a file to read; what is no regular file, such as a pipe, could be waited for without end.

    Raises: OSError: it cannot be read, or is none.
    """
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return file


def read_bytes(path: str | os.PathLike[str], expected: str, *, most: int = MOST_BYTES) -> bytes:
    """The content of a regular file.

    Args:
        expected: what the file should be, for the message.
        most: bytes that it may have.
    Raises: InputError: it cannot be read, or has more.
    """
    try:
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_size <= most:
                return file.read()
    except OSError as e:
        raise InputError(f"cannot read {path}: {e.strerror}; expected {expected}") from None
    except ValueError:  # of names that no file can have
        raise InputError(f"cannot read {path}: no file can have this name; expected {expected}") from None
    raise InputError(f"cannot read {path}: it has more than {most:,} bytes; expected {expected}")


def read_npz(path: str | os.PathLike[str], expected: str, *, most: int = MOST_BYTES) -> dict[str, np.ndarray]:
    """The arrays of a .npz file, which hold numbers.

    Args:
        expected: what the file should be, for the message.
        most: bytes that it, and its arrays, may have.
    Raises: InputError: it cannot be read, or has anything else in it.
    """
    content = io.BytesIO(read_bytes(path, expected, most=most))
    try:
        with zipfile.ZipFile(content) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > most:
                raise ValueError("more than there is memory for")
        with np.load(content, allow_pickle=False) as arrays:
            read = dict(arrays)
    except Exception:  # what zipfile and NumPy raise for damaged bytes is of all kinds
        raise InputError(f"{path} is damaged; expected {expected}") from None
    if other := [name for name, array in read.items() if array.dtype.kind not in "biuf"]:
        raise InputError(f"{path} has {short(other[0])}, which holds no numbers; expected {expected}")
    return read


def is_file(path: str | os.PathLike[str]) -> bool:
    """Whether there is a regular file, or a link to one.

    Raises: InputError: that may not be known.
    """
    return stat.S_ISREG(_mode(path))


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Whether there is a folder; errors as of is_file."""
    return stat.S_ISDIR(_mode(path))


def _mode(path: str | os.PathLike[str]) -> int:
    try:
        return os.stat(path).st_mode
    except PermissionError as e:
        raise InputError(f"cannot read {path}: {e.strerror}; expected a place that this user may read") from None
    except (OSError, ValueError):  # not there, or a name that no file can have
        return 0


def read_json(path: Path, expected: str, *, most: int = MOST_BYTES) -> Any:
    """The content of a JSON file.

    Args:
        expected: what the file should be, for the message.
        most: bytes that it may have.
    Raises: InputError: it cannot be read, or is no JSON that can be used.
    """
    content = read_bytes(path, expected, most=most)
    try:
        return json.loads(content)
    except RecursionError:
        raise InputError(f"{path} has lists in lists, too deep to be read; expected {expected}") from None
    except ValueError as e:  # also of text that is no UTF-8, and of numbers with thousands of digits
        raise InputError(f"{path} is not JSON: {shortened(str(e), 120)}; expected {expected}") from None


def json_if_there(path: Path) -> Any:
    """The content of a JSON file; None: it is not there, or is no JSON."""
    try:
        return read_json(path, "JSON")
    except InputError:
        return None


def temporary_beside(path: Path) -> Path:
    """A hidden name in the same folder that no other process has, see remove_leftovers."""
    return path.with_name(f".{cut(path.name, _LONGEST)}{_MARK}{uuid.uuid4().hex}")


def cut(name: str, most: int) -> str:
    """A name, or its beginning, of so many bytes at most, without half a letter at the end."""
    encoded = os.fsencode(name)
    return name if len(encoded) <= most else encoded[:most].decode("utf-8", "ignore")


@contextlib.contextmanager
def open_atomically(path: Path) -> Iterator[BinaryIO]:
    """Open a file to write: whoever reads `path`, at any moment, finds all of the old content or all of the new."""
    temporary = temporary_beside(path)  # other processes may write the same file
    try:
        with temporary.open("xb") as file:
            with contextlib.suppress(OSError):  # only remove_leftovers looks at it
                fcntl.flock(file.fileno(), fcntl.LOCK_EX)
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def unfinished_folder(target: Path, *, inside: Path | None = None) -> Iterator[Path]:
    """A hidden folder, to be filled and then renamed to `target`; if it is not, it is removed.

    Those that killed processes have left for the same target are removed, too.

    Args:
        inside: folder to make it in; None: that of the target, made if missing.
    Raises: OSError: it cannot be made.
    """
    inside = target.parent if inside is None else inside
    if not os.path.lexists(inside):
        inside.mkdir(parents=True, exist_ok=True)
    remove_leftovers(inside, target.name)
    folder = temporary_beside(inside / target.name)
    try:
        with contextlib.ExitStack() as stack:
            while not folder.is_dir():  # before it was locked, another process may have taken it for a leftover
                stack.close()
                folder.mkdir()
                stack.enter_context(locked_folder(folder))
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Let other processes know that a folder is not left, see is_left, whatever it is renamed to."""
    number = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # network drives do not lock folders
            fcntl.flock(number, fcntl.LOCK_EX)  # is_left holds its own lock for a moment only
        yield
    finally:
        os.close(number)


def remove_leftovers(folder: Path, name: str = "") -> None:
    """Remove the temporary files and folders, see temporary_beside, that killed processes have left in a folder.

    Those of living processes are locked; where there are no locks, all stay.

    Args:
        name: of the file or folder that they were to become; empty: any.
    """
    known = re.escape(cut(name, _LONGEST)) if name else ".+"
    pattern = re.compile(rf"\.{known}{re.escape(_MARK)}[0-9a-f]{{32}}(\.mp4)?", re.DOTALL)
    for path in [folder / name for name in os.listdir(folder) if pattern.fullmatch(name)]:
        if is_left(path):
            with contextlib.suppress(OSError):  # what is in the way of removing is in the way of nothing else
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def is_left(path: Path) -> bool:
    """Whether no living process has locked a file or folder; False where that cannot be told."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return True
    except OSError:
        return False
    finally:
        os.close(number)


def lock(number: int) -> bool | None:
    """Take an open file for this process alone, until it closes it or ends.

    Args:
        number: of the file, as fileno() gives it.
    Returns: whether it could be had; None where the file system has no locks.
    Raises: OSError.
    """
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as e:
        if e.errno in _NO_LOCKS:
            return None
        raise
    return True


@contextlib.contextmanager
def only_one(file: Path, busy: str) -> Iterator[None]:
    """Keep other processes out of what a file stands for: made if missing, with its folders, and locked.

    If it is empty in the end, it is removed again, and so are the folders that were made if nothing lies in them.

    Args:
        busy: what is said where another process has it.
    Raises: InputError: one has. OSError: it cannot be written.
    """
    missing = [folder for folder in file.absolute().parents if not folder.exists()]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file, "a", opener=no_links) as opened:
            # That of a process that has just ended is gone, and another may have made its own.
            if lock(opened.fileno()) is False or not (file.exists() and os.path.samefile(opened.fileno(), file)):
                raise InputError(busy)
            try:
                yield
            finally:
                if not os.fstat(opened.fileno()).st_size:
                    file.unlink(missing_ok=True)
    finally:
        for folder in missing:
            with contextlib.suppress(OSError):  # it holds something, or could not be made
                folder.rmdir()


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
    with open_regular(file) as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def place_of(path: str | os.PathLike[str]) -> Path:
    """The absolute path without links; unlike Path.resolve it takes a link to itself as it is."""
    return Path(os.path.realpath(path))


def user_cache() -> Path:
    """Where files that are made of others are kept for this user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cornerjax"
