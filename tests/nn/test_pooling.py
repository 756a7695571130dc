"""The corner pooling module against recordings of the original."""

import runpy
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from cornerjax.detectors.cornernet import torch_name
from cornerjax.nn.functional import by_path, functional, nested
from cornerjax.nn.layers import kernel_from_torch
from cornerjax.nn.pooling import CornerPool

GOLDEN = runpy.run_path(str(Path(__file__).parents[1] / "golden" / "golden_weights.py"))


def nhwc(array):
    return array.transpose(0, 2, 3, 1)


def original_name(path):
    return torch_name(f"tl.0.pool.{path}").removeprefix("tl_modules.0.")


def original_weights(tree, corner):
    """The values that the original was recorded with."""

    def value(path, here):
        shape = np.transpose(here, (3, 2, 0, 1)).shape if here.ndim == 4 else here.shape
        return kernel_from_torch(GOLDEN["weight"](f"ops_corner_pool_{corner}.{original_name(path)}", shape))

    return nested({path: value(path, here) for path, here in by_path(tree).items()})


@pytest.mark.parametrize("corner", ["tl", "br"])
@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_module_matches_the_original(golden, corner, train):
    recorded = golden("ops/corner_pool_module.npz")
    case = f"{corner}_{'train' if train else 'eval'}"
    module = CornerPool(32, 128, corner=corner, implementation="auto", rngs=None)
    apply, *trees = functional(module)
    params, model_state = (original_weights(tree, corner) for tree in trees)

    @jax.jit
    def with_gradients(params, x, upstream):
        y, vjp, _ = jax.vjp(lambda params, x: apply(params, model_state, x, train=train), params, x, has_aux=True)
        return y, *vjp(upstream)

    x = nhwc(GOLDEN["image"](recorded["x_shape"]))
    y, dparams, dx = with_gradients(params, x, nhwc(recorded[f"{case}_g"]))
    near = partial(np.testing.assert_allclose, rtol=1e-4)
    near(y, nhwc(recorded[f"{case}_y"]), atol=1e-4)
    near(dx, nhwc(recorded[f"{case}_gx"]), atol=2e-4)
    checked = 0
    for path, gradient in by_path(dparams).items():
        name = f"{case}_grad:{original_name(path)}"
        if name in recorded:
            torch_order = np.transpose(gradient, (3, 2, 0, 1)) if gradient.ndim == 4 else np.asarray(gradient)
            norm = recorded[name.replace("_grad:", "_gradnorm:")]
            near(torch_order.ravel()[:64], recorded[name], atol=1e-5 * norm)
            near(np.linalg.norm(torch_order), norm)
            checked += 1
    assert checked == 4
