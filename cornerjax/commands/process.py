"""What commands change of their process; the package, being a library, changes nothing of the program it is part of."""

import contextlib
import gc
import glob
import logging
import os
import platform
import re
import sys
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import absl.logging  # noqa: F401  # sets the level of its log when it is imported

from cornerjax.errors import RunError
from cornerjax.files import user_cache

LOGS = ("absl", "asyncio")  # of orbax, and of the event loops that its threads have
# What these threads leave behind of a save and of a read that failed.
LEFT_BEHIND = ("Event loop is closed", "Encountered error while reading array index")
MOST_BYTES = 2 << 30  # of compiled programs that are kept
_UNREADABLE = re.compile(r"Error reading persistent compilation cache entry for '(.+?)(-[0-9a-f]{64})?'")
OPTIONS: dict[str, Any] = {  # of JAX, for its cache
    "jax_compilation_cache_dir": "",
    "jax_persistent_cache_min_compile_time_secs": 0.0,  # of small programs there are hundreds
    "jax_persistent_cache_min_entry_size_bytes": -1,
}


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
def compiled_once() -> Iterator[None]:
    """Keep what XLA compiles in the user's cache folder, for later commands; what was not used for longest goes first.

    Where JAX has a cache already, as by JAX_COMPILATION_CACHE_DIR, or is to have none, that stays as it is. So it does
    where the folder cannot be written, and in a run of several processes: all must have the same programs or none, and
    their caches need not be the same.
    """
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    before = {name: getattr(jax.config, name) for name in ("jax_enable_compilation_cache", *OPTIONS)}
    unwanted = before["jax_compilation_cache_dir"] or not before["jax_enable_compilation_cache"]
    folder = None if unwanted or jax.distributed.is_initialized() else cache_folder()
    if folder is None:
        yield
        return

    def use(values: dict[str, Any]) -> None:
        for name, value in values.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()  # of the folder before

    use(OPTIONS | {"jax_compilation_cache_dir": str(folder)})
    try:
        with _damaged_programs_removed(folder):
            yield
    finally:
        use(before)


@contextlib.contextmanager
def _damaged_programs_removed(folder: Path) -> Iterator[None]:
    """Remove programs that JAX cannot read, as those that a killed process wrote in part, before it compiles them.

    It writes none that is there already, so that they would be compiled in every process. Its warning names the program
    but not the file: all of that name go.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("always", _UNREADABLE.pattern)
        warnings.filterwarnings("ignore", r"Error writing persistent compilation cache entry")
        others = warnings.showwarning

        def show(message: Warning | str, *where: Any, **more: Any) -> None:
            unreadable = _UNREADABLE.match(str(message))
            if unreadable is None:
                others(message, *where, **more)
                return
            for file in folder.glob(f"{glob.escape(unreadable[1])}-*"):
                with contextlib.suppress(OSError):  # a folder, or another process was faster
                    file.unlink()

        warnings.showwarning = show
        yield


def cache_folder() -> Path | None:
    """The folder of compiled programs, no larger than MOST_BYTES; None where there can be none."""
    try:
        folder = user_cache() / "compiled" / _instructions()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # programs that others put there would run
        files = list(_files_in(folder))
    except (OSError, RuntimeError):  # no home
        return None
    files.sort(key=lambda of: max(of[1].st_atime, of[1].st_mtime), reverse=True)
    kept = 0
    for file, found in files:
        kept += found.st_size
        if kept > MOST_BYTES:
            with contextlib.suppress(OSError):  # another process was faster
                file.unlink()
    return folder if os.access(folder, os.W_OK | os.X_OK) else None


def _files_in(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for file in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # another process has removed it
            if file.is_file():
                yield file, file.stat()


def _instructions() -> str:
    """Of which instructions the processor has: machines of several kinds may share a home, but not programs."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        known = next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        known = platform.processor()
    return f"{platform.machine()}-{zlib.crc32(known.encode()):08x}"


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
