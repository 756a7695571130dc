"""The corner pooling module against recordings of the original."""

import runpy
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cornerjax.config import Compute
from cornerjax.detectors.centernet_triplets import CenterNetTriplets
from cornerjax.detectors.cornernet import CornerNet
from cornerjax.nn.functional import by_path, functional, nested
from cornerjax.nn.layers import configure, kernel_from_torch
from cornerjax.nn.pooling import CascadeCornerPool, CenterPool, CornerPool, find_pool
from cornerjax.ops import bottom_pool, left_pool, line_max, right_pool, runnable, top_pool

pytestmark = pytest.mark.usefixtures("few_rows")

LITE, TRIPLETS = CornerNet.torch_layouts[0], CenterNetTriplets.torch_layouts[0]
GOLDEN = runpy.run_path(str(Path(__file__).parents[1] / "golden" / "golden_weights.py"))


def nhwc(array):
    return array.transpose(0, 2, 3, 1)


def original_name(path):
    return LITE.key_of(f"tl.0.pool.{path}").removeprefix("tl_modules.0.")


def original_weights(tree, corner):
    """The values that the original was recorded with."""

    def value(path, here):
        shape = np.transpose(here, (3, 2, 0, 1)).shape if here.ndim == 4 else here.shape
        return kernel_from_torch(GOLDEN["weight"](f"ops_corner_pool_{corner}.{original_name(path)}", shape))

    return nested({path: value(path, here) for path, here in by_path(tree).items()})


@pytest.mark.parametrize("corner", ["tl", "br"])
@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("implementation", sorted(runnable()))
def test_module_matches_the_original(golden, corner, train, implementation):
    recorded = golden("ops/corner_pool_module.npz")
    case = f"{corner}_{'train' if train else 'eval'}"
    module = CornerPool(32, 128, corner=corner, pooling="corner", rng=None)
    configure(module, Compute(pooling_implementation=implementation))
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


@pytest.mark.parametrize("point", ["tl", "br", "ct"])
@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_cascade_and_centre_pooling_match_the_original(golden, point, train):
    recorded = golden("ops/cascade_and_center_pool.npz")
    case = f"{point}_{'train' if train else 'eval'}"
    module: nnx.Module
    if point == "ct":
        module = CenterPool(32, 128, pooling="corner", rng=None)
    else:
        module = CascadeCornerPool(32, 128, corner=point, pooling="corner", rng=None)
    apply, *trees = functional(module)

    def original_name(path):
        return TRIPLETS.key_of(f"{point}.0.pool.{path}").removeprefix(f"{point}_cnvs.0.")

    def values(tree):
        def value(path, here):
            shape = np.transpose(here, (3, 2, 0, 1)).shape if here.ndim == 4 else here.shape
            return kernel_from_torch(GOLDEN["weight"](f"ops_cascade_{point}.{original_name(path)}", shape))

        return nested({path: value(path, here) for path, here in by_path(tree).items()})

    params, model_state = map(values, trees)

    @jax.jit
    def with_gradients(params, x, upstream):
        y, vjp, _ = jax.vjp(lambda params, x: apply(params, model_state, x, train=train), params, x, has_aux=True)
        return y, *vjp(upstream)

    x = nhwc(GOLDEN["image"](recorded["x_shape"], int(recorded["x_seed"])))
    y, dparams, dx = with_gradients(params, x, nhwc(recorded[f"{case}_g"]))
    near = partial(np.testing.assert_allclose, rtol=1e-4)
    near(y, nhwc(recorded[f"{case}_y"]), atol=1e-4)
    near(dx, nhwc(recorded[f"{case}_gx"]), atol=2e-4)
    norms = {original_name(path): np.linalg.norm(slope) for path, slope in by_path(dparams).items()}
    assert {key.partition(":")[2] for key in recorded if key.startswith(f"{case}_gradnorm:")} == norms.keys()
    for name, norm in norms.items():
        near(norm, recorded[f"{case}_gradnorm:{name}"], err_msg=name)


def test_of_equal_maxima_of_a_line_the_last_gets_the_gradient():
    x = jnp.array([[1.0, 3, 0], [3, 3, 0], [3, 1, 0]])[None, :, :, None]
    top_and_bottom = lambda x: bottom_pool(top_pool(x))  # noqa: E731
    for axis, pooled in ((1, top_and_bottom), (2, lambda x: right_pool(left_pool(x)))):
        slope = jax.grad(lambda x, axis=axis: jnp.broadcast_to(line_max(x, axis), x.shape).sum())(x)
        np.testing.assert_array_equal(slope, jax.grad(lambda x, pooled=pooled: pooled(x).sum())(x))
        np.testing.assert_array_equal(jnp.broadcast_to(line_max(x, axis), x.shape), pooled(x))


def mean_pool(x, direction):
    """What a user may plug in."""
    return x.mean({"top": 1, "bottom": 1, "left": 2, "right": 2}[direction], keepdims=True) + 0 * x


def pooled(pooling, corner):
    x1, x2 = np.random.default_rng(0).standard_normal((2, 1, 3, 4, 2)).astype(np.float32)
    module = CornerPool(4, 2, corner=corner, pooling=pooling, rng=None)
    return x1, x2, module.pooled(jnp.asarray(x1), jnp.asarray(x2))


@pytest.mark.parametrize("corner", ["tl", "br"])
def test_other_pools_take_the_place_of_corner_pooling(corner):
    x1, x2, y = pooled("none", corner)
    np.testing.assert_array_equal(y, x1 + x2)
    x1, x2, y = pooled("full", corner)
    np.testing.assert_array_equal(y, x1.max(1, keepdims=True) + x2.max(2, keepdims=True))
    x1, x2, y = pooled("tests.nn.test_pooling:mean_pool", corner)
    np.testing.assert_allclose(y, x1.mean(1, keepdims=True) + x2.mean(2, keepdims=True), atol=1e-6)


def lines(x1, x2):
    """What takes the place of pooling, by its name: both maps pooled, the first in its columns, the second in rows."""
    return {
        "none": x1 + x2,
        "full": x1.max(1, keepdims=True) + x2.max(2, keepdims=True),
        "tests.nn.test_pooling:mean_pool": x1.mean(1, keepdims=True) + x2.mean(2, keepdims=True),
    }


@pytest.mark.parametrize("pooling", ["none", "full", "tests.nn.test_pooling:mean_pool"])
@pytest.mark.parametrize("point", ["tl", "br", "ct"])
def test_other_pools_take_the_place_of_cascades_and_of_centre_pooling(pooling, point):
    """A cascade looks along the other direction first; its branches are computed here one by one."""
    module: CascadeCornerPool | CenterPool
    if point == "ct":
        module = CenterPool(4, 2, pooling=pooling, rng=np.random.default_rng(0))
    else:
        module = CascadeCornerPool(4, 2, corner=point, pooling=pooling, rng=np.random.default_rng(0))
    nnx.update(module, jax.tree.map(jnp.asarray, nnx.state(module)))
    x = jnp.asarray(np.random.default_rng(1).standard_normal((1, 3, 4, 4)), jnp.float32)
    x1, x2 = module.branch1(x, train=False), module.branch2(x, train=False)
    if isinstance(module, CascadeCornerPool):
        nothing = jnp.zeros_like(x1)
        seen1 = lines(nothing, module.look1(x, train=False))[pooling]
        seen2 = lines(module.look2(x, train=False), nothing)[pooling]
        x1, x2 = module.cascade1(x1 + seen1), module.cascade2(x2 + seen2)
    np.testing.assert_allclose(module.branches(x, train=False), lines(x1, x2)[pooling], rtol=1e-5, atol=1e-6)
    y = module(x, train=False)
    assert y.shape == x.shape
    assert jnp.isfinite(y).all()


def test_the_whole_line_is_what_both_directions_of_a_centre_give():
    """`full` and corner pooling, one direction after the other, are the same for a centre, and not for a corner."""
    x1, x2 = jnp.asarray(np.random.default_rng(0).standard_normal((2, 1, 3, 4, 2)), jnp.float32)
    full, corner = (CenterPool(4, 2, pooling=pooling, rng=None).pooled(x1, x2) for pooling in ("full", "corner"))
    np.testing.assert_array_equal(full, corner)
    full, corner = (
        CascadeCornerPool(4, 2, corner="tl", pooling=pooling, rng=None).pooled(x1, x2) for pooling in ("full", "corner")
    )
    assert (full >= corner).all()
    assert (full > corner).any()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("corner_pool", "there are: corner, full, none, and functions"),
        ("no_such_module:pool", "No module named 'no_such_module'; there are: corner"),
        ("cornerjax.nn.pooling:pool", "module cornerjax.nn.pooling has no function pool; there are: corner"),
        (":pool", "there are: corner"),
    ],
)
def test_a_pool_that_is_not_there_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        find_pool(name)
