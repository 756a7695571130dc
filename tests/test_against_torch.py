"""The networks that benchmarks/against_torch.py compares, and ResNet-101, are functions of ours, too."""

import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cornerjax.config import Model
from cornerjax.detectors import DETECTORS
from cornerjax.detectors.centernet_points.options import PointModel
from cornerjax.detectors.cornernet import CornerModel
from cornerjax.nn.backbones.hourglass import Hourglass
from cornerjax.nn.backbones.resnet import ResNet
from cornerjax.nn.functional import functional, parameter_count

torch = pytest.importorskip("torch")

NETWORKS = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "torch_networks.py"))
FIRE = Hourglass(stride=8, stem_dim=4, dims=(4, 6, 8), blocks=(1, 1, 1), dim=4, block="fire")
SQUEEZE = CornerModel("cornernet_squeeze", num_classes=3, backbone=FIRE, head_kernel=1, pool_dim=4)
POINTS = PointModel(num_classes=3, backbone=ResNet(width=2, up_dims=(4, 6, 8)), head_dim=4)
RESNET_101 = PointModel(num_classes=3, backbone=ResNet(depth=101, width=2, up_dims=(4, 6, 8)), head_dim=4)
CASES = pytest.mark.parametrize(
    ("model", "side"), [(SQUEEZE, 127), (POINTS, 128), (RESNET_101, 64)], ids=["squeeze", "points", "resnet101"]
)


def both(model: Model) -> tuple:
    """Our apply with its parameters and statistics, and PyTorch's network with the same ones."""
    rng = np.random.default_rng(0)
    apply, *trees = functional(DETECTORS[model.detector].build(model, None))
    params, model_state = (NETWORKS["drawn"](tree, rng) for tree in trees)
    network = NETWORKS["torch_network"](model)
    NETWORKS["load"](network, params, model_state)
    return apply, params, model_state, network


def images_of(batch: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """The same images for us and for PyTorch."""
    images = np.random.default_rng(1).standard_normal((batch, side, side, 3))
    return images, images.transpose(0, 3, 1, 2).copy()


def named(outputs: list[dict]) -> dict:
    """The maps of all stacks."""
    return {f"{name}.{i}": value for i, maps in enumerate(outputs) for name, value in maps.items()}


def nhwc(outputs: list[dict]) -> dict:
    """PyTorch's maps as ours."""
    return {name: value.detach().permute(0, 2, 3, 1).numpy() for name, value in named(outputs).items()}


def largest_difference(ours: dict, theirs: dict) -> float:
    """Of any two arrays of the same name, relative to the largest element.

    The gradient of a bias that a BatchNorm takes away again is zero but for rounding.
    """
    assert ours.keys() == theirs.keys()
    assert all(ours[name].shape == value.shape for name, value in theirs.items())
    return max(float(abs(ours[name] - value).max() / max(1e-8, abs(value).max())) for name, value in theirs.items())


def square_loss(outputs):
    return sum((value**2).mean() for maps in outputs for value in maps.values())


@CASES
def test_parameters_and_maps_are_ours(model, side):
    apply, params, model_state, network = both(model)
    assert sum(value.numel() for value in network.parameters()) == parameter_count(params)
    images, nchw = images_of(1, side)
    with torch.no_grad():
        theirs = nhwc(network.eval()(torch.tensor(nchw, dtype=torch.float32)))
    ours, _ = jax.jit(apply, static_argnames="train")(
        params, model_state, jnp.asarray(images, jnp.float32), train=False
    )
    assert largest_difference(named(ours), theirs) < 1e-4


@pytest.mark.slow
@CASES
def test_training_has_our_maps_gradients_and_statistics(model, side):
    apply, params, model_state, network = both(model)
    images, nchw = images_of(2, side)
    network = network.double().train()
    trained = network(torch.tensor(nchw))
    square_loss(trained).backward()

    def loss(params, model_state, images):
        outputs, moved = apply(params, model_state, images, train=True)
        return square_loss(outputs), (named(outputs), moved)

    with jax.enable_x64(True):
        given = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), (params, model_state, images))
        grads, (outputs, moved) = jax.tree.map(np.asarray, jax.jit(jax.grad(loss, has_aux=True))(*given))
    assert largest_difference(outputs, nhwc(trained)) < 1e-9
    ours, theirs = NETWORKS["in_torch"](grads), {name: value.grad for name, value in network.named_parameters()}
    assert largest_difference(ours, theirs) < 1e-6
    statistics = {name: value for name, value in network.named_buffers() if "running" in name}
    assert largest_difference(NETWORKS["in_torch"](moved), statistics) < 1e-9


def test_other_networks_are_refused():
    with pytest.raises(ValueError, match="no such network in PyTorch here"):
        NETWORKS["torch_network"](Model("cornernet"))
