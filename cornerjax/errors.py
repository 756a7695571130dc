"""The two kinds of errors that are no bugs; commands print the message, one sentence, and no traceback."""

import contextlib
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
