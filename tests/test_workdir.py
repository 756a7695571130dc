"""A work directory that names code: none of it runs unless the caller says so."""

import contextlib
import dataclasses
import sys

import cv2
import jax.numpy as jnp
import numpy as np
import pytest

import cornerjax
from cornerjax.checkpoint import Checkpoints, create_workdir
from cornerjax.commands import eval as eval_command
from cornerjax.commands import predict, replay
from cornerjax.config import Config, Data, Model
from cornerjax.data.shapes import SHAPES, write_shapes
from cornerjax.detectors import get_detector
from cornerjax.nn.functional import functional
from cornerjax.training.guard import write_batch
from cornerjax.workdir import open_workdir, refuse_code

MODULE = """
from pathlib import Path

Path(__file__).with_name("ran").touch()

def pool(x, direction):
    return x
"""
MODEL = Model(num_classes=3, stacks=1, stem_dim=4, stem_kernel=3, dims=(4, 4), blocks=(1, 1), head_dim=4, pool_dim=4)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run of somebody else; its module, importable here, leaves the file `ran` when it is imported."""
    (tmp_path / "theirs.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "theirs", raising=False)
    monkeypatch.chdir(tmp_path)
    data = Data(root=str(write_shapes(tmp_path / "shapes", seed=0, train=1, val=1)), batch=1, crop_px=(63, 63))
    _, params, model_state = functional(get_detector("cornernet").build(MODEL, np.random.default_rng(0)))
    config = Config(model=dataclasses.replace(MODEL, pooling="theirs:pool"), data=data)
    create_workdir(tmp_path / "run", config, SHAPES, (1, 2, 3), recipe="")
    with Checkpoints(tmp_path / "run") as checkpoints:
        checkpoints.save(5, {"params": params, "model_state": model_state}, {"step": jnp.int32(5)})
    cv2.imwrite("photo.png", np.zeros((63, 63, 3), np.uint8))
    (tmp_path / "run" / "not_finite").mkdir()
    write_batch(tmp_path / "run/not_finite/step-000006-host-0.npz", 6, {"image_id": np.array([1])})
    return tmp_path / "run"


WAYS = {
    "load": lambda allowed: cornerjax.load("run", allow_code=bool(allowed)),
    "eval": lambda allowed: eval_command.main(["--workdir", "run", "--report-images", "0", *allowed]),
    "predict": lambda allowed: predict.main(["photo.png", "--workdir", "run", "--out", "out", *allowed]),
    "replay": lambda allowed: replay.main(["run/not_finite/step-000006-host-0.npz", *allowed]),
}


@pytest.mark.parametrize("way", WAYS)
def test_code_that_a_run_names_is_imported_only_when_the_caller_says_so(way, run):
    message = r"run/config\.json names code of its own, model\.pooling is 'theirs:pool'; --allow-code, in Python allow"
    with pytest.raises(cornerjax.InputError, match=message):
        WAYS[way]([])
    assert not (run.parent / "ran").exists()
    # The checkpoint has no optimiser of a replay's; it is read after the network has been built.
    with (
        pytest.raises(cornerjax.InputError, match="is of another network")
        if way == "replay"
        else contextlib.nullcontext()
    ):
        WAYS[way](["--allow-code"])
    assert (run.parent / "ran").exists()


def test_pooling_of_ours_is_no_code(tmp_path):
    for pooling in ("corner", "full", "none"):
        config = Config(model=dataclasses.replace(MODEL, pooling=pooling))
        create_workdir(tmp_path / pooling, config, SHAPES, (1, 2, 3), recipe="")
        refuse_code(open_workdir(tmp_path / pooling), allow_code=False)
