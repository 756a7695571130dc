"""Ctrl-C in the commands: it ends them at any moment, and without a traceback."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn

AGAIN_S = 2.0  # after which a KeyboardInterrupt that was swallowed comes again

_pressed = threading.Event()


def at_once() -> None:
    """Until `heard`, Ctrl-C ends the process as the system does: imports have nothing to tidy up."""
    if _is_ours_to_set():
        signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.contextmanager
def heard() -> Iterator[None]:
    """Raise KeyboardInterrupt at Ctrl-C, and again until it has come to the end of this.

    Where a library calls Python from C, the exception is reported and gone, and the program would go on.
    """
    if not _is_ours_to_set():
        yield
        return
    _pressed.clear()
    before = signal.signal(signal.SIGINT, _hear), signal.signal(signal.SIGALRM, _hear)
    hook, sys.unraisablehook = sys.unraisablehook, _without_interrupts(sys.unraisablehook)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        _pressed.clear()
        for number, handler in zip((signal.SIGINT, signal.SIGALRM), before, strict=True):
            signal.signal(number, handler)
        sys.unraisablehook = hook


def check() -> None:
    """Raises: KeyboardInterrupt: Ctrl-C was pressed, and the exception has not come to its end."""
    if _pressed.is_set():
        raise KeyboardInterrupt


def _is_ours_to_set() -> bool:
    """Not in threads, and not where somebody ignores or handles it, as nohup and programs that this is a part of do."""
    known = (signal.default_int_handler, signal.SIG_DFL)
    return threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) in known


def _hear(number: int, frame: FrameType | None) -> NoReturn:
    _pressed.set()
    if _imports(frame):  # modules written in C make other errors of it, and print it
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)
    signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
    raise KeyboardInterrupt


def _imports(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib."):
            return True
        frame = frame.f_back
    return False


def _without_interrupts(hook: Any) -> Any:
    def said(what: Any) -> None:
        if not issubclass(what.exc_type, KeyboardInterrupt):
            hook(what)

    return said
