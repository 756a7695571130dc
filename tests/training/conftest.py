"""The tiny run that the tests of training share."""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest

from cornerjax.checkpoint import restore_weights
from cornerjax.config import Data, Optim
from cornerjax.data.shapes import write_shapes
from cornerjax.detectors.centernet_points.options import PointConfig, PointModel, PointTest
from cornerjax.detectors.cornernet import CornerConfig, CornerLoss, CornerModel, CornerTest
from cornerjax.nn.backbones.hourglass import Hourglass
from cornerjax.nn.backbones.resnet import ResNet


@pytest.fixture(scope="session")
def config(tmp_path_factory) -> CornerConfig:
    """A network of a few channels, twelve shapes images and six steps."""
    return CornerConfig(
        model=CornerModel(
            backbone=Hourglass(stacks=1, stem_dim=4, stem_kernel=3, dims=(8, 8), blocks=(1, 1), dim=8),
            head_kernel=1,
            pool_dim=4,
        ),
        data=Data(
            root=str(write_shapes(tmp_path_factory.mktemp("data") / "shapes", seed=0, train=12, val=1)),
            batch=2,
            crop_px=(127, 127),
            random_crop=False,
            max_objects=8,
            workers=1,
            worker_kind="thread",
        ),
        loss=CornerLoss(group=2.0),
        optim=Optim(peak_lr=1e-3, schedule="cosine", warmup_steps=2),
        test=CornerTest(batch=1, top_k=10, max_pairs=10),
        steps=6,
        log_steps=2,
        save_steps=3,
    )


@pytest.fixture(scope="session")
def points(config) -> PointConfig:
    """The same run of a network with one keypoint and deformable convolutions."""
    return PointConfig(
        model=PointModel(backbone=ResNet(width=4, up_dims=(8, 8, 8), deformable=True), head_dim=8),
        data=dataclasses.replace(config.data, crop_px=(128, 128), gaussian_radius="legacy", random_crop=True),
        optim=config.optim,
        test=PointTest(batch=1, top_k=10),
        steps=config.steps,
        log_steps=config.log_steps,
        save_steps=config.save_steps,
    )


@pytest.fixture(scope="session")
def digest() -> Callable[[Path], str]:
    """digest(workdir) -> SHA-256 of the newest weights."""

    def of(workdir: Path) -> str:
        leaves = jax.tree.leaves(restore_weights(workdir, "latest"))
        return hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in leaves)).hexdigest()

    return of
