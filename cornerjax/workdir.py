"""A work directory: what a run is, in files that describe themselves, and its checkpoints.

    config.json   the resolved configuration, read back into the same dataclasses
    run.json      class names, the data set's own category ids, seed, recipe, versions of what made it
    checkpoints/  one folder a step: `weights` (params, model_state) and, for resuming, `optimiser`
    damaged/      checkpoints that could not be read when the run was resumed
    .lock         held by the process that trains here

Nothing in it names the directory itself, so it can be moved.
"""

import contextlib
import dataclasses
import errno
import fcntl
import importlib.metadata
import json
import logging
import os
import platform
import re
import socket
import textwrap
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax

from cornerjax.config import Config, from_json
from cornerjax.errors import InputError, RunError

PACKAGES = ("cornerjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "opencv-python-headless")
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@dataclasses.dataclass(frozen=True)
class Workdir:
    """What a work directory says of its run; `category_ids` are the data set's own, in the order of the classes."""

    path: Path
    config: Config
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]


def open_workdir(path: str | Path) -> Workdir:
    """Read the description of a run.

    Raises: InputError: the folder is not there or is no work directory.
    """
    path = Path(path)
    if not (path / "run.json").is_file():
        what = "has no run.json" if path.is_dir() else "does not exist"
        raise InputError(f"work directory {path} {what}; expected a folder that cornerjax train wrote")
    try:
        run = json.loads((path / "run.json").read_text(encoding="utf-8"))
        names, ids = tuple(run["class_names"]), tuple(run["category_ids"])
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path / 'run.json'} is damaged; expected the JSON that cornerjax train wrote") from None
    return Workdir(path, from_json(path / "config.json"), names, ids)


def refuse_code(run: Workdir, *, allow_code: bool) -> None:
    """Refuse a run whose configuration names code of its own: to build its network would import it, and so run it.

    Args:
        allow_code: the caller trusts the folder.
    Raises: InputError: naming the field and its value.
    """
    pooling = run.config.model.pooling
    if ":" in pooling and not allow_code:
        raise InputError(
            f"{run.path / 'config.json'} names code of its own, model.pooling is {pooling!r}; --allow-code, in Python "
            "allow_code=True, imports it: only for a folder that you trust"
        )


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other runs out of a work directory, made if missing; however the process ends, the lock ends with it.

    Raises: InputError: another run is in the directory, or it cannot be written. RunError: the disk is full.
    """
    if jax.process_index():
        yield  # the first process of a run holds the lock for all
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
        file = (path / ".lock").open("a+b", buffering=0)
    except OSError as e:
        raise unusable(path, e) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not (path / ".lock").exists() or not os.path.samefile(file.fileno(), path / ".lock"):
                raise BlockingIOError  # that of a run that has just ended, and another may have made its own
            file.truncate(0)
            now = time.strftime("%Y-%m-%d %H:%M:%S")
            file.write(f"process {os.getpid()} on {socket.gethostname()} (since {now})".encode())
        except BlockingIOError:
            file.seek(0)
            who = file.read().decode() or "another process"
            raise InputError(
                f"work directory {path} is in use by {who}; wait for it, stop it, or give another --workdir"
            ) from None
        except OSError as e:
            if e.errno not in _NO_LOCKS:
                raise unusable(path, e) from None
            logging.getLogger("cornerjax").warning(
                f"work directory {path} is on a file system without locks: see to it that one run at a time uses it"
            )
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # gone, or the directory holds a run
                (path / ".lock").unlink()
                path.rmdir()


def reason(error: BaseException) -> str:
    """Why a file could not be read or written, in short."""
    while error.__cause__ is not None:
        error = error.__cause__
    number = _number(error)
    return (
        os.strerror(number) if number else textwrap.shorten(str(error) or type(error).__name__, 100, placeholder="...")
    )


def not_written(what: str, error: Exception, more: str = "") -> RunError:
    """The error for something that a run could not write, with what to do about a full disk."""
    todo = "; make room and run the same command again" if _is_full(error) else ""
    return RunError(f"cannot write {what}: {reason(error)}{more}{todo}")


def unusable(path: Path, error: OSError) -> InputError | RunError:
    """The error for a work directory that cannot be made or written: a bad choice of it, unless the disk is full."""
    found = not_written(f"work directory {path}", error)
    return found if _is_full(error) else InputError(str(found))


def _is_full(error: Exception) -> bool:
    return _number(error) in (errno.ENOSPC, errno.EDQUOT)


def _number(error: BaseException) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"os_error_code='(\d+)'", str(error))  # of tensorstore
    return int(found[1]) if found else None


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str | None]:
    """Of Python and of packages, for the record; None of one that is not installed."""
    return {"python": platform.python_version()} | {name: _version(name) for name in packages}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # run from a checkout
        return None
