"""What devices tell each other in a training step."""

import os
import re
import subprocess
import sys

import pytest

COMPILE = """
import sys
from cornerjax.config import load_recipe
from cornerjax.training.mesh import data_mesh
from cornerjax.training.setup import abstract_step
from cornerjax.validation import replaced

network = {"model": {"backbone.stacks": 1, "num_classes": 80}, "compute.pooling_implementation": sys.argv[1]}
config = replaced(load_recipe("configs/cornernet.py"), network | {"data.batch": 8})
step, state, batch = abstract_step(config, data_mesh())
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
    found = [(line, match[1]) for line in hlo.splitlines() if (match := COLLECTIVE.search(line))]
    assert {operation for _, operation in found} == {"all-reduce"}
    assert "transpose(jvp(corner_max))" in hlo  # the operations do say where they come from
    assert not [line for line, _ in found if "corner_max" in line]
