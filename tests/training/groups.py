"""Compiles training steps on eight devices with different numbers of BatchNorm groups, and prints their collectives.

python tests/training/groups.py BATCH ACCUMULATE GROUPS ...
"""

import os
import re
import sys

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import jax.numpy as jnp
import numpy as np

from cornerjax.config import Data, Optim
from cornerjax.detectors import DETECTORS
from cornerjax.detectors.cornernet import CornerConfig, CornerModel, CornerNet
from cornerjax.nn.layers import ConvBN
from cornerjax.training import setup
from cornerjax.training.mesh import data_mesh

COLLECTIVE = re.compile(r" (all-gather|all-reduce|all-to-all|collective-\w+|reduce-scatter)(?:-start)?\(")


class OneLayer(CornerNet):
    """A network of one convolution with BatchNorm, and a loss that pushes its map down."""

    def build(self, model, rng):
        return ConvBN(3, 4, 3, rng=rng)

    def check(self, config):
        pass

    def encode(self, objects, config):
        return {"weight": np.float32(1)}

    def render(self, encoded, config, xp):
        return {}

    def counts(self, targets, config):
        return {}

    def loss(self, outputs, targets, config, counts=None):
        return {"total": jnp.mean(targets["weight"][:, None, None, None] * jnp.exp(outputs))}


def main() -> None:
    DETECTORS["one layer"] = OneLayer()
    setup.check_batch = lambda config, devices: None  # to see what it refuses
    batch, parts, *numbers = map(int, sys.argv[1:])
    for groups in numbers:
        config = CornerConfig(
            model=CornerModel(detector="one layer", num_classes=1),
            data=Data(batch=batch, crop_px=(15, 15)),
            optim=Optim(accumulate=parts, batch_norm_groups=groups),
        )
        step, state, rows = setup.abstract_step(config, data_mesh())
        text = step.lower(state, rows).compile().as_text()
        assert text is not None
        print(groups, *sorted(set(COLLECTIVE.findall(text))))


main()
