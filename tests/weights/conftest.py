"""A narrow detector under the name of a published one, and made-up checkpoints of it."""

import dataclasses

import numpy as np
import pytest

from cornerjax.config import Model
from cornerjax.detectors import DETECTORS
from cornerjax.detectors.cornernet import CornerNet
from cornerjax.detectors.cornernet_saccade import CornerNetSaccade
from cornerjax.detectors.cornernet_squeeze import CornerNetSqueeze
from cornerjax.nn.functional import by_path, functional

CLASSES = 3
NARROW = {"stacks": 2, "stem_dim": 4, "dims": (8, 8, 8), "blocks": (1, 1, 1), "head_dim": 8, "pool_dim": 4}
KINDS = {"cornernet": CornerNet, "cornernet_squeeze": CornerNetSqueeze, "cornernet_saccade": CornerNetSaccade}


@pytest.fixture(autouse=True)
def narrow_detectors(monkeypatch):
    """The detectors of the package, with networks that take no time."""
    for name, kind in KINDS.items():
        defaults = Model(detector=name, head_kernel=kind.defaults.head_kernel, **NARROW)
        monkeypatch.setitem(DETECTORS, name, type("Narrow", (kind,), {"defaults": defaults, "crop_px": (63, 63)})())


@pytest.fixture
def checkpoint():
    """checkpoint(detector, num_classes) -> {PyTorch name: array}, in CornerNet-Lite's layout."""

    def make(name: str, num_classes: int = CLASSES) -> dict[str, np.ndarray]:
        detector, rng = DETECTORS[name], np.random.default_rng(0)
        model = dataclasses.replace(detector.defaults, num_classes=num_classes)
        _, params, model_state = functional(detector.build(model, None))
        shapes = {path: value.shape for path, value in (by_path(params) | by_path(model_state)).items()}
        made = {}
        for key, path in detector.torch_names(model).items():
            shape = shapes[path]
            shape = (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape  # height, width, in, out there
            value = rng.standard_normal(shape, np.float32) * 0.1
            made[key] = np.abs(value) + 1 if key.endswith("running_var") else value
        return made

    return make
