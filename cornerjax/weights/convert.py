"""From a released PyTorch checkpoint to a Predictor, or to a work directory with a certificate beside it."""

import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from cornerjax.checkpoint import Checkpoints, create_workdir, restore_weights
from cornerjax.config import Config, Data
from cornerjax.data.coco_classes import COCO_CATEGORIES
from cornerjax.detectors import get_detector
from cornerjax.detectors.base import Detector
from cornerjax.errors import InputError
from cornerjax.files import write_atomically
from cornerjax.inference.predictor import Predictor
from cornerjax.legacy import PRESETS, apply_preset
from cornerjax.nn.functional import by_path, functional, nested
from cornerjax.nn.layers import kernel_from_torch
from cornerjax.weights.match import layout_of, lite_name, match, plain_name
from cornerjax.weights.read import Source, Tensors, read_tensors
from cornerjax.workdir import versions

Forward = Callable[[Float32[np.ndarray, "b 3 H W"]], Mapping[str, np.ndarray]]
PACKAGES = ("cornerjax", "jax", "jaxlib", "flax", "numpy", "torch")  # of the certificate


@dataclasses.dataclass(frozen=True)
class Converted:
    """A checkpoint in our form.

    Attributes:
        tensors: as they were read.
        names: the checkpoint's key of each of our paths.
        values: our arrays by path.
    """

    detector: Detector
    config: Config
    preset: str
    tensors: Tensors
    names: dict[str, str]
    values: dict[str, np.ndarray]
    class_names: tuple[str, ...]

    def trees(self) -> tuple[Callable, dict[str, Any], dict[str, Any]]:
        """apply, params and model_state, see `nn.functional`."""
        apply, *empty = functional(self.detector.build(self.config.model, None))
        params, model_state = (nested({path: self.values[path] for path in by_path(tree)}) for tree in empty)
        return apply, params, model_state

    def predictor(self) -> Predictor:
        return Predictor(self.detector, *self.trees(), self.config, self.class_names)


def from_torch(
    name: str, source: Source, *, preset: str | None = None, class_names: Sequence[str] | None = None
) -> Predictor:
    """Open a released PyTorch checkpoint as a Predictor, which by default finds what the original program finds.

    Args:
        name: of the detector, in DETECTORS.
        source: path of a .pkl or .pth file, which is read without running code from it, or a dict {PyTorch name: NumPy
            array}; with or without "module.", in the layout of CornerNet-Lite or of CornerNet's first repository.
        preset: one of `legacy.PRESETS`; None: "released", or "released_eccv18" for the first repository's layout.
            "clean" leaves out the original's defects.
        class_names: of each class; None: COCO's if there are 80.
    Raises: InputError: no such detector or preset, the source cannot be read, or its tensors do not fit the detector.
    """
    return read(name, source, preset=preset, class_names=class_names).predictor()


def read(
    name: str, source: Source, *, preset: str | None = None, class_names: Sequence[str] | None = None
) -> Converted:
    """Read and check a checkpoint; arguments and errors as of from_torch."""
    detector = get_detector(name)
    if preset not in (None, *PRESETS):
        raise InputError(f"no preset {preset!r}; there are: {', '.join(PRESETS)}")
    tensors = read_tensors(source)
    model, values, names = match(detector, tensors.values, source=tensors.name)
    if preset is None:
        preset = "released_eccv18" if layout_of(map(plain_name, tensors.values)) == "eccv18" else "released"
    data = Data(root="data/coco", train="train2017", val="val2017", crop_px=detector.crop_px)
    config = apply_preset(Config(model=model, data=data, test=detector.test_defaults), preset)
    return Converted(detector, config, preset, tensors, names, values, _class_names(class_names, model.num_classes))


def convert(
    name: str,
    source: Source,
    out: str | os.PathLike[str],
    *,
    preset: str | None = None,
    class_names: Sequence[str] | None = None,
    forward: str | os.PathLike[str] | Forward | None = None,
) -> dict[str, Any]:
    """Write a checkpoint as a work directory for `cornerjax.load` and the commands eval, predict and train --init.

    Beside it stands `certificate.json`: where every tensor came from and that it was read back bit for bit.

    Args:
        out: folder to write; it must not exist, or be empty. Nothing is left in it if something goes wrong.
        forward: outputs of the original network to compare ours with: a .npz file with `images` (b, 3, H, W) float32 as
            the network takes them and heads by their PyTorch names, such as `tl_heats.1`; or a function from such
            images to such a dict, as a live PyTorch model.
        The others are those of from_torch.
    Returns: the certificate.
    Raises: InputError: as from_torch; `out` holds something, cannot be written or does not keep what was written;
        `forward` cannot be read.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is there already; give another folder for the converted weights")
    converted = read(name, source, preset=preset, class_names=class_names)
    heads = largest_differences(converted, forward) if forward is not None else {}
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as e:
        raise InputError(f"cannot write {out}: {e.strerror}") from None
    try:
        unfinished.chmod(0o755)  # mkdtemp's folders are private
        _write(unfinished, converted)
        certificate = _certificate(unfinished, converted, heads)
        if changed := [entry["torch"] for entry in certificate["tensors"] if not entry["equal"]]:
            raise InputError(f"{out} is not kept: {changed[0]} was read back with other values; is the disk sound?")
        write_atomically(unfinished / "certificate.json", json.dumps(certificate, indent=1))
        unfinished.replace(out)
    except OSError as e:
        raise InputError(f"cannot write {out}: {e.strerror}") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return certificate


def largest_differences(converted: Converted, forward: str | os.PathLike[str] | Forward) -> dict[str, float]:
    """The largest absolute difference of each head of ours from the original's; see convert."""
    if callable(forward):
        images = np.random.default_rng(0).standard_normal((1, 3, *converted.config.data.crop_px)).astype(np.float32)
        given = dict(forward(images))
    else:
        given = _recorded(Path(forward))
        images = given.pop("images")
    recorded = {lite_name(plain_name(key)): value for key, value in given.items()}
    try:
        ours = _by_torch_name(
            converted.predictor().forward(images.transpose(0, 2, 3, 1)), converted.config.model.stacks
        )
    except ValueError as e:
        raise InputError(f"images of {forward} do not fit the network: {e}") from None
    if not recorded:
        raise InputError(f"{forward} has no heads; there are {', '.join(ours)}")
    for key, value in recorded.items():
        if key not in ours:
            raise InputError(f"{forward} has {key}; heads are {', '.join(ours)}")
        if value.shape != ours[key].shape:
            raise InputError(f"{forward} has {key} of shape {value.shape}; ours is {ours[key].shape}")
        if not np.isfinite(value).all():
            raise InputError(f"{forward} has {key} with values that are infinite or no numbers; expected finite ones")
    return {key: float(np.abs(ours[key] - value).max()) for key, value in recorded.items()}


def _recorded(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise InputError(f"{path} is no file; expected an .npz file with `images` and heads")
    try:
        with path.open("rb") as file:
            recorded = dict(np.load(file))
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
        raise InputError(f"cannot read {path}; expected an intact .npz file of arrays") from None
    if "images" not in recorded:
        raise InputError(f"{path} has no array `images`; it has {', '.join(recorded) or 'nothing'}")
    images = recorded["images"]
    if images.ndim != 4 or images.shape[1] != 3 or images.dtype != np.float32:
        raise InputError(f"{path} has `images` of shape {images.shape}, {images.dtype}; expected (b, 3, H, W), float32")
    return recorded


def _by_torch_name(maps: Mapping[str, Any], stacks: int) -> dict[str, np.ndarray]:
    """The outputs of Predictor.forward in PyTorch's layout, by CornerNet-Lite's names of the last stack."""
    named: dict[str, Any] = {}
    for name, value in maps.items():
        if name == "attention":
            named |= {f"att_modules.{stacks - 1}.{i}": part for i, part in enumerate(value)}
        else:
            named[f"{name}s.{stacks - 1}"] = value
    return {key: np.asarray(value).transpose(0, 3, 1, 2) for key, value in named.items()}


def _write(folder: Path, converted: Converted) -> None:
    known = {name: number for number, name in COCO_CATEGORIES}
    ids = [known.get(name, i + 1) for i, name in enumerate(converted.class_names)]
    ids = (
        ids if len(set(ids)) == len(ids) and set(converted.class_names) <= set(known) else list(range(1, len(ids) + 1))
    )
    recipe = f"converted from {converted.tensors.name}"
    create_workdir(folder, converted.config, converted.class_names, tuple(ids), recipe=recipe)
    _, params, model_state = converted.trees()
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(0, {"params": params, "model_state": model_state})


def _certificate(folder: Path, converted: Converted, heads: dict[str, float]) -> dict[str, Any]:
    """Read the checkpoint back and compare it with the source, tensor by tensor."""
    params, model_state, _ = restore_weights(folder)
    written = by_path(params) | by_path(model_state)
    tensors = []
    for path, key in sorted(converted.names.items(), key=lambda item: item[1]):
        value = converted.tensors.values[key]
        equal = np.asarray(written[path]).tobytes() == kernel_from_torch(value).tobytes()  # also the sign of zeros
        entry = {"torch": key, "ours": path, "shape": list(value.shape), "equal": equal}
        tensors.append(entry | {"sha256": hashlib.sha256(value.tobytes()).hexdigest()})
    return {
        "detector": converted.config.model.detector,
        "source": converted.tensors.name,
        "sha256": converted.tensors.sha256,
        "preset": converted.preset,
        "classes": converted.config.model.num_classes,
        "parameters": sum(value.size for value in by_path(params).values()),
        "equal": all(entry["equal"] for entry in tensors),
        "converted_to_float32": converted.tensors.converted,
        "largest_difference_of_heads": heads,
        "versions": versions(PACKAGES),
        "tensors": tensors,
    }


def _class_names(given: Sequence[str] | None, count: int) -> tuple[str, ...]:
    if given is not None and len(given) != count:
        raise InputError(f"{len(given)} class names for a checkpoint with {count} classes; give one for each")
    if given is not None:
        return tuple(given)
    if count == len(COCO_CATEGORIES):
        return tuple(name for _, name in COCO_CATEGORIES)
    return tuple(f"class {i}" for i in range(count))
