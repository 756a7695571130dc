"""What the scripts share: one way to fail, one way to show progress."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

from cornerjax.config import InputError

T = TypeVar("T")
QUIET_S = 10  # without a terminal, progress is a line at most this often


def run(main: Callable[[], None]) -> None:
    """Call `main`; a mistake of the user ends the process with one sentence on stderr and exit code 2."""
    try:
        main()
    except InputError as e:
        print(f"error: {e}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def progress(items: Iterable[T], *, total: int, what: str) -> Iterator[T]:
    """Pass the items on, with a bar on a terminal and a line now and then elsewhere."""
    if sys.stderr.isatty():
        yield from tqdm(items, total=total, desc=what, leave=False)
        return
    told = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - told > QUIET_S:
            told = time.monotonic()
            print(f"{what}: {done}/{total}", file=sys.stderr, flush=True)
