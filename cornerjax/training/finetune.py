"""Fine-tuning: a new run starts from the weights of another, all but those that depend on the classes."""

import dataclasses
import json
from pathlib import Path

import numpy as np

from cornerjax.checkpoint import open_workdir, restore_weights
from cornerjax.config import Config, Model
from cornerjax.detectors import get_detector
from cornerjax.errors import InputError
from cornerjax.nn.functional import Array, Tree, by_path, functional, nested
from cornerjax.validation import flat

LISTED = 10  # arrays that an error names
FREE = ("num_classes", "pooling")  # options of the network that may differ: no array depends on them alone


def init_weights(
    params: Tree,
    model_state: Tree,
    config: Config,
    class_names: tuple[str, ...],
    checkpoint: Path,
) -> tuple[Tree, Tree, list[str]]:
    """Take over the weights of another run's best checkpoint, or of converted ones.

    Arrays that depend on the number of classes are taken over only if the classes are the same, in the same order.

    Args:
        params, model_state: of `nn.functional`, as initialised.
        class_names: of the new run.
        checkpoint: a work directory.
    Returns: params, model_state, and lines that say what was loaded and what was not.
    Raises: InputError: the checkpoint is of another network, or has arrays that are missing, unknown or of another
        shape without the classes explaining it.
    """
    run = open_workdir(checkpoint)
    _check_same_network(run.config.model, config.model, checkpoint)
    *trees, _ = restore_weights(run.path)
    theirs = by_path(trees[0]) | by_path(trees[1])
    ours = by_path(params) | by_path(model_state)
    same_classes = run.class_names == class_names
    fresh = set() if same_classes else class_dependent(config.model)
    if wrong := _unexplained(theirs, ours, fresh):
        more = f" and {len(wrong) - LISTED} more" if len(wrong) > LISTED else ""
        raise InputError(f"{checkpoint} does not fit this network: {', '.join(wrong[:LISTED])}{more}")
    taken = {path: value if path in fresh else np.asarray(theirs[path]) for path, value in ours.items()}
    loaded = [path for path in taken if path not in fresh]
    said = [f"from {checkpoint}: {len(loaded)} arrays, {sum(taken[path].size for path in loaded):,} numbers loaded"]
    if fresh:
        said.append(
            f"not loaded, for they depend on the classes ({_few(run.class_names)} there, {_few(class_names)} here): "
            + ", ".join(sorted(fresh))
        )
    params, model_state = (nested({path: taken[path] for path in by_path(tree)}) for tree in (params, model_state))
    return params, model_state, said


def record_of(checkpoint: Path) -> dict[str, str]:
    """What run.json says of the weights a run started from: the work directory; the released file's SHA-256, if known.

    Raises: InputError: the work directory's certificate.json is damaged.
    """
    record = {"workdir": str(checkpoint.absolute())}
    file = checkpoint / "certificate.json"
    if not file.is_file():
        return record
    try:
        return record | {"source_sha256": json.loads(file.read_text())["sha256"]}
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{file} is damaged; expected the JSON that cornerjax weights wrote") from None


def class_dependent(model: Model) -> set[str]:
    """Paths of the arrays whose shapes change with the number of classes."""

    def shapes(num_classes: int) -> dict[str, tuple[int, ...]]:
        detector = get_detector(model.detector)
        _, *trees = functional(detector.build(dataclasses.replace(model, num_classes=num_classes), None))
        return {path: value.shape for tree in trees for path, value in by_path(tree).items()}

    here, other = shapes(model.num_classes), shapes(model.num_classes + 1)
    return {path for path in here if here[path] != other[path]}


def _check_same_network(theirs: Model, ours: Model, checkpoint: Path) -> None:
    there, here = flat(theirs), flat(ours)
    other = [name for name in there | here if name not in FREE and there.get(name) != here.get(name)]
    if other:
        listed = "; ".join(f"model.{name}: {there.get(name)}, {here.get(name)}" for name in other)
        raise InputError(f"{checkpoint} has another network (there, here: {listed}); give the same settings")


def _unexplained(theirs: dict[str, Array], ours: dict[str, Array], fresh: set[str]) -> list[str]:
    return [
        *(f"{path} is missing" for path in sorted(set(ours) - set(theirs))),
        *(f"{path} is unknown" for path in sorted(set(theirs) - set(ours))),
        *(
            f"{path} has the shape {theirs[path].shape}, expected {ours[path].shape}"
            for path in sorted(set(ours) & set(theirs) - fresh)
            if theirs[path].shape != ours[path].shape
        ),
    ]


def _few(names: tuple[str, ...]) -> str:
    return f"{len(names)}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
