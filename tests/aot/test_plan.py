"""A plan of a narrow network, compiled by the real compiler for TPUs that are not there (make tpu-aot)."""

import functools
import os
from pathlib import Path

import jax
import numpy as np
import pytest

from cornerjax.config import load_recipe
from cornerjax.training import plan
from cornerjax.training.mesh import split
from cornerjax.training.plan import compile_step
from cornerjax.training.plan_report import report
from cornerjax.training.setup import abstract_step, network_of
from cornerjax.training.topology import mesh_of, parse_topology
from cornerjax.validation import replaced

pytestmark = pytest.mark.tpu_aot
LIBRARY = Path(__file__).parents[2] / ".libtpu/libtpu/libtpu.so"
CHIPS = parse_topology("v5e:2x2")


@pytest.fixture(scope="module", autouse=True)
def libtpu():
    if not LIBRARY.exists() and "TPU_LIBRARY_PATH" not in os.environ:
        pytest.skip("no libtpu: make tpu-aot installs one")
    os.environ.setdefault("TPU_LIBRARY_PATH", str(LIBRARY))


def narrow(**data):
    backbone = {"stem_dim": 8, "dims": (8, 16), "blocks": (1, 1), "dim": 8}
    model = {"num_classes": 3, "pool_dim": 8, "backbone": backbone}
    changes = {"model": model, "data": {"crop_px": (63, 63), "render": "device"} | data}
    return replaced(load_recipe("configs/shapes.py"), changes)


def forward_flops(apply, *args):
    """Of the convolutions, for one image."""
    image = jax.ShapeDtypeStruct((1, 63, 63, 3), np.float32)
    equations = jax.make_jaxpr(functools.partial(apply, train=True))(*args, image).jaxpr.eqns
    convolutions = [e for e in equations if e.primitive.name == "conv_general_dilated"]
    return sum(2 * e.outvars[0].aval.size * np.prod(e.invars[1].aval.shape[:3]) for e in convolutions)


def test_a_narrow_network_is_planned():
    config = narrow()
    step = compile_step(config, CHIPS)
    apply, params, model_state = network_of(config, None)
    # A chip's two images, forwards and twice as much backwards. What is no convolution counts at eight channels.
    assert 1 < step.flops / (2 * 3 * forward_flops(apply, params, model_state)) < 2
    weights = sum(x.nbytes for x in jax.tree.leaves(params))
    summed = sum(c.nbytes for name in ("gradients", "BatchNorm") for c in step.groups[name])
    assert weights < summed < 1.5 * weights  # every gradient once, and the little that BatchNorm's statistics are
    assert len(step.groups["gradients"]) < 5 < len(step.groups["BatchNorm"])
    every = [c for found in step.groups.values() for c in found]
    assert {(c.kind, c.devices, c.times) for c in every} == {("all-reduce", 4, 1)}
    assert step.state >= 3 * weights  # with Adam's two moments
    assert step.batch >= 2 * 63 * 63 * 3
    assert step.accessed is not None
    assert 0 < step.hbm < step.accessed
    assert step.unknown_loops == ()
    assert "fits" in "\n".join(report(step, config, CHIPS))


def test_what_does_not_fit_is_refused_with_the_amount(monkeypatch):
    """A map of 34 GB a chip between two convolutions, which is sooner compiled than a network too large."""
    split_over = split(mesh_of(CHIPS))
    kernel, maps = jax.ShapeDtypeStruct((3, 3, 128, 128), np.float32), (4 * 1024, 256, 256, 128)
    batch = jax.ShapeDtypeStruct(maps, np.float32, sharding=split_over)

    def step(kernel, x):
        numbers = ("NHWC", "HWIO", "NHWC")

        def layer(x):
            return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)

        return layer(jax.numpy.tanh(layer(x)))

    monkeypatch.setattr(plan, "abstract_step", lambda config, mesh: (jax.jit(step), kernel, batch))
    with pytest.raises(plan.TooLargeError, match=r"G of 15\.75G hbm|exceeds available HBM \(15\.75G\)"):
        plan.compile_step(narrow(), CHIPS)


@pytest.mark.parametrize(("implementation", "kernels"), [("auto", 0), ("pallas", 2)])
def test_pooling_is_lowered_for_tpus_on_a_machine_without(implementation, kernels):
    """Two heads pool, forwards and backwards: with kernels in one call each, otherwise in scans, never in a loop."""
    # On the device a loop draws the heat maps.
    config = replaced(narrow(render="host"), {"compute.pooling_implementation": implementation})
    train_step, state, batch = abstract_step(config, mesh_of(CHIPS))
    text = train_step.lower(state, batch).as_text()
    assert text.count("tpu_custom_call") == 2 * kernels
    assert "stablehlo.while" not in text
