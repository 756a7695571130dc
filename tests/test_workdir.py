"""The work directory: what it says of itself, and what it refuses."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from made_checkpoints import save

from cornerjax.checkpoint import Checkpoints, restore_weights
from cornerjax.config import Optim
from cornerjax.detectors.cornernet import CornerConfig
from cornerjax.errors import InputError
from cornerjax.new_workdir import create_workdir
from cornerjax.workdir import open_workdir

NAMES, IDS = ("cat", "dog"), (3, 17)


def test_a_work_directory_describes_itself_and_can_be_moved(tmp_path):
    config = CornerConfig(seed=7, optim=Optim(decay_steps=(5, 6)))
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


def test_a_directory_of_another_run_is_refused_and_left_alone(tmp_path):
    config = CornerConfig()
    create_workdir(tmp_path, config, NAMES, IDS, recipe="")
    before = (tmp_path / "config.json").read_text()
    other = dataclasses.replace(config, optim=dataclasses.replace(config.optim, peak_lr=1.0))
    with pytest.raises(InputError, match=r"belongs to another run \(there, here: optim.peak_lr: 0.00025, 1.0\)"):
        create_workdir(tmp_path, other, NAMES, IDS, recipe="")
    with pytest.raises(InputError, match="class names"):
        create_workdir(tmp_path, config, ("cat",), (3,), recipe="")
    assert (tmp_path / "config.json").read_text() == before


def test_what_does_not_change_the_result_may_change(tmp_path):
    config = CornerConfig()
    create_workdir(tmp_path, config, NAMES, IDS, recipe="")
    more = dataclasses.replace(config, log_steps=7, steps=9, data=dataclasses.replace(config.data, workers=9))
    assert create_workdir(tmp_path, more, NAMES, IDS, recipe="").config == more


def test_the_length_of_a_cosine_may_not_change(tmp_path):
    config = CornerConfig(optim=Optim(schedule="cosine"))
    create_workdir(tmp_path, config, NAMES, IDS, recipe="")
    with pytest.raises(InputError, match=r"belongs to another run .*steps: 500000, 9"):
        create_workdir(tmp_path, dataclasses.replace(config, steps=9), NAMES, IDS, recipe="")


@pytest.mark.parametrize(
    "text",
    ["{", "{}", "[]", '{"class_names": [1], "category_ids": [1]}', "[" * 100_000],
    ids=["cut short", "empty", "a list", "names that are no text", "lists in lists"],
)
def test_a_damaged_description(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    create_workdir(tmp_path / "sound", CornerConfig(), ("a",), (1,), recipe="")
    shutil.copy(tmp_path / "sound" / "config.json", tmp_path)
    with pytest.raises(InputError, match=r"run\.json (is damaged|is not JSON|has lists in lists, too deep to be read)"):
        open_workdir(tmp_path)


@pytest.mark.parametrize(("folder", "message"), [("gone", "does not exist"), (".", "has no run.json")])
def test_a_folder_that_is_no_work_directory(tmp_path, folder, message):
    with pytest.raises(InputError, match=message):
        open_workdir(tmp_path / folder)


def test_a_run_without_checkpoints(tmp_path):
    with pytest.raises(InputError, match="has no checkpoint yet"):
        restore_weights(tmp_path)


def test_class_names_and_the_network_have_to_agree(tmp_path):
    config = CornerConfig()
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, num_classes=3))
    create_workdir(tmp_path, config, NAMES, IDS, recipe="")
    with pytest.raises(InputError, match=r"run\.json has 2 class names, but config\.json 3 classes"):
        open_workdir(tmp_path)


def begun(path, *, steps=9, **options):
    """A run of so many steps, of which the checkpoint of step 6 is there."""
    create_workdir(path, CornerConfig(steps=steps), NAMES, IDS, **{"recipe": "shapes", "trained_on": "a"} | options)
    with Checkpoints(path) as checkpoints:
        save(checkpoints, 6)
    return path


def test_a_run_is_not_made_shorter_than_it_is(tmp_path):
    """What it has done could not be undone, and its record would say otherwise."""
    begun(tmp_path)
    before = (tmp_path / "config.json").read_bytes(), (tmp_path / "run.json").read_bytes()
    with pytest.raises(InputError, match=r"^steps is 5, but the run in .* is at step 6; give --steps 6 or more, or"):
        create_workdir(tmp_path, CornerConfig(steps=5), NAMES, IDS, recipe="shapes", trained_on="a")
    assert ((tmp_path / "config.json").read_bytes(), (tmp_path / "run.json").read_bytes()) == before
    create_workdir(tmp_path, CornerConfig(steps=6), NAMES, IDS, recipe="shapes", trained_on="a")


def test_the_record_of_a_run_goes_on_saying_how_it_began(tmp_path, caplog):
    begun(tmp_path)
    for _ in range(2):
        caplog.clear()
        create_workdir(tmp_path, CornerConfig(steps=9), NAMES, IDS, recipe="of another name", trained_on="b")
        assert "are no longer those that" in caplog.text
    run = json.loads((tmp_path / "run.json").read_text())
    assert (run["recipe"], run["trained_on"], run["init"]) == ("shapes", "a", None)


def test_a_start_that_came_to_no_checkpoint_is_described_anew(tmp_path):
    create_workdir(tmp_path, CornerConfig(), NAMES, IDS, recipe="a", trained_on="a")
    create_workdir(tmp_path, CornerConfig(), NAMES, IDS, recipe="b", trained_on="b")
    run = json.loads((tmp_path / "run.json").read_text())
    assert (run["recipe"], run["trained_on"]) == ("b", "b")
