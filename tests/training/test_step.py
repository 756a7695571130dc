"""One update: what it leaves when something is not finite, the running mean, what is refused, what it says it needs."""

import jax
import numpy as np
import pytest

from cornerjax.config import Data, Optim
from cornerjax.detectors import DETECTORS, get_detector
from cornerjax.detectors.cornernet import CornerConfig, CornerModel
from cornerjax.errors import InputError
from cornerjax.nn.backbones.hourglass import Hourglass
from cornerjax.training.mesh import data_mesh, to_devices
from cornerjax.training.optimiser import make_optimiser
from cornerjax.training.setup import abstract_step, check_batch, example_of, memory_line, network_of, start_state
from cornerjax.training.step import make_train_step
from cornerjax.validation import replaced

SMALL = CornerConfig(
    model=CornerModel(
        num_classes=2,
        backbone=Hourglass(stacks=1, stem_dim=4, stem_kernel=3, dims=(4, 4), blocks=(1, 1), dim=4),
        pool_dim=4,
    ),
    data=Data(batch=2, crop_px=(31, 31), max_objects=4),
    optim=Optim(peak_lr=0.01, ema_decay=0.6),
)


def random_batch(rng):
    batch = {name: np.stack([value] * 2) for name, value in example_of(SMALL).items()}
    return batch | {"image": rng.standard_normal((2, 31, 31, 3)).astype(np.float32)}


@pytest.fixture(scope="module")
def run():
    """(update, first state): update takes host arrays and gives the next state and the losses, on the host too."""
    detector, mesh, tx = get_detector("cornernet"), data_mesh(), make_optimiser(SMALL)
    apply, params, model_state = network_of(SMALL, np.random.default_rng(0))
    state = start_state(params, model_state, tx, mesh, ema=True)
    step = make_train_step(detector, apply, tx, SMALL, mesh)
    return lambda state, batch: jax.device_get(step(state, to_devices(batch, mesh))), jax.device_get(state)


def same(one, other) -> bool:
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, one, other)))


def test_the_running_mean_follows_the_weights(run):
    """The decay rises from 1/10 to that of the recipe, as (1 + n) / (10 + n)."""
    update, state = run
    rng, mean = np.random.default_rng(0), {"params": state.params, "model_state": state.model_state}
    for n in range(8):
        state, _ = update(state, random_batch(rng))
        decay = min(0.6, (1 + n) / (10 + n))
        new = {"params": state.params, "model_state": state.model_state}
        mean = jax.tree.map(lambda m, x, d=decay: d * m + (1 - d) * x, mean, new)
    assert not same(mean, new)
    jax.tree.map(lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6), state.ema, mean)


def test_nothing_moves_from_a_loss_on_that_is_not_finite(run):
    """Neither in the update itself nor in the next one, which has been started before anyone knew."""
    update, first = run
    rng = np.random.default_rng(0)
    sound, _ = update(first, random_batch(rng))
    assert int(sound.step) == 1
    assert not same(sound.params, first.params)
    bad = random_batch(rng)
    bad["image"][1, 3, 4] = np.nan
    halted, losses = update(sound, bad)
    after, _ = update(halted, random_batch(rng))
    assert not np.isfinite(losses["grad_norm"])
    assert same(halted._replace(halted=sound.halted), sound)
    assert same(after, halted)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"data.batch": 3, "optim.accumulate": 2},
            "data.batch is 3; it must be a positive multiple of .* times optim",
        ),
        ({"data.batch": 4, "optim.batch_norm_groups": 3}, "optim.batch_norm_groups is 3; accepted are 1, 2, 4 "),
        (
            {"data.batch": 6, "optim.batch_norm_groups": 3, "optim.accumulate": 2},
            r"accepted are 1, 2, 6 \(data\.batch 6, optim\.accumulate 2, devices 1\)$",
        ),
    ],
)
def test_a_batch_that_cannot_be_divided_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        check_batch(replaced(SMALL, changes), 1)


def test_a_step_of_shapes_alone_says_what_it_needs():
    """At least the weights, both moments, the running mean and the batch: here some 0.2 GB."""
    wide = {"model.backbone": {"dims": (256, 256), "dim": 256}}
    config = replaced(SMALL, {"data.render": "device", "compute.dtype": "bfloat16", **wide})
    step, state, batch = abstract_step(config, data_mesh())
    held = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves((state, batch))) / 1e9
    assert held > 0.1
    line = memory_line(step.lower(state, batch).compile())
    assert float(line.split(":")[1].split("GB")[0]) == pytest.approx(held, abs=0.01)


@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_has_an_example_to_compile_for(name):
    config = replaced(DETECTORS[name].defaults, {"model.num_classes": 2, "data.render": "device"})
    assert example_of(config)["valid"].shape == (config.data.max_objects,)
