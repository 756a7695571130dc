"""The work directory: what it says of itself, which checkpoints it keeps, what it refuses."""

import dataclasses
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from cornerjax.checkpoint import Checkpoints, create_workdir, open_workdir, restore_weights
from cornerjax.config import Config, InputError, Optim

NAMES, IDS = ("cat", "dog"), (3, 17)


def save(checkpoints, step, ap=None):
    weights = {"params": {"a": {"0": jnp.full((2, 3), step, jnp.float32)}}, "model_state": {"m": jnp.zeros(2)}}
    checkpoints.save(step, weights, {"step": jnp.int32(step)}, ap=ap)


def test_a_work_directory_describes_itself_and_can_be_moved(tmp_path):
    config = Config(seed=7, optim=Optim(decay_steps=(5, 6)))
    create_workdir(tmp_path / "run", config, NAMES, IDS, recipe="shapes")
    with Checkpoints(tmp_path / "run") as checkpoints:
        save(checkpoints, 3)
    shutil.move(tmp_path / "run", tmp_path / "moved")

    run = open_workdir(tmp_path / "moved")
    assert (run.config, run.class_names, run.category_ids) == (config, NAMES, IDS)
    params, model_state, step = restore_weights(tmp_path / "moved")
    assert step == 3
    np.testing.assert_array_equal(params["a"]["0"], np.full((2, 3), 3))
    np.testing.assert_array_equal(model_state["m"], np.zeros(2))


def test_the_newest_and_the_best_checkpoints_are_kept(tmp_path):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step, ap in [(10, 0.1), (20, 0.5), (30, 0.3), (40, None), (50, 0.2)]:
            save(checkpoints, step, ap)
    assert sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()) == [20, 40, 50]
    assert restore_weights(tmp_path, "best")[2] == 20
    assert restore_weights(tmp_path, "latest")[2] == 50


def test_the_best_is_the_newest_where_none_was_evaluated(tmp_path):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        save(checkpoints, 1)
        save(checkpoints, 2)
    assert restore_weights(tmp_path, "best")[2] == 2


def test_a_directory_of_another_run_is_refused_and_left_alone(tmp_path):
    config = Config()
    create_workdir(tmp_path, config, NAMES, IDS, recipe="")
    before = (tmp_path / "config.json").read_text()
    other = dataclasses.replace(config, optim=dataclasses.replace(config.optim, peak_lr=1.0))
    with pytest.raises(InputError, match=r"belongs to another run \(there, here: optim.peak_lr: 0.00025, 1.0\)"):
        create_workdir(tmp_path, other, NAMES, IDS, recipe="")
    with pytest.raises(InputError, match="class names"):
        create_workdir(tmp_path, config, ("cat",), (3,), recipe="")
    assert (tmp_path / "config.json").read_text() == before


def test_what_does_not_change_the_result_may_change(tmp_path):
    create_workdir(tmp_path, Config(), NAMES, IDS, recipe="")
    more = dataclasses.replace(Config(), log_steps=7, steps=9, data=dataclasses.replace(Config().data, workers=9))
    assert create_workdir(tmp_path, more, NAMES, IDS, recipe="").config == more


def test_the_length_of_a_cosine_may_not_change(tmp_path):
    config = Config(optim=Optim(schedule="cosine"))
    create_workdir(tmp_path, config, NAMES, IDS, recipe="")
    with pytest.raises(InputError, match=r"belongs to another run .*steps: 500000, 9"):
        create_workdir(tmp_path, dataclasses.replace(config, steps=9), NAMES, IDS, recipe="")


@pytest.mark.parametrize("text", ["{", "{}", "[]"])
def test_a_damaged_description(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(InputError, match=r"run\.json is damaged"):
        open_workdir(tmp_path)


@pytest.mark.parametrize(("folder", "message"), [("gone", "does not exist"), (".", "has no run.json")])
def test_a_folder_that_is_no_work_directory(tmp_path, folder, message):
    with pytest.raises(InputError, match=message):
        open_workdir(tmp_path / folder)


def test_a_run_without_checkpoints(tmp_path):
    with pytest.raises(InputError, match="has no checkpoint yet"):
        restore_weights(tmp_path)
