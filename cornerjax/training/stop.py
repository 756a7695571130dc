"""Signals that ask a run to end: it finishes the step, saves, and exits as the signal would have made it."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import jax
from jax.experimental import multihost_utils

from cornerjax import interrupts

HELD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)  # the last is what schedulers warn with


class Stopped(SystemExit):
    """A run ended by a signal after saving; the exit code is the one a shell expects, 143 for SIGTERM."""

    def __init__(self, number: signal.Signals, step: int):
        super().__init__(128 + number)
        self.signal, self.step = number, step

    def __str__(self) -> str:
        return f"stopped by {self.signal.name} at step {self.step}, which is saved; the same command goes on from there"


class StopSignals:
    """Holds SIGTERM, SIGINT, SIGHUP and SIGUSR1 back until the loop asks; a second one works as if not held back.

    What was to be ignored when the program started, as nohup and shells in the background have it, stays ignored.

    With several processes, SIGTERM to any of them and the notices of preemption that jax.distributed listens for stop
    all at the same step. Outside the main thread nothing is held back.
    """

    def __init__(self) -> None:
        self._received: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}
        self._interruptible: int | None = None

    def __enter__(self) -> "StopSignals":
        interrupts.check()
        if threading.current_thread() is threading.main_thread():
            for number in HELD:
                # With several processes SIGTERM is left to jax.distributed, whose handler tells the others.
                of_jax = jax.process_count() > 1 and number == signal.SIGTERM
                if not of_jax and signal.getsignal(number) != signal.SIG_IGN:
                    # None is a handler that Python cannot set again, as jax.distributed has one in C++.
                    self._previous[number] = signal.signal(number, self._receive) or signal.SIG_DFL
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if isinstance(error, Stopped) and jax.process_index() == 0:
            with contextlib.suppress(OSError):  # the terminal may be gone, which SIGHUP says
                print(error, flush=True)

    def asked(self, step: int) -> signal.Signals | None:
        """The signal after which to stop at this step; has to be asked at every step, by all processes."""
        if jax.process_count() == 1:
            return self._received
        if multihost_utils.reached_preemption_sync_point(step):
            return self._received or signal.SIGTERM
        return None

    @contextlib.contextmanager
    def at_once(self, step: int) -> Iterator[None]:
        """Where the next step is far off, in an evaluation: a signal to a single process raises Stopped here.

        Raises: Stopped.
        """
        if jax.process_count() > 1:
            yield
            return
        self._interruptible = step
        try:
            if self._received:
                raise Stopped(self._received, step)
            yield
        finally:
            self._interruptible = None

    def _receive(self, number: int, _: FrameType | None) -> None:
        self._received = signal.Signals(number)
        signal.signal(number, self._previous[self._received])
        if jax.process_index() == 0:
            _say(f"{self._received.name}: stopping, after saving the step that is being done; once more: at once")
        if jax.process_count() > 1:
            signal.raise_signal(signal.SIGTERM)
        elif self._interruptible is not None:
            raise Stopped(self._received, self._interruptible)


def _say(line: str) -> None:
    """To standard error, from the handler of a signal, which may have come in the middle of a print."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # the terminal may be gone, or there is none
        os.write(sys.stderr.fileno(), f"\n{line}\n".encode())
