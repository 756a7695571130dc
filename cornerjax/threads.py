"""Work in threads, ahead of who needs it, and how many cores there are for it."""

import collections
import os
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
Item = TypeVar("Item")


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def loaders() -> int:
    """How many threads load images: as many as there are cores, and no fewer than a disk can serve."""
    return min(max(usable_cores(), 4), 32)


THREADS = loaders()


def ahead(function: Callable[[Item], T], items: Iterable[Item], *, threads: int, count: int) -> Generator[T]:
    """Yield function(item) of every item in order, computed in threads, up to `count` before they are needed.

    The threads have ended when the generator is closed.
    """
    waiting: collections.deque[Future[T]] = collections.deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
