"""Five training steps on so many devices: writes image ids, losses, gradients and statistics; test_devices.py compares.

python tests/training/steps.py DATA OUT DEVICES,DEVICES,... DTYPE [COORDINATOR COUNT INDEX] [--option VALUE ...]

With DTYPE-points in place of DTYPE the network has one keypoint and deformable convolutions.
"""

import sys
from typing import Any

import jax
import numpy as np
import optax
import tyro

from cornerjax.config import Config, Data, Optim
from cornerjax.data.pipeline import make_batches
from cornerjax.data.source import open_source
from cornerjax.detectors import get_detector
from cornerjax.detectors.centernet_points.options import PointConfig, PointModel
from cornerjax.detectors.cornernet import CornerConfig, CornerLoss, CornerModel
from cornerjax.nn.backbones.hourglass import Hourglass
from cornerjax.nn.backbones.resnet import ResNet
from cornerjax.nn.functional import by_path
from cornerjax.training.mesh import data_mesh, to_devices
from cornerjax.training.optimiser import make_optimiser
from cornerjax.training.setup import network_of, start_state
from cornerjax.training.step import make_train_step

SMALL = CornerConfig(
    model=CornerModel(
        num_classes=3,
        backbone=Hourglass(stacks=1, stem_dim=4, stem_kernel=3, dims=(8, 8), blocks=(1, 1), dim=8),
        pool_dim=4,
    ),
    data=Data(batch=8, crop_px=(63, 63), random_crop=False, max_objects=8, workers=1, worker_kind="thread"),
    loss=CornerLoss(group=2.0),
    optim=Optim(peak_lr=1e-3),
)
POINTS = PointConfig(
    model=PointModel(num_classes=3, backbone=ResNet(width=4, up_dims=(8, 8, 8), deformable=True), head_dim=8),
    data=Data(
        batch=8,
        crop_px=(64, 64),
        random_crop=False,
        max_objects=8,
        workers=1,
        worker_kind="thread",
        gaussian_radius="legacy",
    ),
    optim=Optim(peak_lr=1e-3),
)


def recording() -> optax.GradientTransformation:
    """Keeps the last gradient as its state."""
    return optax.GradientTransformation(
        lambda params: jax.tree.map(jax.numpy.zeros_like, params), lambda grads, _, __: (grads, grads)
    )


def steps(config: Config, devices: int, dtype: str) -> dict[str, np.ndarray]:
    """What five steps from the same start give, by name."""

    def wide(tree):
        return jax.tree.map(lambda x: x.astype(dtype) if np.issubdtype(x.dtype, np.floating) else x, tree)

    mesh, detector = data_mesh(jax.devices()[:devices]), get_detector(config.model.detector)
    tx = optax.chain(recording(), make_optimiser(config))
    apply, params, model_state = network_of(config, np.random.default_rng(0))
    state = start_state(wide(params), wide(model_state), tx, mesh, ema=config.optim.ema_decay > 0)
    step = make_train_step(detector, apply, tx, config, mesh)
    source = open_source(config.data, "train")
    batches = make_batches(
        source,
        config,
        encode=detector.encode,
        render=detector.render,
        crop=detector.crop,
        host=jax.process_index(),
        hosts=jax.process_count(),
    )
    found = {}
    for i, batch in zip(range(5), batches, strict=False):
        found[f"{i}.ids"] = batch.pop("image_id")
        state, losses = step(state, to_devices(wide(batch), mesh))
        found |= {f"{i}.loss.{name}": np.asarray(value) for name, value in losses.items()}
        found |= {f"{i}.grad.{name}": np.asarray(value) for name, value in by_path(state.opt_state[0]).items()}
    return found | {f"4.stat.{name}": np.asarray(value) for name, value in by_path(state.model_state).items()}


def main() -> None:
    folder, out, devices, dtype, *rest = sys.argv[1:]
    several = rest[:3] if rest and not rest[0].startswith("--") else []
    dtype, _, points = dtype.partition("-")
    default: Config = POINTS if points else SMALL
    config = tyro.cli(type(default), default=default, args=[*rest[len(several) :], "--data.root", folder])
    if several:
        coordinator, count, index = several
        jax.distributed.initialize(coordinator, int(count), int(index))
    jax.config.update("jax_enable_x64", dtype == "float64")
    for number in map(int, devices.split(",")):
        found: dict[str, Any] = dict(steps(config, number, dtype))
        np.savez(f"{out}-{number}.npz", **found)


main()
