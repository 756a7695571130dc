"""The released networks with the weights that the recordings in tests/golden were made with."""

import dataclasses
import json
import runpy
from pathlib import Path

import pytest

from cornerjax.detectors import get_detector
from cornerjax.nn.functional import by_path, functional, nested
from cornerjax.nn.layers import kernel_from_torch

GOLDEN = Path(__file__).parents[1] / "golden"
MANIFESTS = {"cornernet": "CornerNet", "cornernet_squeeze": "CornerNet_Squeeze"}  # PyTorch names and shapes


@pytest.fixture(scope="session")
def manifest():
    """manifest(detector) -> {PyTorch name: shape} of the released checkpoint, without the counters of batches."""

    def load(detector):
        names = json.loads((GOLDEN / "manifest" / f"{MANIFESTS[detector]}.json").read_text())
        return {name: tuple(shape) for name, shape in names.items() if not name.endswith("num_batches_tracked")}

    return load


@pytest.fixture(scope="session")
def original():
    """The functions `weight` and `image` of golden_weights.py, by name."""
    return runpy.run_path(str(GOLDEN / "golden_weights.py"))


@pytest.fixture(scope="session")
def released(manifest, original):
    """released(detector) -> (apply, params, model_state) of the published network for COCO."""

    def load(name):
        detector = get_detector(name)
        model = dataclasses.replace(detector.defaults, num_classes=80)
        apply, params, model_state = functional(detector.build(model, None))
        shapes = manifest(name)
        values = {
            path: kernel_from_torch(original["weight"](key, shapes[key]))
            for key, path in detector.torch_names(model).items()
        }
        return apply, *(nested({path: values[path] for path in by_path(tree)}) for tree in (params, model_state))

    return load
