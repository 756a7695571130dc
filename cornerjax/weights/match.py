"""The keys of a released checkpoint -> our variables; a checkpoint that does not fit is refused with the reason."""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from cornerjax.config import Model
from cornerjax.detectors import DETECTORS, get_detector
from cornerjax.detectors.base import Detector
from cornerjax.errors import InputError
from cornerjax.nn.functional import by_path, functional
from cornerjax.nn.layers import kernel_from_torch

LISTED = 10  # keys of each kind that an error names
LAYOUTS = ("lite", "eccv18")  # CornerNet-Lite's names, and those of CornerNet's first repository
HEAT_BIAS = r"(tl|t|ct)_heats\.0\.1\.bias"

# A name of the first repository -> CornerNet-Lite's, the first rule that fits.
ECCV18_RULES = (
    (r"^kps\.", "hg.hgs."),
    (r"^(pre|cnvs|inters|cnvs_|inters_)\.", r"hg.\1."),
    (r"^(tl|br)_cnvs\.", r"\1_modules."),
    (r"^(tl|br)_regrs\.", r"\1_offs."),
)


def plain_name(key: str) -> str:
    """The key without the "module." that PyTorch's parallel wrapper puts before it."""
    return key.removeprefix("module.")


def layout_of(names: Iterable[str]) -> str:
    """Which of LAYOUTS plain names have."""
    return "eccv18" if any(re.match(r"kps\.|(tl|br)_(cnvs|regrs)\.", name) for name in names) else "lite"


def lite_name(name: str) -> str:
    """CornerNet-Lite's name for one of the first repository's."""
    for pattern, replacement in ECCV18_RULES:
        if re.match(pattern, name):
            return re.sub(pattern, replacement, name)
    return name


def match(
    detector: Detector, values: Mapping[str, np.ndarray], *, source: str
) -> tuple[Model, dict[str, np.ndarray], dict[str, str]]:
    """Find the place of every tensor of a checkpoint.

    Args:
        detector: the one that the checkpoint is said to be of.
        values: float32 arrays in PyTorch's layout, by the checkpoint's names.
        source: its name, for errors.
    Returns: the network, with as many classes as the checkpoint has; our arrays by path; the checkpoint's name of each
        path.
    Raises: InputError: keys are unknown, missing, given twice (with and without "module.", or in both layouts), or have
        another shape; they are listed.
    """
    rename = lite_name if layout_of(map(plain_name, values)) == "eccv18" else str
    named = {rename(plain_name(key)): key for key in values}
    model = dataclasses.replace(detector.defaults, num_classes=_num_classes(named, values))
    names = detector.torch_names(model)
    shapes = _shapes(detector, model)
    ours = {path: kernel_from_torch(values[named[name]]) for name, path in names.items() if name in named}
    problems = {
        "missing": sorted(set(names) - set(named)),
        "unknown": sorted(named[name] for name in set(named) - set(names)),
        "given twice": sorted(set(values) - set(named.values())),
        "of another shape": [
            f"{named[name]} {values[named[name]].shape}, expected {_in_torch(shapes[path])}"
            for name, path in names.items()
            if name in named and ours[path].shape != shapes[path]
        ],
    }
    if any(problems.values()):
        listed = "; ".join(f"{len(keys)} {kind}: {_listed(keys)}" for kind, keys in problems.items() if keys)
        other = _fitting(set(named), besides=model.detector)
        hint = f"; its names are those of {other}" if other else ""
        raise InputError(f"{source} does not fit {model.detector}{hint}; keys {listed}")
    return model, ours, {path: named[name] for name, path in names.items()}


def _num_classes(named: Mapping[str, str], values: Mapping[str, np.ndarray]) -> int:
    """As many as the first heat map's bias has; any number where there is none, for then keys are missing."""
    return next((values[key].size for name, key in named.items() if re.fullmatch(HEAT_BIAS, name)), 0) or 80


def _shapes(detector: Detector, model: Model) -> dict[str, tuple[int, ...]]:
    _, params, model_state = functional(detector.build(model, None))
    return {path: value.shape for path, value in (by_path(params) | by_path(model_state)).items()}


def _in_torch(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The inverse of what kernel_from_torch does to shapes."""
    return (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape


def _fitting(names: set[str], *, besides: str) -> str:
    """Another detector whose names these are, if there is one."""
    for name in DETECTORS:
        detector = get_detector(name)
        if (
            name != besides
            and set(detector.torch_names(dataclasses.replace(detector.defaults, num_classes=1))) == names
        ):
            return name
    return ""


def _listed(keys: list[Any]) -> str:
    more = f" and {len(keys) - LISTED} more" if len(keys) > LISTED else ""
    return ", ".join(map(str, keys[:LISTED])) + more
