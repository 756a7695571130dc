"""What became of the trials of one kind of attack."""

import contextlib
import dataclasses
import signal
import time
from collections.abc import Iterator
from types import FrameType

from cornerjax.errors import InputError, RunError

LONGEST = 500  # characters of a message, besides those of folders
SECONDS = 60  # after which a trial counts as one that hangs


@dataclasses.dataclass
class Outcome:
    """Counts of one kind of attack.

    Attributes:
        name: of the kind.
        folder: whose name messages may have.
        limit_s: longest time that a trial may take.
    """

    name: str
    folder: str
    limit_s: float = 5.0
    tried: int = 0
    refused: int = 0
    slowest_s: float = 0.0
    failures: list[str] = dataclasses.field(default_factory=list)

    @contextlib.contextmanager
    def trial(self, what: str) -> Iterator[None]:
        """Try something: it may work, or be refused in one sentence of ours."""
        self.tried += 1
        begun = time.process_time()
        before = signal.signal(signal.SIGALRM, _hangs)
        signal.alarm(SECONDS)
        try:
            yield
        except (InputError, RunError) as e:
            self.refused += 1
            self._judge(str(e), what)
        except SystemExit as e:
            self.refused += e.code not in (0, None)
            if e.code not in (0, None, 1, 2):
                self.failures.append(f"{what}: exit code {e.code}")
        except Exception as e:
            self.failures.append(f"{what}: {type(e).__name__}: {str(e)[:300]}")
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
        took = time.process_time() - begun
        self.slowest_s = max(self.slowest_s, took)
        if took > self.limit_s:
            self.failures.append(f"{what}: {took:.1f} s")

    def _judge(self, said: str, what: str) -> None:
        if len(said.replace(self.folder, "")) > LONGEST or "\n" in said:
            self.failures.append(f"{what}: said {said[:700]!r}")

    def line(self) -> str:
        """The counts in a line."""
        return (
            f"{self.name:<14} {self.tried:6} tried, {self.refused:6} refused, {self.tried - self.refused:6} accepted, "
            f"slowest {self.slowest_s:5.1f} s, {len(self.failures)} failures"
        )


def _hangs(number: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"still at it after {SECONDS} s")
