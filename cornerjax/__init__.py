"""Keypoint-based object detectors in JAX.

    predictor = cornerjax.load("runs/shapes")  # or cornerjax.from_torch("cornernet_squeeze", "checkpoint.pkl")
    detections = predictor("photo.jpg")

Dimension letters, the same in every file:

    b    images of a batch            c    classes or channels
    H W  rows and columns of an image k    candidates
    h w  rows and columns of a map    n    objects
"""

import importlib
from typing import TYPE_CHECKING, Any

from cornerjax.errors import InputError, RunError

if TYPE_CHECKING:
    from cornerjax import ops
    from cornerjax.config import Config, Data, Loss, Model, Optim, Test, load_recipe
    from cornerjax.detectors import DETECTORS
    from cornerjax.detectors.rows import Detections
    from cornerjax.inference.predictor import Predictor, load
    from cornerjax.weights.convert import from_torch

__all__ = [
    "DETECTORS",
    "Config",
    "Data",
    "Detections",
    "InputError",
    "Loss",
    "Model",
    "Optim",
    "Predictor",
    "RunError",
    "Test",
    "from_torch",
    "load",
    "load_recipe",
    "ops",
]

# Imported when they are first asked for, so that `import cornerjax` stays a matter of milliseconds.
_LATER = {
    **dict.fromkeys(("Config", "Data", "Loss", "Model", "Optim", "Test", "load_recipe"), "cornerjax.config"),
    "DETECTORS": "cornerjax.detectors",
    "Detections": "cornerjax.detectors.rows",
    "Predictor": "cornerjax.inference.predictor",
    "from_torch": "cornerjax.weights.convert",
    "load": "cornerjax.inference.predictor",
}


def __getattr__(name: str) -> Any:
    if name == "ops":
        return importlib.import_module("cornerjax.ops")
    if name in _LATER:
        return getattr(importlib.import_module(_LATER[name]), name)
    raise AttributeError(f"module 'cornerjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
