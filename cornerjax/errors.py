"""The two kinds of errors that are no bugs; commands print the message, one sentence, and no traceback."""


class InputError(ValueError):
    """Something the user gave cannot be used."""

    exit_code = 2  # of the commands


class RunError(RuntimeError):
    """Something happened to a run that nobody asked for: a loss that is not finite, a full disk, a damaged file."""

    exit_code = 1
