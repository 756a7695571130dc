"""A narrow detector under the name of each published one, and made-up checkpoints of it."""

import dataclasses

import numpy as np
import pytest

from cornerjax.detectors import DETECTORS
from cornerjax.nn.functional import by_path, functional
from cornerjax.validation import replaced

CLASSES = 3
NARROW = {
    "model": {
        "backbone": {"stacks": 2, "stem_dim": 4, "dims": (8, 8, 8), "blocks": (1, 1, 1), "dim": 8},
        "pool_dim": 4,
    },
    "data": {"crop_px": (63, 63)},
}
POINTS = {"model": {"backbone": {"width": 2}, "head_dim": 4}, "data": {"crop_px": (64, 64)}}
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
        narrow = POINTS if name == "centernet_points" else NARROW
        defaults = replaced(replaced(published.defaults, narrow), OWN.get(name, {}))
        monkeypatch.setitem(DETECTORS, name, type("Narrow", (type(published),), {"defaults": defaults})())


@pytest.fixture
def checkpoint():
    """checkpoint(detector, num_classes) -> {PyTorch name: array}, in the first of the detector's layouts."""

    def make(name: str, num_classes: int = CLASSES) -> dict[str, np.ndarray]:
        detector, rng = DETECTORS[name], np.random.default_rng(0)
        model = dataclasses.replace(detector.defaults.model, num_classes=num_classes)
        _, params, model_state = functional(detector.build(model, None))
        shapes = {path: value.shape for path, value in (by_path(params) | by_path(model_state)).items()}
        made = {}
        for key, path in detector.torch_names(model, detector.torch_layouts[0]).items():
            shape = shapes[path]
            shape = (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape  # height, width, in, out there
            value = rng.standard_normal(shape, np.float32) * 0.1
            made[key] = np.abs(value) + 1 if key.endswith("running_var") else value
        return made

    return make
