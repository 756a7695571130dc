"""From a released PyTorch checkpoint to a Predictor, or to a work directory with a certificate beside it."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float32

from cornerjax.config import Config, Model
from cornerjax.data.coco_classes import COCO_CATEGORIES
from cornerjax.data.coco_entries import is_name
from cornerjax.detectors import apply_preset, get_detector
from cornerjax.detectors.base import Detector, make_network, make_predictor_network
from cornerjax.errors import InputError, RunError, unusable
from cornerjax.files import place_of, read_npz, unfinished_folder, write_atomically
from cornerjax.inference.predictor import Predictor
from cornerjax.nn.functional import Tree, by_path, nested, parameter_count
from cornerjax.nn.layers import kernel_from_torch
from cornerjax.text import short
from cornerjax.validation import replaced
from cornerjax.weights.match import Match, match, plain_name
from cornerjax.weights.read import Source, Tensors, read_tensors
from cornerjax.workdir import versions

Forward = Callable[[Float32[np.ndarray, "b 3 H W"]], Mapping[str, np.ndarray]]
Options = Mapping[str, Any]  # by name, as validation.replaced takes them
COCO = {"root": "data/coco", "train": "train2017", "val": "val2017"}  # what released weights were trained on


@dataclasses.dataclass(frozen=True)
class Converted:
    """A checkpoint in our form.

    Attributes:
        preset: what `config` was made by.
        tensors: as they were read.
        match: where each of them went.
    """

    detector: Detector
    config: Config
    preset: str
    tensors: Tensors
    match: Match
    class_names: tuple[str, ...]

    def network(self) -> tuple[Callable[..., tuple[Any, Tree]], Tree, Tree]:
        """apply, params and model_state, see `nn.functional`."""
        apply, *empty = make_network(self.detector, self.config, None)
        params, model_state = (nested({path: self.match.values[path] for path in by_path(tree)}) for tree in empty)
        return apply, params, model_state

    def predictor(self) -> Predictor:
        apply, fold = make_predictor_network(self.detector, self.config)
        return Predictor(self.detector, apply, *fold(*self.network()[1:]), self.config, self.class_names)


def from_torch(
    name: str,
    source: Source,
    *,
    preset: str | None = None,
    class_names: str | Sequence[str] | None = None,
    test: Options | None = None,
    compute: Options | None = None,
) -> Predictor:
    """Open a released PyTorch checkpoint as a Predictor, which by default finds what the original program finds.

    Args:
        name: of the detector, in DETECTORS.
        source: path of a .pkl or .pth file, which is read without running code from it, or a dict {PyTorch name: NumPy
            array}; with or without "module.", in any of the layouts in which the detector was released.
        preset: one of those of the detector, see detectors.apply_preset; None: that of the layout, which is "released"
            for most. "clean" leaves out the original's defects.
        class_names: of each class, or the name of a single one; None: COCO's if there are 80.
        test: what is to differ from the preset's way from maps to boxes: options by name, such as {"flip": True}.
        compute: what is to differ from how the preset computes the network, such as {"precision": "default"}.
    Raises: InputError: no such detector or preset, an option cannot be used, the source cannot be read, or its tensors
        do not fit the detector.
    """
    return read(name, source, preset=preset, class_names=class_names, test=test, compute=compute).predictor()


def read(
    name: str,
    source: Source,
    *,
    preset: str | None = None,
    class_names: str | Sequence[str] | None = None,
    test: Options | None = None,
    compute: Options | None = None,
) -> Converted:
    """Read and check a checkpoint; arguments and errors as of from_torch."""
    detector, options = get_detector(name), {"test": test or {}, "compute": compute or {}}
    _configured(detector.defaults, detector.defaults.model, preset or "clean", options)  # before a large file is read
    names = _checked_names(class_names)
    tensors = read_tensors(source)
    found = match(detector, tensors.values, source=tensors.name)
    preset = preset or found.layout.preset
    config = _configured(detector.defaults, found.model, preset, options)
    detector.check(config)
    return Converted(detector, config, preset, tensors, found, _class_names(names, found.model.num_classes))


def _configured(defaults: Config, model: Model, preset: str, options: Options) -> Config:
    """The published configuration with another model, changed by a preset and then by options."""
    config = dataclasses.replace(replaced(defaults, {"data": COCO}), model=model)
    return replaced(apply_preset(config, preset), options)


def convert(
    name: str,
    source: Source,
    out: str | os.PathLike[str],
    *,
    preset: str | None = None,
    class_names: str | Sequence[str] | None = None,
    test: Options | None = None,
    compute: Options | None = None,
    forward: str | os.PathLike[str] | Forward | None = None,
) -> dict[str, Any]:
    """Write a checkpoint as a work directory for `cornerjax.load` and the commands eval, predict and train --init.

    Beside it stands `certificate.json`: where every tensor came from and that it was read back bit for bit.

    Args:
        out: local folder to write; it must not exist, or be empty and neither the current folder nor a mount point.
            Nothing is left in it if something goes wrong.
        forward: outputs of the original network to compare ours with: a .npz file with `images` (b, 3, H, W) float32 as
            the network takes them and heads by their PyTorch names, such as `tl_heats.1`; or a function from such
            images to such a dict, as a live PyTorch model.
        The others are those of from_torch.
    Returns: the certificate.
    Raises:
        InputError: as from_torch; `out` holds something or cannot be written; `forward` cannot be read.
        RunError: the disk is full, or does not keep what was written.
    """
    place = _new_place(out)
    converted = read(name, source, preset=preset, class_names=class_names, test=test, compute=compute)
    heads = largest_differences(converted, forward) if forward is not None else {}
    try:
        with unfinished_folder(place) as unfinished:
            _write(unfinished, converted)
            certificate = _certificate(unfinished, converted, heads)
            if changed := [entry["torch"] for entry in certificate["tensors"] if not entry["equal"]]:
                raise RunError(f"{out} is not kept: {changed[0]} was read back with other values; is the disk sound?")
            write_atomically(unfinished / "certificate.json", json.dumps(certificate, indent=1))
            unfinished.replace(place)
    except OSError as e:
        raise unusable(str(out), e) from None
    return certificate


def largest_differences(converted: Converted, forward: str | os.PathLike[str] | Forward) -> dict[str, float]:
    """The largest absolute difference of each head of ours from the original's; see convert."""
    if callable(forward):
        images = np.random.default_rng(0).standard_normal((1, 3, *converted.config.data.crop_px)).astype(np.float32)
        given = dict(forward(images))
    else:
        given = _recorded(Path(forward))
        images = given.pop("images")
    recorded = {plain_name(key): value for key, value in given.items()}
    names = converted.detector.torch_heads(converted.config.model, converted.match.layout)[-1]
    accepted = ", ".join(names.values())
    if not recorded:
        raise InputError(f"{forward} has no heads; there are {accepted}")
    for key, value in recorded.items():
        if key not in names.values():
            raise InputError(f"{forward} has {key}; heads are {accepted}")
        if not np.isfinite(value).all():
            raise InputError(f"{forward} has {key} with values that are infinite or no numbers; expected finite ones")
    try:
        maps = converted.predictor().forward(images.transpose(0, 2, 3, 1))
    except ValueError as e:
        raise InputError(f"images of {forward} do not fit the network: {e}") from None
    ours = {names[name]: np.asarray(value).transpose(0, 3, 1, 2) for name, value in _by_name(maps).items()}
    for key, value in recorded.items():
        if value.shape != ours[key].shape:
            raise InputError(f"{forward} has {key} of shape {value.shape}; ours is {ours[key].shape}")
    return {key: float(np.abs(ours[key] - value).max()) for key, value in recorded.items()}


def _by_name(maps: Mapping[str, Any]) -> dict[str, jax.Array]:
    """Every map, those of a list as "NAME.0" and so on, as Detector.heads names them."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(maps)
    return {jax.tree_util.keystr(path, simple=True, separator="."): value for path, value in leaves}


def _recorded(path: Path) -> dict[str, np.ndarray]:
    recorded = read_npz(path, "an .npz file with `images` and heads")
    if "images" not in recorded:
        raise InputError(f"{path} has no array `images`; it has {', '.join(recorded) or 'nothing'}")
    images = recorded["images"]
    if images.ndim != 4 or images.shape[1] != 3 or images.dtype != np.float32:
        raise InputError(f"{path} has `images` of shape {images.shape}, {images.dtype}; expected (b, 3, H, W), float32")
    return recorded


def _write(folder: Path, converted: Converted) -> None:
    names, known = converted.class_names, {name: number for number, name in COCO_CATEGORIES}
    # They import orbax, which a Predictor of PyTorch's weights does without.
    from cornerjax.checkpoint import Checkpoints
    from cornerjax.new_workdir import create_workdir

    of_coco = len(set(names)) == len(names) and set(names) <= known.keys()
    ids = tuple(known[name] for name in names) if of_coco else tuple(range(1, len(names) + 1))
    create_workdir(folder, converted.config, names, ids, recipe=f"converted from {converted.tensors.name}")
    _, params, model_state = converted.network()
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(0, {"params": params, "model_state": model_state})


def _certificate(folder: Path, converted: Converted, heads: dict[str, float]) -> dict[str, Any]:
    """Read the checkpoint back and compare it with the source, tensor by tensor."""
    from cornerjax.checkpoint import restore_weights

    params, model_state, _ = restore_weights(folder)
    written = by_path(params) | by_path(model_state)
    tensors = []
    for path, key in sorted(converted.match.keys.items(), key=lambda item: item[1]):
        value = converted.tensors.values[key]
        equal = np.asarray(written[path]).tobytes() == kernel_from_torch(value).tobytes()  # also the sign of zeros
        entry = {"torch": key, "ours": path, "shape": list(value.shape), "equal": equal}
        tensors.append(entry | {"sha256": hashlib.sha256(value.tobytes()).hexdigest()})
    return {
        "detector": converted.config.model.detector,
        "source": converted.tensors.name,
        "sha256": converted.tensors.sha256,
        "layout": converted.match.layout.name,
        "preset": converted.preset,
        "classes": converted.config.model.num_classes,
        "parameters": parameter_count(params),
        "equal": all(entry["equal"] for entry in tensors),
        "unused": converted.match.unused,
        "converted_to_float32": converted.tensors.converted,
        "largest_difference_of_heads": heads,
        "versions": versions("torch"),
        "tensors": tensors,
    }


def _new_place(out: str | os.PathLike[str]) -> Path:
    """The folder that `out` is, without links and dots, if another one can be renamed to it.

    Raises: InputError: it holds something, or cannot be replaced.
    """
    said, folder = str(out) or "an empty path", place_of(out)
    if "://" in said:
        raise InputError(f"{said} is not a local folder; give one, and copy it there")
    try:
        taken = os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir()))
    except OSError as e:
        raise unusable(said, e) from None
    if not str(out) or folder == Path.cwd() or os.path.ismount(folder):
        raise InputError(f"{said} is the current folder or a mount point; give a new folder, such as one inside it")
    if taken:
        raise InputError(f"{said} is there already; give another folder for the converted weights")
    return folder


def _checked_names(given: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """Class names as they were given; text is the name of one class.

    Raises: InputError: one is no text that can be written.
    """
    names = (given,) if isinstance(given, str) else given
    for name in names or ():
        if not is_name(name) or not name:
            raise InputError(f"class name {short(name)}: expected text that can be written")
    return None if names is None else tuple(names)


def _class_names(given: tuple[str, ...] | None, count: int) -> tuple[str, ...]:
    if given is not None and len(given) != count:
        raise InputError(f"{len(given)} class names for a checkpoint with {count} classes; give one for each")
    if given is not None:
        return given
    if count == len(COCO_CATEGORIES):
        return tuple(name for _, name in COCO_CATEGORIES)
    return tuple(f"class {i}" for i in range(count))
