"""A trained run of a few channels, to be damaged."""

from pathlib import Path

from cornerjax.config import Data, Optim
from cornerjax.data.shapes import write_shapes
from cornerjax.detectors.cornernet import CornerConfig, CornerLoss, CornerModel, CornerTest
from cornerjax.nn.backbones.hourglass import Hourglass
from cornerjax.training.loop import train


def config_of(root: Path) -> CornerConfig:
    """A CornerNet of a few channels for crops of 63 px."""
    return CornerConfig(
        model=CornerModel(
            backbone=Hourglass(stacks=1, stem_dim=4, stem_kernel=3, dims=(8, 8), blocks=(1, 1), dim=8),
            head_kernel=1,
            pool_dim=4,
        ),
        data=Data(
            root=str(root),
            batch=2,
            crop_px=(63, 63),
            random_crop=False,
            max_objects=8,
            workers=1,
            worker_kind="thread",
        ),
        loss=CornerLoss(group=2.0),
        optim=Optim(peak_lr=1e-3),
        test=CornerTest(batch=2, top_k=10, max_pairs=10),
        steps=4,
        log_steps=2,
        save_steps=2,
        keep=2,
    )


def make_set(folder: Path) -> Path:
    """A generated data set of a few pictures."""
    return write_shapes(folder / "shapes", seed=0, train=6, val=2)


def make_run(folder: Path) -> Path:
    """Train it for four steps; two checkpoints."""
    return train(config_of(make_set(folder)), folder / "run").path
