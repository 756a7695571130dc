"""One way to show how far a long piece of work has got."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

from cornerjax.text import plain

T = TypeVar("T")
QUIET_S = 10  # without a terminal, progress is a line at most this often


def progress(items: Iterable[T], *, total: int | None, what: str) -> Iterator[T]:
    """Pass the items on, with a bar on a terminal and a line now and then elsewhere; total None: who knows."""
    what = plain(what)
    if sys.stderr.isatty():
        yield from tqdm(items, total=total, desc=what, leave=False)
        return
    told = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - told > QUIET_S:
            told = time.monotonic()
            print(f"{what}: {done}{'' if total is None else f'/{total}'}", file=sys.stderr, flush=True)
