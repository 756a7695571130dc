"""A work directory at its start: the description of a new run, or the proof that the one there is the same run."""

import contextlib
import json
import logging
import re
from pathlib import Path
from typing import Any

from cornerjax.config import Config, differences, to_json
from cornerjax.detectors import read_config
from cornerjax.errors import InputError, unusable
from cornerjax.files import is_file, read_json, write_atomically
from cornerjax.workdir import RUN_JSON, Workdir, newest_step, open_workdir, versions

# What may change between two starts of the same run: no update of the weights depends on it.
_FREE = (
    "log_steps",
    "save_steps",
    "save_minutes",
    "eval_steps",
    "keep",
    "data.workers",
    "data.worker_kind",
    "data.on_bad_image",
)
_FREE_PARTS = ("test.", "compute.")
_LOG = logging.getLogger("cornerjax")
# What a start that was killed may leave before there is a run.
_OF_A_START = re.compile(r"\.lock|config\.json|\.(config|run)\.json\.(cornerjax-)?[0-9a-f]{32}")


def create_workdir(
    path: str | Path,
    config: Config,
    class_names: tuple[str, ...],
    category_ids: tuple[int, ...],
    *,
    recipe: str,
    init: dict[str, str] | None = None,
    trained_on: str = "",
) -> Workdir:
    """Write the description of a new run, or check that the one there is of the same run.

    The record of a run that is resumed goes on saying how it began.

    Args:
        recipe: name of the recipe, for the record.
        init: where its first weights came from, for the record; None: drawn at random.
        trained_on: a hash of the training images; if the run began with others, a warning says so.
    Raises: InputError: the folder belongs to a run with another configuration or other classes, that has done more
        steps, or that holds weights only; or it cannot be written. RunError: the disk is full.
    """
    path, began = Path(path), {}
    if is_file(path / "run.json"):
        there = open_workdir(path)
        step = newest_step(path)
        steps = ("steps",) if config.optim.schedule == "step" else ()  # a cosine ends with the last step
        unused = ("data.images",) if config.data.root.startswith("tfds:") else ()  # older runs may have it
        free = (*_FREE, *_FREE_PARTS, *steps, *unused)
        other = [d for d in differences(there.config, config) if not d.startswith(free)]
        if there.class_names != class_names:
            other.append(f"class names: {list(there.class_names)}, {list(class_names)}")
        if other:
            raise InputError(
                f"work directory {path} belongs to another run (there, here: {'; '.join(other)}); "
                "give another --workdir, or the same settings to resume"
            )
        if step is not None:
            began = _beginning(path, step, config.steps, trained_on)
    else:
        refuse_others(path, config)
    run: dict[str, Any] = {
        "class_names": class_names,
        "category_ids": category_ids,
        "recipe": recipe,
        "init": init,
        "seed": config.seed,
        "trained_on": trained_on,
        "versions": versions(),
        **began,
    }
    try:
        path.mkdir(parents=True, exist_ok=True)
        write_atomically(path / "config.json", to_json(config))
        write_atomically(path / "run.json", json.dumps(run, indent=2))
    except OSError as e:
        raise unusable(f"work directory {path}", e) from None
    return Workdir(path, config, class_names, category_ids)


def _beginning(path: Path, step: int, steps: int, trained_on: str) -> dict[str, Any]:
    """What run.json says of how a run began.

    Raises: InputError: it is to end before the step that it has done.
    """
    if step > steps:
        raise InputError(
            f"steps is {steps}, but the run in {path} is at step {step}; "
            f"give --steps {step} or more, or another --workdir"
        )
    run = read_json(path / "run.json", RUN_JSON)
    if run.get("trained_on", trained_on) != trained_on:
        _LOG.warning("the training images or their boxes are no longer those that %s began with", path)
    return {name: run[name] for name in ("recipe", "init", "trained_on") if name in run}


def refuse_others(path: Path, config: Config) -> None:
    """Refuse a folder without a run that holds anything but what a killed start with this configuration leaves.

    Raises: InputError: naming it.
    """
    if is_file(path / "run.json"):
        return
    others = [name for name in _names_in(path) if not _OF_A_START.fullmatch(name)]
    if not others and is_file(path / "config.json"):
        with contextlib.suppress(InputError):
            if read_config(path / "config.json") == config:
                return
        others = ["config.json"]
    if others:
        raise InputError(
            f"work directory {path} holds {others[0]}, but no run; give another --workdir, or one that is empty"
        )


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    except OSError as e:
        raise unusable(f"work directory {folder}", e) from None
