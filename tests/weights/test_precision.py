"""Released weights are computed in true float32 on every kind of device, as what is lowered for it says."""

import re
from functools import partial

import jax
import numpy as np
import pytest

from cornerjax.detectors.base import make_network
from cornerjax.weights.convert import from_torch

PLATFORMS = ("cpu", "tpu", "cuda")
SUM = re.compile(r"stablehlo\.(?:convolution|dot_general).*")  # what has a precision
NAMES = re.compile(r"\b(DEFAULT|HIGH|HIGHEST)\b")


def sums(values, compute, *, train):
    """For each of PLATFORMS the convolutions of Squeeze's forward pass, or of its gradient, as they are lowered."""
    predictor = from_torch("cornernet_squeeze", values, compute=compute)
    apply, *weights = make_network(predictor.detector, predictor.config, None)

    def loss(params, model_state, images):
        outputs, _ = apply(params, model_state, images, train=True)
        return sum((value**2).sum() for maps in outputs for value in maps.values())

    function = jax.grad(loss) if train else partial(predictor.apply, train=False)
    images = jax.ShapeDtypeStruct((2, 63, 63, 3), np.float32)
    traced = jax.jit(function).trace(*(weights if train else predictor.weights), images)
    return {name: SUM.findall(traced.lower(lowering_platforms=(name,)).as_text()) for name in PLATFORMS}


@pytest.mark.parametrize("train", [False, True], ids=["forward", "gradient"])
@pytest.mark.parametrize(
    ("compute", "precision"), [({}, "HIGHEST"), ({"precision": "default"}, "DEFAULT")], ids=["released", "default"]
)
def test_every_convolution_has_the_precision(checkpoint, compute, precision, train):
    for platform, lowered in sums(checkpoint("cornernet_squeeze"), compute, train=train).items():
        assert len(lowered) > 30  # layers of one shape have one in common
        assert {NAMES.findall(one) == [precision] * 2 for one in lowered} == {True}, platform
        # Depthwise convolutions and learned up-sampling, which have a form of their own for CPUs.
        assert any("feature_group_count = 4" in one for one in lowered) == (platform != "cpu")
        assert any("lhs_dilate = [2, 2]" in one and "4x4x" in one for one in lowered) or platform == "cpu"
