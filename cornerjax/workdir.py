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
import importlib.metadata
import logging
import os
import platform
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from cornerjax import ops
from cornerjax.config import Config
from cornerjax.data.coco_entries import is_id, is_name
from cornerjax.detectors import read_config
from cornerjax.devices import by_first
from cornerjax.errors import InputError, unusable
from cornerjax.files import FEW_BYTES, is_file, is_folder, lock, no_links, read_json, remove_leftovers
from cornerjax.validation import code_of

PACKAGES = ("cornerjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "opencv-python-headless")
FOLDERS = ("checkpoints", "damaged", "not_finite", "tensorboard", "profile")  # that training writes into
RUN_JSON = "the JSON that cornerjax train wrote"


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
    if not is_file(path / "run.json"):
        what = "has no run.json" if is_folder(path) else "does not exist"
        raise InputError(f"work directory {path} {what}; expected a folder that cornerjax train wrote")
    run: Any = read_json(path / "run.json", RUN_JSON, most=FEW_BYTES)
    run = run if isinstance(run, dict) else {}
    names, ids = run.get("class_names"), run.get("category_ids")
    named = isinstance(names, list) and all(map(is_name, names)) and isinstance(ids, list) and all(map(is_id, ids))
    if not named or len(names) != len(ids):
        raise InputError(f"{path / 'run.json'} is damaged; expected {RUN_JSON}")
    config = read_config(path / "config.json")
    if config.model.num_classes not in (0, len(names)):
        raise InputError(
            f"{path / 'run.json'} has {len(names)} class names, but config.json {config.model.num_classes} classes"
        )
    return Workdir(path, config, tuple(names), tuple(ids))


def newest_step(workdir: Path) -> int | None:
    """Of the newest checkpoint of a run; None: it has none. A process may ask for it alone.

    Raises: InputError: there are checkpoints, and they hold weights only.
    """
    folder = workdir / "checkpoints"
    steps = [int(path.name) for path in folder.iterdir() if path.name.isdecimal()] if folder.is_dir() else []
    if steps and not any((folder / str(step) / "optimiser").is_dir() for step in steps):
        raise InputError(
            f"{workdir} holds converted weights, which no run can go on from; "
            f"start one from them with cornerjax train --init {workdir} and another --workdir"
        )
    return max(steps, default=None)


def trusted_config(run: Workdir, *, allow_code: bool) -> Config:
    """The configuration of a run, to build its network on this machine.

    Args:
        allow_code: functions that it names may be imported, which runs code.
    Raises: InputError: it names a function, and that is not allowed.
    """
    named = code_of(run.config)
    if named and not allow_code:
        option, function = next(iter(named.items()))
        raise InputError(
            f"{run.path / 'config.json'} names a function to be imported, {option} {function!r}; "
            "--allow-code, or allow_code=True, imports it: use it only for runs that you trust"
        )
    return runnable_here(run.config)


def runnable_here(config: Config) -> Config:
    """The configuration of a run, to be computed on this machine: a kernel for another kind of device is replaced."""
    name = config.compute.pooling_implementation
    if name not in ops.IMPLEMENTATIONS or name in ops.runnable():
        return config
    return dataclasses.replace(config, compute=dataclasses.replace(config.compute, pooling_implementation="auto"))


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other runs out of a work directory, made if missing; however the process ends, the lock ends with it.

    Of several processes, the first holds the lock for all; all must come here, and raise what it raises.

    Raises: InputError: another run is in the directory, or it cannot be written. RunError: the disk is full.
    """
    with contextlib.ExitStack() as held:
        by_first(lambda: held.enter_context(_locked_here(path)))
        yield


@contextlib.contextmanager
def _locked_here(path: Path) -> Iterator[None]:
    if links := [name for name in FOLDERS if (path / name).is_symlink()]:
        raise InputError(f"{path / links[0]} is a link, through which nothing is written; give another --workdir")
    try:
        path.mkdir(parents=True, exist_ok=True)
        file = open(path / ".lock", "a+b", buffering=0, opener=no_links)  # noqa: SIM115  # closed below
    except OSError as e:
        raise unusable(f"work directory {path}", e) from None
    with file:
        try:
            _lock(path, file)
            remove_leftovers(path)
        except OSError as e:
            raise unusable(f"work directory {path}", e) from None
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # gone, or the directory holds a run
                (path / ".lock").unlink()
                path.rmdir()


def _lock(path: Path, file: BinaryIO) -> None:
    """Raises: InputError: another process has it. OSError."""
    had = lock(file.fileno())
    if had is None:
        logging.getLogger("cornerjax").warning(
            f"work directory {path} is on a file system without locks: see to it that one run at a time uses it"
        )
        return
    # That of a run that has just ended is gone, and another may have made its own.
    if not had or not os.path.exists(path / ".lock") or not os.path.samefile(file.fileno(), path / ".lock"):
        file.seek(0)
        who = file.read(200).decode(errors="replace") or "another process"
        raise InputError(f"work directory {path} is in use by {who}; wait for it, stop it, or give another --workdir")
    file.seek(0)
    if (content := file.read(200)) and not content.startswith(b"process "):
        raise InputError(f"{path / '.lock'} is there and no run wrote it; give another --workdir")
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()} (since {time.strftime('%Y-%m-%d %H:%M:%S')})".encode())


def versions(*more: str) -> dict[str, str | None]:
    """Of Python, of the packages that a run depends on, and of others, for a record."""
    return {"python": platform.python_version()} | {name: _version(name) for name in (*PACKAGES, *more)}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # run from a checkout
        return None
