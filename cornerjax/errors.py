"""The two kinds of errors that are no bugs; commands print the message, one sentence, and no traceback."""

import contextlib
import errno
import os
import re
import textwrap
from collections.abc import Iterator


class InputError(ValueError):
    """Something the user gave cannot be used."""

    exit_code = 2  # of the commands


@contextlib.contextmanager
def named(where: str) -> Iterator[None]:
    """Put before an InputError of what knows no file which one it is of."""
    try:
        yield
    except InputError as e:
        raise InputError(f"{where}: {e}") from None


class RunError(RuntimeError):
    """Something happened to a run that nobody asked for: a loss that is not finite, a full disk, a damaged file."""

    exit_code = 1


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# What no other choice of a file would have changed.
_TROUBLE = (*FULL, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE)


@contextlib.contextmanager
def of_files() -> Iterator[None]:
    """Say in a sentence what the system has against a file, such as a lack of permission, wherever it comes up.

    Raises: InputError or RunError in place of an OSError that names a file, or says that a disk is full.
    """
    try:
        yield
    except OSError as e:
        if e.errno is None or not (e.filename or e.errno in FULL) or isinstance(e, BrokenPipeError):
            raise
        where = f" {e.filename}" if e.filename else " a file"
        if e.errno in _TROUBLE:
            raise RunError(f"cannot read or write{where}: {e.strerror}") from None
        raise InputError(f"cannot use{where}: {e.strerror}; expected a file or folder that this user may use") from None


def reason(error: BaseException) -> str:
    """Why a file could not be read or written, in short."""
    if number := errno_of(error):
        return os.strerror(number)
    while error.__cause__ is not None:
        error = error.__cause__
    return textwrap.shorten(str(error) or type(error).__name__, 100, placeholder="...")


def errno_of(error: BaseException) -> int | None:
    """The number of the system's error that is behind it, if one is."""
    while error.__cause__ is not None:
        error = error.__cause__
    return _number(error)


def not_written(what: str, error: Exception, more: str = "") -> RunError:
    """The error for something that a run could not write, with what to do about a full disk."""
    todo = "; make room and run the same command again" if _is_full(error) else ""
    return RunError(f"cannot write {what}: {reason(error)}{more}{todo}")


def unusable(what: str, error: OSError) -> InputError | RunError:
    """The error for a folder that cannot be made or written: a bad choice of it, unless the disk is full."""
    found = not_written(what, error)
    return found if _is_full(error) else InputError(str(found))


def _is_full(error: Exception) -> bool:
    return _number(error) in FULL


def _number(error: BaseException) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"os_error_code='(\d+)'", str(error))  # of tensorstore
    return int(found[1]) if found else None
