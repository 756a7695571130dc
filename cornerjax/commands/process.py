"""What commands change of their process; the package, being a library, changes nothing of the program it is part of."""

import contextlib
import gc
import logging
import sys
from collections.abc import Iterator
from typing import Any

import absl.logging  # noqa: F401  # sets the level of its log when it is imported

from cornerjax.errors import RunError

LOGS = ("absl", "asyncio")  # of orbax, and of the event loops that its threads have
# What these threads leave behind of a save and of a read that failed.
LEFT_BEHIND = ("Event loop is closed", "Encountered error while reading array index")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Leave out the tracebacks that orbax prints, one an array, of a checkpoint that cannot be written or read.

    The sentence of the RunError is enough. After one it stays so: the threads of a save that failed go on until the
    process ends.
    """
    logs, hook = [logging.getLogger(name) for name in LOGS], sys.unraisablehook
    levels = [log.level for log in logs]

    def without_orbax(what: Any) -> None:
        if not any(said in str(what.exc_value) for said in LEFT_BEHIND):
            hook(what)

    for log in logs:
        log.setLevel(logging.CRITICAL)
    sys.unraisablehook = without_orbax
    go_on = False
    try:
        yield
    except RunError:
        go_on = True
        raise
    finally:
        if not go_on:
            gc.collect()  # reads that orbax has given up say so when they are collected
            sys.unraisablehook = hook
            for log, level in zip(logs, levels, strict=True):
                log.setLevel(level)


@contextlib.contextmanager
def single_threaded_opencv() -> Iterator[None]:
    """OpenCV without threads of its own: where the workers of the input pipeline are the threads, more are slower."""
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(0)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
