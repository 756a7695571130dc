"""What devices tell each other in a training step."""

import os
import re
import subprocess
import sys

import pytest

COMPILE = """
import dataclasses, sys
import jax, numpy as np
from cornerjax.config import load_recipe
from cornerjax.detectors import get_detector
from cornerjax.nn.functional import functional
from cornerjax.training.mesh import data_mesh, split, whole
from cornerjax.training.optimiser import make_optimiser
from cornerjax.training.step import TrainState, make_train_step

config = load_recipe("configs/cornernet.py")
model = dataclasses.replace(config.model, stacks=1, num_classes=80, pooling_implementation=sys.argv[1])
config = dataclasses.replace(config, model=model)
detector, mesh, tx = get_detector("cornernet"), data_mesh(), make_optimiser(config)

def on(sharding, tree):
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(np.shape(a), a.dtype, sharding=sharding), tree)

apply, params, model_state = functional(detector.build(model, None))
state = on(whole(mesh), TrainState(np.int32(0), params, model_state, jax.eval_shape(tx.init, params)))
objects = {"boxes": np.array([[20, 30, 70, 90]], np.float32), "classes": np.array([1], np.int32)}
encoded = detector.encode(objects, config)
example = encoded | detector.render(encoded, config, np) | {"image": np.zeros((511, 511, 3), np.float32)}
batch = on(split(mesh), {name: np.stack([value] * 8) for name, value in example.items()})
step = make_train_step(apply, lambda b: b, lambda outputs, b: detector.loss(outputs, b, config), tx, mesh)
print(step.lower(state, batch).compile().as_text())
"""
COLLECTIVE = re.compile(r" (all-gather|all-reduce|all-to-all|collective-\w+|reduce-scatter)(?:-start)?\(")


@pytest.mark.slow
@pytest.mark.parametrize("implementation", ["auto", "scan"])
def test_pooling_a_batch_over_eight_devices_needs_no_collective(implementation):
    """CornerNet with one stack at 511 px, eight images: gradients and BatchNorm are summed, nothing else is moved."""
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    command = [sys.executable, "-c", COMPILE, implementation]
    hlo = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    lines = [line for line in hlo.splitlines() if COLLECTIVE.search(line)]
    assert {COLLECTIVE.search(line)[1] for line in lines} == {"all-reduce"}
    assert "transpose(jvp(corner_max))" in hlo  # the operations do say where they come from
    assert not [line for line in lines if "corner_max" in line]
