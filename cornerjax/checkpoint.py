"""A work directory: what a run is, in files that describe themselves, and its checkpoints.

    config.json   the resolved configuration, read back into the same dataclasses
    run.json      class names, the data set's own category ids, seed, recipe, versions of what made it
    checkpoints/  one folder a step: `weights` (params, model_state) and, for resuming, `optimiser`

Nothing in it names the directory itself, so it can be moved.
"""

import dataclasses
import importlib.metadata
import json
import logging
import math
import os
import platform
from pathlib import Path
from typing import Any, Literal

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from cornerjax.config import Config, InputError, differences, from_json, to_json

# What may change between two starts of the same run: no update of the weights depends on it.
_FREE = ("log_steps", "save_steps", "eval_steps", "keep", "data.workers", "test.")
_VERSIONS = ("cornerjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "opencv-python-headless")


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
        raise InputError(f"work directory {path} {what}; expected a folder that train.py wrote")
    try:
        run = json.loads((path / "run.json").read_text())
        names, ids = tuple(run["class_names"]), tuple(run["category_ids"])
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path / 'run.json'} is damaged; expected the JSON that train.py wrote") from None
    return Workdir(path, from_json(path / "config.json"), names, ids)


def create_workdir(
    path: str | Path,
    config: Config,
    class_names: tuple[str, ...],
    category_ids: tuple[int, ...],
    *,
    recipe: str,
    init: dict[str, str] | None = None,
) -> Workdir:
    """Write the description of a new run, or check that the one there is of the same run.

    Args:
        recipe: name of the recipe, for the record.
        init: where its first weights came from, for the record; None: drawn at random.
    Raises: InputError: the folder belongs to a run with another configuration or other classes, holds weights only, or
        cannot be written.
    """
    path = Path(path)
    if (path / "run.json").is_file():
        there = open_workdir(path)
        if has_checkpoint(path):
            init = json.loads((path / "run.json").read_text()).get("init")  # where its first weights did come from
        free = (*_FREE, "steps") if config.optim.schedule == "step" else _FREE  # a cosine ends with the last step
        other = [d for d in differences(there.config, config) if not d.startswith(free)]
        if there.class_names != class_names:
            other.append(f"class names: {list(there.class_names)}, {list(class_names)}")
        if other:
            raise InputError(
                f"work directory {path} belongs to another run (there, here: {'; '.join(other)}); "
                "give another --workdir, or the same settings to resume"
            )
    run = {
        "class_names": class_names,
        "category_ids": category_ids,
        "recipe": recipe,
        "init": init,
        "seed": config.seed,
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in _VERSIONS},
    }
    try:
        path.mkdir(parents=True, exist_ok=True)
        write_atomically(path / "config.json", to_json(config))
        write_atomically(path / "run.json", json.dumps(run, indent=2))
    except OSError as e:
        raise InputError(f"cannot write work directory {path}: {e.strerror}") from None
    return Workdir(path, config, class_names, category_ids)


def write_atomically(path: Path, text: str) -> None:
    """Whoever reads `path`, at any moment, finds all of the old text or all of the new."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # run from a checkout
        return None


class Checkpoints:
    """The checkpoints of a work directory: the newest `keep` and the one with the best AP."""

    def __init__(self, path: Path, *, keep: int = 1, read_only: bool = False):
        logging.getLogger("absl").setLevel(logging.ERROR)  # orbax tells every step of every save
        self._path = path
        policy = policies.AnyPreservationPolicy(
            [policies.LatestN(keep), policies.BestN(get_metric_fn=_ap, n=1, keep_checkpoints_without_metrics=False)]
        )
        options = {"read_only": True} if read_only else {"preservation_policy": policy, "cleanup_tmp_directories": True}
        self._manager = ocp.CheckpointManager(
            (path / "checkpoints").absolute(),
            options=ocp.CheckpointManagerOptions(best_fn=_ap, **options),
            item_handlers={name: ocp.StandardCheckpointHandler() for name in ("weights", "optimiser")},
        )

    def save(
        self, step: int, weights: dict[str, Any], optimiser: dict[str, Any] | None = None, *, ap: float | None = None
    ) -> None:
        """Start writing a checkpoint; it counts once it is complete. Without an optimiser no run can go on from it.

        An `ap` makes it a candidate for the best, nan (there were no true boxes) does not.
        """
        items = {"weights": ocp.args.StandardSave(weights)}
        if optimiser is not None:
            items["optimiser"] = ocp.args.StandardSave(optimiser)
        metrics = None if ap is None or math.isnan(ap) else {"AP": float(ap)}
        self._manager.save(step, args=ocp.args.Composite(**items), metrics=metrics)

    def latest(self) -> int | None:
        """The newest step; None where there is none."""
        return self._manager.latest_step()

    def best(self) -> int | None:
        """The step with the highest AP; the newest where none was evaluated."""
        best = self._manager.best_step()
        return self._manager.latest_step() if best is None else best

    def check_resumable(self, step: int) -> None:
        """Raises: InputError: the checkpoint holds weights only."""
        if self._manager.item_metadata(step).get("optimiser") is None:
            raise InputError(
                f"{self._path} holds converted weights, which no run can go on from; "
                f"start one from them with train.py --init {self._path} and another --workdir"
            )

    def restore(self, step: int, weights: dict[str, Any], optimiser: dict[str, Any]) -> tuple[dict, dict]:
        """Read a checkpoint into the shapes, types and shardings of the given trees."""
        items = {"weights": ocp.args.StandardRestore(weights), "optimiser": ocp.args.StandardRestore(optimiser)}
        restored = self._manager.restore(step, args=ocp.args.Composite(**items))
        return restored["weights"], restored["optimiser"]

    def restore_weights(self, step: int) -> dict[str, Any]:
        """Read the weights alone, onto one device, whatever devices wrote them."""
        here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        metadata = self._manager.item_metadata(step)["weights"]
        like = jax.tree.map(lambda m: jax.ShapeDtypeStruct(m.shape, m.dtype, sharding=here), metadata)
        return self._manager.restore(step, args=ocp.args.Composite(weights=ocp.args.StandardRestore(like)))["weights"]

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()  # waits for what is being written


def _ap(metrics: dict[str, float]) -> float:
    return metrics["AP"]


def has_checkpoint(workdir: Path) -> bool:
    """Whether a run has anything to resume from.

    Raises: InputError: it holds weights only.
    """
    if not (workdir / "checkpoints").is_dir():
        return False
    with Checkpoints(workdir, read_only=True) as checkpoints:
        step = checkpoints.latest()
        if step is not None:
            checkpoints.check_resumable(step)
    return step is not None


def restore_weights(workdir: Path, which: Literal["best", "latest"] = "best") -> tuple[dict, dict, int]:
    """Read `(params, model_state, step)` of a run's best or newest checkpoint.

    Raises: InputError: the run has no checkpoint.
    """
    step = None
    if (workdir / "checkpoints").is_dir():
        with Checkpoints(workdir, read_only=True) as checkpoints:
            step = checkpoints.best() if which == "best" else checkpoints.latest()
            if step is not None:
                weights = checkpoints.restore_weights(step)
                return weights["params"], weights["model_state"], step
    raise InputError(f"{workdir} has no checkpoint yet; train.py writes the first one after save_steps steps")
