"""A narrow detector under the name of each published one, and made-up checkpoints of it."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from cornerjax.detectors import DETECTORS
from cornerjax.nn.backbones.dla import DLA
from cornerjax.nn.backbones.hourglass import Hourglass
from cornerjax.nn.backbones.resnet import ResNet
from cornerjax.nn.functional import by_path, functional
from cornerjax.validation import replaced

CLASSES = 3
NARROW: dict[str, Any] = {
    "model": {
        "backbone": {"stacks": 2, "stem_dim": 4, "dims": (8, 8, 8), "blocks": (1, 1, 1), "dim": 8},
        "pool_dim": 4,
    },
    "data": {"crop_px": (63, 63)},
}
EXTREMES = {**NARROW, "model": {"backbone": NARROW["model"]["backbone"]}}
POINTS = {"model": {"backbone": {"width": 2}, "head_dim": 4}, "data": {"crop_px": (64, 64)}}
WIDTHS: dict[type, dict[str, Any]] = {  # of the networks that some layouts name
    Hourglass: NARROW["model"]["backbone"],
    ResNet: {"width": 2, "up_dims": (4, 6, 8)},
    DLA: {"width": 2},
}
OWN = {
    "cornernet_saccade": {
        "data.attention_px": ((32, 96), (0, 32)),
        "test.saccade": {"view_px": (48, 63), "zooms": (1.0, 2.0)},
    }
}


@pytest.fixture(autouse=True)
def narrow_detectors(monkeypatch):
    """The detectors of the package, with networks that take no time."""
    for name, published in list(DETECTORS.items()):
        narrow = {"centernet_points": POINTS, "extremenet": EXTREMES}.get(name, NARROW)
        defaults = replaced(replaced(published.defaults, narrow), OWN.get(name, {}))
        layouts = tuple(layout._replace(model=thin(layout.model)) for layout in published.torch_layouts)
        changes = {"defaults": defaults, "torch_layouts": layouts}
        monkeypatch.setitem(DETECTORS, name, type("Narrow", (type(published),), changes)())


def thin(model):
    """What a layout says of its network, narrow."""
    backbones = {
        field: dataclasses.replace(value, **WIDTHS[type(value)])
        for field, value in model.items()
        if type(value) in WIDTHS
    }
    return {**model, **backbones} | ({"head_dim": 4} if "head_dim" in model else {})


@pytest.fixture
def checkpoint():
    """checkpoint(detector, num_classes, layout) -> {PyTorch name: array}, in one of the detector's layouts."""

    def make(name: str, num_classes: int = CLASSES, layout: int = 0) -> dict[str, np.ndarray]:
        detector, rng = DETECTORS[name], np.random.default_rng(0)
        form = detector.torch_layouts[layout]
        model = dataclasses.replace(replaced(detector.defaults.model, form.model), num_classes=num_classes)
        _, params, model_state = functional(detector.build(model, None))
        shapes = {path: value.shape for path, value in (by_path(params) | by_path(model_state)).items()}
        made = {}
        for key, path in detector.torch_names(model, form).items():
            shape = shapes[path]
            shape = (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape  # height, width, in, out there
            value = rng.standard_normal(shape, np.float32) * 0.1
            made[key] = np.abs(value) + 1 if key.endswith("running_var") else value
        return made

    return make
