"""How every part measures: case after case while time is left, none of which can end the run."""

import statistics
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
Row = dict[str, Any]  # of a table: names of columns -> values; "note": what went wrong
K = TypeVar("K", bound=Hashable)
C = TypeVar("C", bound=Any)  # a NamedTuple whose fields begin the case's row
T = TypeVar("T")


class Bench:
    """What a part is given.

    Args:
        end: when the time is over, by time.monotonic.
    Attributes:
        send: reports a row.
        small: whether cases are to be tiny, to show that all of them run.
        cores: compilations and readers at a time.
    """

    def __init__(self, send: Callable[[Row], None], *, end: float, small: bool, cores: int):
        self.send, self._end, self.small, self.cores = send, end, small, cores

    def left(self) -> float:
        """Seconds."""
        return self._end - time.monotonic()

    def add(self, row: Row, measure: Callable[[], Row]) -> None:
        """Report a case with what measuring it gives, or with why there is nothing."""
        if self.left() <= 0:
            self.skip(row)
            return
        try:
            self.send(row | measure())
        except Exception as error:
            self.failed(row, error)

    def waves(self, cases: Sequence[C], size: int) -> Iterator[Sequence[C]]:
        """Cases that are compiled together, so many at a time, while there is time for as many as the last ones."""
        longest = 0.0
        for first in range(0, len(cases), size):
            some = cases[first : first + size]
            if self.left() < longest:
                for case in some:
                    self.skip(case._asdict())
                continue
            begun = time.monotonic()
            yield some
            longest = max(longest, time.monotonic() - begun)

    def skip(self, row: Row) -> None:
        self.send(row | {"note": f"skipped: {max(0, self.left()):.0f} s were left"})

    def failed(self, row: Row, error: Exception) -> None:
        """Report a case that something kept from being measured."""
        self.send(row | {"note": failure(error)})

    def together(self, tasks: Mapping[K, Callable[[], T]], *, quiet: bool = True) -> dict[K, Callable[[], T]]:
        """Do all at the same time, in threads: XLA compiles without Python's lock.

        Args:
            quiet: wait until all are done, so that nothing disturbs what is timed.
        Returns: for each a function that gives what it gave, or raises what it raised, or TimeoutError where it is not
            done when the time of the part is over.
        """
        pool = ThreadPoolExecutor(self.cores)
        futures = {key: pool.submit(task) for key, task in tasks.items()}
        pool.shutdown(wait=False)
        if quiet:
            wait_for(futures.values(), timeout=max(0.0, self.left()))

        def result(key: K) -> T:
            return futures[key].result(timeout=max(0.0, self.left()))

        return {key: partial(result, key) for key in tasks}


def failure(error: BaseException) -> str:
    """A line for the table."""
    if isinstance(error, TimeoutError):
        return "skipped: not compiled when the time was over"
    first = (str(error).strip().splitlines() or [""])[0]
    return f"failed: {type(error).__name__}: {first}"[:200]


def in_turn(runs: Mapping[K, Callable[[], Any]], rounds: int, calls: int = 1) -> dict[K, list[float]]:
    """Seconds a call of each, round after round; all have a turn in every round, and one more before the first."""
    import jax

    taken: dict[K, list[float]] = {key: [] for key in runs}
    for _ in range(rounds + 1):
        for key, run in runs.items():
            begun = time.perf_counter()
            for _ in range(calls):
                result = run()
            jax.block_until_ready(result)
            taken[key].append((time.perf_counter() - begun) / calls)
    return {key: seconds[1:] for key, seconds in taken.items()}


def ratio(seconds: Iterable[float], others: Iterable[float]) -> float:
    """The median of the ratios of two things timed in turn."""
    return statistics.median(a / b for a, b in zip(seconds, others, strict=True))
