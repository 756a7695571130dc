"""What the scripts share: one way to fail, one way to show progress."""

import difflib
import io
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import tyro
from tqdm import tqdm

from cornerjax.errors import InputError
from cornerjax.validation import flat

T = TypeVar("T")
QUIET_S = 10  # without a terminal, progress is a line at most this often


def run(main: Callable[[], None]) -> None:
    """Call `main`; a mistake of the user ends the process with one sentence on stderr and exit code 2."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names that the terminal lacks letters for, as stderr has it
    try:
        main()
    except InputError as e:
        print(f"error: {e}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def parse(options: type[T], *, description: str, default: T | None = None) -> T:
    """Fill a dataclass from the command line; its comments are the help.

    Raises: InputError: an option that there is not, with the one of the most similar name.
    """
    given: dict[str, Any] = {} if default is None else {"default": default}
    args, unknown = tyro.cli(
        options, description=description, return_unknown_args=True, config=(tyro.conf.AvoidSubcommands,), **given
    )
    if unknown:
        names = [name.removeprefix("recipe.").replace("_", "-") for name in flat(args)]
        close = difflib.get_close_matches(unknown[0], [f"--{name}" for name in names], n=1)
        raise InputError(f"no option {unknown[0]}; " + (f"there is {close[0]}" if close else "--help lists them all"))
    return args


def progress(items: Iterable[T], *, total: int | None, what: str) -> Iterator[T]:
    """Pass the items on, with a bar on a terminal and a line now and then elsewhere; total None: who knows."""
    if sys.stderr.isatty():
        yield from tqdm(items, total=total, desc=what, leave=False)
        return
    told = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - told > QUIET_S:
            told = time.monotonic()
            print(f"{what}: {done}{'' if total is None else f'/{total}'}", file=sys.stderr, flush=True)
