"""Work in threads, ahead of who needs it."""

import collections
import os
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
Item = TypeVar("Item")


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


THREADS = min(max(cores(), 4), 32)  # that load images; where there are few cores, they wait for the disk in turn


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
