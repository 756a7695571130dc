"""Counting by jaxpr, against XLA's own count and by hand, and the step of a plan made of it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from cornerjax.config import load_recipe
from cornerjax.training.count import count
from cornerjax.training.mesh import data_mesh
from cornerjax.training.plan import count_step, sums_of
from cornerjax.training.setup import abstract_step, network_of
from cornerjax.training.topology import parse_topology
from cornerjax.validation import replaced

X = jax.ShapeDtypeStruct((2, 9, 8, 4), np.float32)  # 576 numbers
KERNEL = jax.ShapeDtypeStruct((3, 3, 4, 4), np.float32)
MAP, WEIGHTS = 4 * 576, 4 * 144


def conv(x, kernel, **options):
    options = {"window_strides": (1, 1), "padding": "SAME"} | options
    return lax.conv_general_dilated(x, kernel, dimension_numbers=("NHWC", "HWIO", "NHWC"), **options)


def counted(function, *arguments):
    return count(jax.jit(function).trace(*arguments).jaxpr)


@pytest.mark.parametrize(
    ("groups", "options"),
    [
        (1, {}),
        (1, {"window_strides": (2, 2)}),
        (1, {"padding": ((2, 2), (2, 2)), "lhs_dilation": (2, 2)}),
        (1, {"rhs_dilation": (2, 1)}),
        (4, {"window_strides": (2, 1)}),
    ],
)
def test_the_flops_of_a_convolution_and_of_its_gradients_are_xlas(groups, options):
    kernel = jax.ShapeDtypeStruct((3, 3, 4 // groups, 4), np.float32)

    def both(x, kernel):
        y, pull_back = jax.vjp(lambda *args: conv(*args, feature_group_count=groups, **options), x, kernel)
        return pull_back(y)

    xla = jax.jit(both).lower(X, kernel).cost_analysis()
    assert xla is not None
    assert counted(both, X, kernel).flops == xla["flops"]


def test_maps_between_convolutions_are_kept_and_what_is_done_by_element_is_not():
    def two(x, first, second):
        return conv(jnp.tanh(conv(x, first) + 1), second)

    found = counted(two, X, KERNEL, KERNEL)
    assert found.moved == 6 * MAP + 2 * WEIGHTS  # three maps read and three written
    assert found.temporary == 2 * MAP  # before and after what is done by element


def test_a_sum_does_not_write_what_it_is_over():
    found = counted(lambda x: (x * x).sum(), X)
    assert found.moved == MAP + 4
    assert found.temporary == 0


def test_sums_of_one_map_read_it_once_unless_one_waits_for_another():
    def together(x):
        return x.sum(), (x * x).sum()

    def variance(x):
        return jnp.square(x - x.mean()).sum()

    assert counted(together, X).moved == MAP + 2 * 4
    assert counted(variance, X).moved == 2 * MAP + 3 * 4  # the sum is written, read and followed by another one


def test_maps_that_are_computed_again_are_not_kept():
    def layer(x, kernel):
        return jnp.tanh(conv(jnp.tanh(conv(jnp.tanh(conv(x, kernel)), kernel)), kernel))

    def loss(layer, kernel, x):
        return layer(layer(layer(x, kernel), kernel), kernel).sum()

    plain = counted(jax.grad(functools.partial(loss, layer)), KERNEL, X)
    again = counted(jax.grad(functools.partial(loss, jax.checkpoint(layer))), KERNEL, X)
    assert plain.temporary > 1.5 * again.temporary
    assert plain.flops < again.flops


def test_loops_count_by_their_rounds_where_these_are_known():
    product = 2 * 8**3
    square = jax.ShapeDtypeStruct((8, 8), np.float32)

    def powers(x):
        return lax.scan(lambda y, _: (y @ x, None), x, length=5)[0]

    def settle(x):
        return lax.while_loop(lambda y: y.sum() > 1, lambda y: y @ x, x)

    known, unknown = counted(powers, square), counted(settle, square)
    assert (known.flops, known.unknown_loops) == (5 * product, ())
    assert known.moved == 5 * 3 * 4 * 64
    assert (unknown.flops, unknown.unknown_loops) == (product, ("while",))


def test_of_two_forms_the_one_for_accelerators_counts():
    def either(x):
        return lax.platform_dependent(x, cpu=lambda x: x @ x @ x, default=lambda x: x @ x)

    assert counted(either, jax.ShapeDtypeStruct((8, 8), np.float32)).flops == 2 * 8**3


def narrow(**changes):
    backbone = {"stem_dim": 8, "dims": (8, 16), "blocks": (1, 1), "dim": 8}
    model = {"num_classes": 3, "pool_dim": 8, "backbone": backbone}
    data = {"crop_px": (63, 63), "render": "device"}
    return replaced(load_recipe("configs/shapes.py"), {"model": model, "data": data} | changes)


def test_a_narrow_network_is_counted_for_a_share_of_the_batch():
    config, node = narrow(), parse_topology("h100:4")
    step = count_step(config, node)
    _, params, model_state = network_of(config, None)
    weights = sum(x.nbytes for x in jax.tree.leaves(params))
    statistics = sum(x.nbytes for x in jax.tree.leaves(model_state))
    assert step.state == 3 * weights + statistics + 13  # with Adam's two moments, three numbers of steps and a flag
    assert 2 * 63 * 63 * 3 < step.batch < 3 * 63 * 63 * 3  # two images
    assert weights < step.temporary < step.hbm / 4
    (gradients,) = step.groups["gradients"]
    assert (gradients.nbytes, gradients.devices, gradients.times) == (weights, 4, 1)
    assert sum(one.nbytes for one in step.groups["BatchNorm"]) == 2 * statistics


@pytest.mark.parametrize(("groups", "devices"), [(1, {8}), (2, {4}), (8, set())])
def test_batch_norm_sums_over_the_devices_of_a_group(groups, devices):
    config = narrow(optim={"batch_norm_groups": groups})
    _, state, _ = abstract_step(config, data_mesh(jax.devices()[:1]))
    assert {one.devices for one in sums_of(state, config, 8)["BatchNorm"]} == devices
