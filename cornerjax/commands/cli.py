"""What the commands share: how options are read, and how a command ends when something is wrong."""

import argparse
import contextlib
import difflib
import io
import itertools
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import tyro

from cornerjax import interrupts
from cornerjax.errors import InputError, RunError, not_written, of_files
from cornerjax.text import plain, shortened
from cornerjax.validation import flat

T = TypeVar("T")


# What OpenCV, and ffmpeg in it, would print; what goes wrong is said in a sentence of ours. They ask when imported.
SILENT = {"OPENCV_LOG_LEVEL": "SILENT", "OPENCV_FFMPEG_LOGLEVEL": "-8"}


def run(main: Callable[[], None]) -> None:
    """Call `main`; an InputError or a RunError ends the process with one sentence on stderr and its exit code."""
    for name, value in SILENT.items():
        os.environ.setdefault(name, value)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names that the terminal lacks letters for, as stderr has it
    logging.getLogger("cornerjax").addFilter(_as_plain_text)
    try:
        with interrupts.heard(), of_files():
            try:
                _call(main)
            except Exception:
                interrupts.check()  # it may have come of Ctrl-C
                raise
    except (InputError, RunError) as e:
        _end(str(e), e.exit_code)
    except MemoryError:
        _end("there is not enough memory for this", 1)
    except RuntimeError as e:  # of JAX, which is not imported here: it takes a second
        if "RESOURCE_EXHAUSTED" not in str(e):
            raise
        _end("there is not enough memory on the device for this; a smaller batch or smaller images need less", 1)
    except BrokenPipeError:
        _end("standard output was closed before the end", 1)
    except KeyboardInterrupt:
        _leave(130)


def _call(main: Callable[[], None]) -> None:
    """Call `main`, and write what Python still holds of what was printed: at its end it would do that, and complain."""
    try:
        main()
    except SystemExit as e:
        if isinstance(e.code, int) and e.code:
            _leave(e.code)  # it says already how the command ended, whoever still listens
        _flush()
        raise
    _flush()


def _flush() -> None:
    """Raises: BrokenPipeError: standard output is closed. RunError: it cannot be written, as on a full disk."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as e:
        raise not_written("to standard output", e) from None


def _end(said: str, exit_code: int) -> NoReturn:
    with contextlib.suppress(OSError):
        print(f"error: {shortened(plain(said))}", file=sys.stderr)
    _leave(exit_code)


def _leave(exit_code: int) -> NoReturn:
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError):  # Python would try it once more at its end, and complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(exit_code)


def _as_plain_text(record: logging.LogRecord) -> bool:
    record.msg, record.args = plain(record.getMessage()), ()
    return True


def parse(
    options: type[T], args: Sequence[str], *, description: str | None, prog: str | None = None, default: T | None = None
) -> T:
    """Fill a dataclass from the command line; its comments are the help.

    Args:
        args: the command line, without the name of the command.
        description: the head of the help.
        prog: how the command is called in the help.
        default: gives each option the value that it has there, in place of the dataclass's own.
    Raises: InputError: a value that its option does not accept, or an option that does not exist, with the one of the
        most similar name.
    """
    given: dict[str, Any] = {} if default is None else {"default": default}
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parsed, unknown = tyro.cli(
                options,
                args=args,
                prog=prog,
                description=description,
                return_unknown_args=True,
                config=(tyro.conf.AvoidSubcommands,),  # a part of several types is of that of its default
                **given,
            )
    except SystemExit as e:
        if e.code:
            raise InputError(f"{_message_in(said.getvalue())}; --help lists all options") from None
        raise
    if unknown:
        names = [name.removeprefix("recipe.").replace("_", "-") for name in flat(parsed)]
        close = difflib.get_close_matches(unknown[0], [f"--{name}" for name in names], n=1)
        raise InputError(f"no option {unknown[0]}; " + (f"there is {close[0]}" if close else "--help lists them all"))
    return parsed


def require(options: Any, *names: str) -> None:
    """Raises: InputError: an option has no text."""
    for name in names:
        if not getattr(options, name):
            raise InputError(f"--{name} is missing; --help says what it is")


def _message_in(box: str) -> str:
    """The message that tyro puts into a box, between a title and a line, as one sentence."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", box)
    _title, *lines = [line.strip("│ ") for line in plain.splitlines()] or [""]

    def is_rule(line: str) -> bool:  # without UTF-8 there is one below the title, too, and lines are of hyphens
        return set(line) <= set("─╰╯-")

    message = itertools.takewhile(lambda line: not is_rule(line), itertools.dropwhile(is_rule, lines))
    return " ".join(message).removeprefix("Error parsing ").rstrip(". ") or plain.strip()


def value_of(option: str, args: Sequence[str], *, default: str) -> str:
    """The value of one option, read before all others: of the one that gives them their defaults, or says which exist.

    Args:
        option: its name with the dashes.
        default: the value where the option is not given, or nothing follows it; `parse` complains of that.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(option, dest="value", nargs="?", default=default, const=default)
    return parser.parse_known_args(args)[0].value
