"""The two kinds of errors that are no bugs; commands print the message, one sentence, and no traceback."""

import contextlib
import errno
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
