"""Checkpoints of a few small arrays, for tests of what becomes of them."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cornerjax.checkpoint import Checkpoints

GIVEN_UP = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # reads, by orbax


def save(checkpoints, step, ap=None):
    weights = {"params": {"a": {"0": jnp.full((2, 3), step, jnp.float32)}}, "model_state": {"m": jnp.zeros(2)}}
    checkpoints.save(step, weights, {"step": jnp.int32(step)}, ap=ap)


def trees(step) -> tuple[dict[str, Any], dict[str, Any]]:
    """Numbers that differ from step to step, some of them in arrays large enough for files of their own."""
    ramp = jnp.arange(2000, dtype=jnp.float32).reshape(50, 40) / 7 + step
    weights = {"params": {"a": {"0": ramp}}, "model_state": {"m": jnp.full(2, step, jnp.float32)}}
    return weights, {"opt_state": [{"mu": ramp * 2}], "step": jnp.int32(step)}


def as_numpy(tree):
    return [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(tree)]


def write_two_steps(folder: Path) -> Path:
    """A work directory with checkpoints of steps 1 and 2; that of step 1 is the best."""
    with Checkpoints(folder, keep=2) as checkpoints:
        for step, ap in [(1, 0.5), (2, 0.4)]:
            checkpoints.save(step, *trees(step), ap=ap)
    return folder
