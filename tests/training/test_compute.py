"""How a network is computed may change between two starts of a run, and when it predicts."""

import dataclasses

import jax
import numpy as np
import pytest

import cornerjax
from cornerjax.checkpoint import restore_weights
from cornerjax.config import Compute
from cornerjax.training.loop import train

OTHER = Compute(dtype="bfloat16", remat="stack", precision="highest")


@pytest.fixture(scope="module")
def begun(config, tmp_path_factory):
    """Three steps in bfloat16, with maps computed again."""
    halved = dataclasses.replace(
        config, steps=3, compute=OTHER, optim=dataclasses.replace(config.optim, schedule="step")
    )
    return train(halved, tmp_path_factory.mktemp("runs") / "begun"), halved


@pytest.mark.slow
def test_a_run_resumes_with_another_type_remat_and_precision(begun):
    run, config = begun
    before = restore_weights(run.path, "latest")
    resumed = train(dataclasses.replace(config, steps=6, compute=Compute()), run.path)
    assert resumed.config.compute == Compute()
    *_, step = after = restore_weights(run.path, "latest")
    assert step == 6
    moved = jax.tree.map(lambda old, new: bool((old != new).any()), before[0], after[0])
    assert any(jax.tree.leaves(moved))


@pytest.mark.slow
def test_it_predicts_with_either(begun):
    run, _ = begun
    images = np.random.default_rng(0).standard_normal((1, 127, 127, 3)).astype(np.float32)
    full, half = (
        cornerjax.load(run.path, compute={"dtype": dtype}).forward(images)["tl_heat"]
        for dtype in ("float32", "bfloat16")
    )
    assert full.dtype == half.dtype == np.float32
    assert (full != half).any()
    np.testing.assert_allclose(full, half, atol=0.1)
