"""Runs to start from, with every array random, and networks to compare them with."""

import numpy as np

from cornerjax.checkpoint import Checkpoints
from cornerjax.detectors import get_detector
from cornerjax.detectors.base import make_network
from cornerjax.detectors.cornernet import CornerConfig, CornerModel
from cornerjax.new_workdir import create_workdir
from cornerjax.nn.backbones.hourglass import Hourglass
from cornerjax.nn.functional import Tree, by_path, nested
from cornerjax.validation import replaced

NETWORK = CornerModel(
    backbone=Hourglass(stacks=1, stem_dim=4, stem_kernel=3, dims=(8, 8), blocks=(1, 1), dim=8),
    head_kernel=1,
    pool_dim=4,
)
PETS = ("cat", "dog")


def drawn(names, seed, changes=None) -> tuple[CornerConfig, Tree, Tree]:
    """config, params and model_state of a network for these classes, as initialised; with some options changed."""
    config = replaced(CornerConfig(model=NETWORK), {"model.num_classes": len(names)} | (changes or {}))
    _, params, model_state = make_network(get_detector(config.model.detector), config, np.random.default_rng(seed))
    return config, params, model_state


def write_run(folder, names, changes=None, *, change=lambda weights: None):
    """A run of train.py as far as --init reads it, with every array random; returns the arrays by path."""
    config, *trees = drawn(names, 1, changes)
    rng = np.random.default_rng(0)
    weights = {
        part: {path: rng.random(value.shape, np.float32) for path, value in by_path(tree).items()}
        for part, tree in zip(("params", "model_state"), trees, strict=True)
    }
    change(weights)
    create_workdir(folder, config, names, tuple(range(1, len(names) + 1)), recipe="pets")
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(5, {part: nested(flat) for part, flat in weights.items()}, {"step": np.int32(5)})
    return weights["params"] | weights["model_state"]


def assert_equal(paths, here, there):
    for path in paths:
        np.testing.assert_array_equal(here[path], there[path], err_msg=path)
