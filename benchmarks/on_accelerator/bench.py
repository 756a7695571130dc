"""How every part measures: case after case while time is left, none of which can end the run."""

import statistics
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
Row = dict[str, Any]  # of a table: names of columns -> values; "note": what went wrong
K = TypeVar("K", bound=Hashable)
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
        self._longest = 0.0

    def left(self) -> float:
        """Seconds."""
        return self._end - time.monotonic()

    def add(self, row: Row, measure: Callable[[], Row] | None = None) -> None:
        """Report a case with what measuring it gives, or with why there is nothing.

        Skipped where less time is left than the longest case so far has taken.
        """
        begun = time.monotonic()
        if self.left() < self._longest:
            self.skip(row)
            return
        try:
            self.send(row | (measure() if measure else {}))
        except Exception as error:
            self.failed(row, error)
        self._longest = max(self._longest, time.monotonic() - begun)

    def skip(self, row: Row) -> None:
        self.send(row | {"note": f"skipped: {max(0, self.left()):.0f} s were left"})

    def failed(self, row: Row, error: Exception) -> None:
        """Report a case that something kept from being measured."""
        self.send(row | {"note": failure(error)})

    def together(self, tasks: Mapping[K, Callable[[], T]]) -> dict[K, Callable[[], T]]:
        """Do all at the same time, in threads: XLA compiles without Python's lock.

        Returns: for each a function that gives what it gave, or raises what it raised, or TimeoutError where it was not
            done when the time of the part was over.
        """
        pool = ThreadPoolExecutor(max(1, self.cores))
        futures = {key: pool.submit(task) for key, task in tasks.items()}
        wait_for(futures.values(), timeout=max(0.0, self.left()))
        pool.shutdown(wait=False, cancel_futures=True)

        def result(key: K) -> T:
            if not futures[key].done() or futures[key].cancelled():
                raise TimeoutError("not compiled when the time was over")
            return futures[key].result()

        return {key: lambda key=key: result(key) for key in tasks}


def failure(error: BaseException) -> str:
    """A line for the table."""
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
