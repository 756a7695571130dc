"""The keys of a released checkpoint -> our variables; a checkpoint that does not fit is refused with the reason."""

import collections
import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cornerjax.config import Model
from cornerjax.detectors import DETECTORS
from cornerjax.detectors.base import Detector, variable_shapes
from cornerjax.detectors.layouts import TorchLayout
from cornerjax.errors import InputError
from cornerjax.nn.layers import kernel_from_torch
from cornerjax.validation import replaced

LISTED = 10  # keys of each kind that an error names

Shape = tuple[int, ...]
Problems = dict[str, list[str]]  # keys, by what is wrong with them


class Match(NamedTuple):
    """A checkpoint of which every tensor has its place.

    Attributes:
        layout: whose names it has.
        model: the network, with as many classes as the checkpoint has.
        values: our arrays by path.
        keys: the checkpoint's key of each path.
        unused: keys that such a checkpoint has and the network does not need.
    """

    layout: TorchLayout
    model: Model
    values: dict[str, np.ndarray]
    keys: dict[str, str]
    unused: list[str]


def plain_name(key: str) -> str:
    """The key without the "module." that PyTorch's parallel wrapper puts before it."""
    return key.removeprefix("module.")


def match(detector: Detector, values: Mapping[str, np.ndarray], *, source: str) -> Match:
    """Find the place of every tensor of a checkpoint, in that of the detector's layouts whose names fit.

    Args:
        detector: the one that the checkpoint is said to be of.
        values: float32 arrays in PyTorch's layout, by the checkpoint's keys.
        source: its name, for errors.
    Raises: InputError: keys are unknown, missing or given twice (with and without "module."), or have another shape;
        those of the layout that fits best are listed.
    """
    name = detector.defaults.model.detector
    if not detector.torch_layouts:
        raise InputError(f"no released checkpoints of {name} are known; {source} cannot be read as one")
    published = detector.defaults.model
    tried = [_try(detector, layout, replaced(published, layout.model), values) for layout in detector.torch_layouts]
    found, problems = min(tried, key=lambda one: sum(map(len, one[1].values())))
    if any(problems.values()):
        hint = _hint(values, problems, besides=found.layout)
        said = _said(problems)
        raise InputError(f"{source} does not fit {name} in the layout of {found.layout.name}{hint}; keys {said}")
    return found


def match_backbone(detector: Detector, model: Model, values: Mapping[str, np.ndarray], *, source: str) -> Match:
    """Find the place of every tensor of a file that holds a backbone alone, as trained on ImageNet.

    Args:
        detector: whose network is to have it.
        model: of that network.
        values, source: as of match.
    Raises: InputError: as of match, or no such files are known of this backbone.
    """
    kind = type(vars(model)["backbone"])
    for layout in detector.backbone_layouts:
        if type(layout.model["backbone"]) is kind:
            break
    else:
        known = ", ".join(layout.name for layout in detector.backbone_layouts) or "none"
        raise InputError(f"of {model.detector} no files of a {kind.__name__} backbone alone are known; known: {known}")
    found, problems = _try(detector, layout, model, values)
    if any(problems.values()):
        hint = _hint(values, problems, besides=None)
        raise InputError(f"{source} does not fit the backbone of this network{hint}; keys {_said(problems)}")
    return found


def _try(
    detector: Detector, layout: TorchLayout, model: Model, values: Mapping[str, np.ndarray]
) -> tuple[Match, Problems]:
    """What a checkpoint is in one layout, and what keeps it from being that."""
    one, two = (variable_shapes(detector, dataclasses.replace(model, num_classes=classes)) for classes in (1, 2))
    places = detector.torch_names(dataclasses.replace(model, num_classes=1), layout)
    given = {plain_name(key): key for key in values}
    unused = {name for name in given if name not in places and _is_unused(name, layout)}
    keys = {path: given[name] for name, path in places.items() if name in given}
    ours = {path: kernel_from_torch(values[key]) for path, key in keys.items()}
    classes = _num_classes(ours, one, two)
    expected = {path: _with_classes(classes, one[path], two[path]) for path in ours}
    problems = {
        "missing": sorted(places.keys() - given.keys()),
        "unknown": sorted(given[name] for name in given.keys() - places.keys() - unused),
        "given twice": sorted(values.keys() - given.values()),
        "of another shape": [
            f"{key} {values[key].shape}, expected {_in_torch(expected[path])}"
            for path, key in keys.items()
            if ours[path].shape != expected[path]
        ],
    }
    model = dataclasses.replace(model, num_classes=classes)
    return Match(layout, model, ours, keys, sorted(given[name] for name in unused)), problems


def _num_classes(ours: Mapping[str, np.ndarray], one: Mapping[str, Shape], two: Mapping[str, Shape]) -> int:
    """What most arrays say whose shapes depend on it; 1 where there are none, for then keys are missing.

    Args:
        one, two: the shapes of all arrays of a network with one class, and with two.
    """
    said = collections.Counter(
        1 + (size - first) // (second - first)
        for path, value in ours.items()
        for size, first, second in zip(value.shape, one[path], two[path], strict=False)
        if first != second
    )
    return max([1, *(classes for classes, _ in said.most_common(1))])


def _with_classes(classes: int, one: Shape, two: Shape) -> Shape:
    """The shape of an array of a network with so many classes; one, two: with one class, and with two."""
    return tuple(first + (classes - 1) * (second - first) for first, second in zip(one, two, strict=True))


def _in_torch(shape: Shape) -> Shape:
    """The inverse of what kernel_from_torch does to shapes."""
    return (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape


def _is_unused(name: str, layout: TorchLayout) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in layout.unused)


def _hint(values: Collection[str], problems: Problems, *, besides: TorchLayout | None) -> str:
    """Whose names these are, if they are those of another layout or detector, or of a backbone alone."""
    if len(problems["missing"]) + len(problems["unknown"]) <= LISTED:
        return ""  # no two layouts have so much in common; to try all of them takes seconds
    names = {plain_name(key) for key in values}

    def are_of(detector: Detector, layout: TorchLayout) -> bool:
        model = dataclasses.replace(replaced(detector.defaults.model, layout.model), num_classes=1)
        return {name for name in names if not _is_unused(name, layout)} == detector.torch_names(model, layout).keys()

    for other, detector in DETECTORS.items():
        for layout in detector.torch_layouts:
            if layout is not besides and are_of(detector, layout):
                return f"; its names are those of {other} in the layout of {layout.name}"
        for layout in detector.backbone_layouts:
            if are_of(detector, layout):
                return (
                    f"; its names are those of the backbone alone, {layout.name}, from which "
                    f"cornerjax train --init FILE --init-part backbone starts a run of {other}"
                )
    return ""


def _said(problems: Problems) -> str:
    return "; ".join(f"{len(keys)} {kind}: {_listed(keys)}" for kind, keys in problems.items() if keys)


def _listed(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - LISTED} more" if len(keys) > LISTED else ""
    return ", ".join(keys[:LISTED]) + more
