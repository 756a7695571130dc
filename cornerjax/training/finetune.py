"""Fine-tuning: a new run starts from the weights of another, all but those that depend on the classes, or from those
of its backbone, whatever was trained with it."""

import collections
import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np

from cornerjax.checkpoint import restore_weights
from cornerjax.config import Config, Model
from cornerjax.detectors import get_detector
from cornerjax.detectors.base import variable_shapes
from cornerjax.errors import InputError, named
from cornerjax.files import is_file, json_if_there, read_json, sha256_of
from cornerjax.nn.folding import check_weights
from cornerjax.nn.functional import Array, Tree, by_path, functional, nested
from cornerjax.text import plain
from cornerjax.validation import flat, replaced
from cornerjax.weights.match import match_backbone
from cornerjax.weights.read import read_tensors
from cornerjax.workdir import Workdir, open_workdir

LISTED = 10  # arrays that an error names
FREE = ("num_classes", "pooling")  # options of the network that may differ: no array depends on them alone
IMAGE_CHANNELS = 3
BACKBONE = "backbone."  # what the paths of its arrays begin with


@dataclasses.dataclass(frozen=True)
class Init:
    """What a new run starts from.

    Attributes:
        checkpoint: a work directory; for a backbone also a PyTorch file of one alone, as trained on ImageNet.
        part: "backbone": what lies below the heads, of any detector that has an equal backbone.
        rgb: the weights know RGB images: turn round the input channels of their first convolution, for here images are
            BGR. The originals leave them as they are.
    """

    checkpoint: Path
    part: Literal["all", "backbone"] = "all"
    rgb: bool = False


def init_weights(
    params: Tree, model_state: Tree, config: Config, class_names: tuple[str, ...], init: Init
) -> tuple[Tree, Tree, list[str]]:
    """Take over the weights of another run's best checkpoint, or of converted ones.

    Arrays that depend on the number of classes are taken over only if the classes are the same, in the same order.

    Args:
        params, model_state: of `nn.functional`, as initialised.
        class_names: of the new run.
    Returns: params, model_state, and lines that say what was loaded and what was not.
    Raises: InputError: the checkpoint is of another network or backbone, or has arrays that are missing, unknown or of
        another shape without the classes explaining it.
    """
    ours = by_path(params) | by_path(model_state)
    take = _all if init.part == "all" else _backbone
    taken, said = take(ours, config, class_names, init.checkpoint)
    if init.rgb:
        kernels = (path for path, value in ours.items() if path.startswith(BACKBONE) and value.ndim == 4)
        first = next(path for path in kernels if ours[path].shape[2] == IMAGE_CHANNELS)
        taken[first] = taken[first][:, :, ::-1]
        said.append(f"{first}: its input channels turned round, from RGB to BGR")
    params, model_state = (nested({path: taken[path] for path in by_path(tree)}) for tree in (params, model_state))
    return params, model_state, said


def _all(
    ours: dict[str, Array], config: Config, class_names: tuple[str, ...], checkpoint: Path
) -> tuple[dict[str, Array], list[str]]:
    """The arrays to start from, and what is said of them."""
    if checkpoint.is_file():
        raise InputError(
            f"{checkpoint} is a file; expected a work directory, which cornerjax weights makes of a released file, or "
            "--init-part backbone and the file of a backbone alone"
        )
    run = open_workdir(checkpoint)
    _check_same_network(run.config.model, config.model, checkpoint)
    theirs = _weights_of(run)
    same_classes = run.class_names == class_names
    fresh = set() if same_classes else class_dependent(config.model)
    _check_arrays(theirs, ours, fresh, checkpoint)
    taken = {path: value if path in fresh else np.asarray(theirs[path]) for path, value in ours.items()}
    said = [_loaded([value for path, value in taken.items() if path not in fresh], checkpoint)]
    if fresh:
        said.append(
            f"not loaded, for they depend on the classes ({_few(run.class_names)} there, {_few(class_names)} here): "
            + ", ".join(sorted(fresh))
        )
    return taken, said


def _backbone(
    ours: dict[str, Array], config: Config, class_names: tuple[str, ...], checkpoint: Path
) -> tuple[dict[str, Array], list[str]]:
    """As _all, of the arrays below the heads; the classes do not matter to them."""
    theirs: dict[str, Array]
    unused: list[str] = []
    if checkpoint.is_file():
        detector, tensors = get_detector(config.model.detector), read_tensors(checkpoint)
        found = match_backbone(detector, config.model, tensors.values, source=tensors.name)
        theirs, unused = {**found.values}, found.unused
    else:
        theirs = _backbone_of_run(ours, config.model, checkpoint)
    said = [_loaded(list(theirs.values()), checkpoint)]
    if rest := collections.Counter(".".join(path.split(".")[:2]) for path in ours if path not in theirs):
        listed = ", ".join(f"{name} ({count} arrays)" for name, count in rest.items())
        said.append(f"not loaded, and as in a run without --init: {listed}")
    if unused:
        said.append(f"not needed: {', '.join(unused)}")
    return {path: np.asarray(theirs.get(path, value)) for path, value in ours.items()}, said


def _backbone_of_run(ours: dict[str, Array], model: Model, checkpoint: Path) -> dict[str, Array]:
    run = open_workdir(checkpoint)
    backbones = (vars(m)["backbone"] for m in (run.config.model, model))
    there, here = ({"": type(backbone).__name__, **flat(backbone, ".")} for backbone in backbones)
    other = [name for name in there | here if there.get(name) != here.get(name)]
    if other:
        listed = "; ".join(f"model.backbone{name}: {there.get(name)}, {here.get(name)}" for name in other)
        raise InputError(f"{checkpoint} has another backbone (there, here: {listed}); give the same settings")
    both = _weights_of(run), ours
    theirs, expected = ({path: value for path, value in tree.items() if path.startswith(BACKBONE)} for tree in both)
    _check_arrays(theirs, expected, set(), checkpoint)
    return theirs


def _weights_of(run: Workdir) -> dict[str, Array]:
    """Of its best checkpoint.

    Raises: InputError: they are not those of the run's network, or not finite. RunError: they cannot be read.
    """
    model = run.config.model
    if hasattr(model, "pooling"):  # which may name code to be imported; no array depends on it
        model = replaced(model, {"pooling": "corner"})
    shapes = variable_shapes(get_detector(model.detector), model)
    params, model_state, _ = restore_weights(run.path, shapes=lambda: shapes)
    weights = {path: np.asarray(value) for path, value in (by_path(params) | by_path(model_state)).items()}
    with named(str(run.path)):
        check_weights(weights, shapes)
    return {**weights}


def _loaded(arrays: list[Array], checkpoint: Path) -> str:
    return f"from {checkpoint}: {len(arrays)} arrays, {sum(value.size for value in arrays):,} numbers loaded"


def record_of(init: Init) -> dict[str, str]:
    """What run.json says of the weights a run started from: where they lie; and, if known, the released file's SHA-256,
    or the recipe and the hash of the images that they were trained with.

    Raises: InputError: the work directory's certificate.json is damaged.
    """
    checkpoint = init.checkpoint
    record: dict[str, str] = {"part": init.part} if init.part != "all" else {}
    if checkpoint.is_file():
        return record | {"file": str(checkpoint.absolute()), "source_sha256": sha256_of(checkpoint)}
    record |= {"workdir": str(checkpoint.absolute())}
    file = checkpoint / "certificate.json"
    if not is_file(file):
        run = json_if_there(checkpoint / "run.json")
        known = run if isinstance(run, dict) and run.get("trained_on") else {}
        return record | {name: str(known[name]) for name in ("recipe", "trained_on") if name in known}
    expected = "the JSON that cornerjax weights wrote"
    certificate = read_json(file, expected)
    digest = certificate.get("sha256") if isinstance(certificate, dict) else None
    if not isinstance(digest, str):
        raise InputError(f"{file} is damaged; expected {expected}")
    return record | {"source_sha256": digest}


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


def _check_arrays(theirs: dict[str, Array], ours: dict[str, Array], fresh: set[str], checkpoint: Path) -> None:
    if wrong := _unexplained(theirs, ours, fresh):
        more = f" and {len(wrong) - LISTED} more" if len(wrong) > LISTED else ""
        raise InputError(f"{checkpoint} does not fit this network: {', '.join(wrong[:LISTED])}{more}")


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
    return f"{len(names)}: {plain(', '.join(names[:3]))}{', ...' if len(names) > 3 else ''}"
