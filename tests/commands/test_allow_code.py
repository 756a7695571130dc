"""A work directory of somebody else runs no code of its own unless the caller says so."""

import sys

import numpy as np
import pytest

import cornerjax
from cornerjax.checkpoint import Checkpoints
from cornerjax.commands import eval as evaluate
from cornerjax.commands import predict
from cornerjax.commands import replay as replay_command
from cornerjax.config import Data
from cornerjax.data.shapes import write_shapes
from cornerjax.detectors import get_detector
from cornerjax.detectors.base import make_network
from cornerjax.detectors.cornernet import CornerConfig, CornerModel, CornerTest
from cornerjax.errors import InputError
from cornerjax.new_workdir import create_workdir
from cornerjax.nn.backbones.hourglass import Hourglass
from cornerjax.training.guard import write_batch

REFUSED = (
    r"config\.json names a function to be imported, model\.pooling 'payload:pool'; --allow-code, or allow_code=True"
)
PAYLOAD = """
from pathlib import Path
Path(__file__).with_name("ran").touch()
def pool(x, direction):
    return x
"""


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("data") / "shapes", seed=0, train=2, val=2)


@pytest.fixture
def run(tmp_path, shapes, monkeypatch):
    """A run whose pooling is a function that lies in its own folder, which Python finds."""
    backbone = Hourglass(stacks=1, stem_dim=4, stem_kernel=3, dims=(4, 4), blocks=(1, 1), dim=4)
    config = CornerConfig(
        model=CornerModel(num_classes=3, backbone=backbone, pool_dim=4, pooling="none"),
        data=Data(root=str(shapes), crop_px=(127, 127), batch=2),
        test=CornerTest(top_k=5, max_pairs=5),
    )
    path = tmp_path / "run"
    create_workdir(path, config, ("circle", "rectangle", "triangle"), (1, 2, 3), recipe="")
    _, params, model_state = make_network(get_detector("cornernet"), config, np.random.default_rng(0))
    with Checkpoints(path) as checkpoints:
        checkpoints.save(0, {"params": params, "model_state": model_state})
    named = (path / "config.json").read_text().replace('"pooling": "none"', '"pooling": "payload:pool"')
    (path / "config.json").write_text(named)
    (path / "payload.py").write_text(PAYLOAD)
    monkeypatch.syspath_prepend(path)
    yield path
    sys.modules.pop("payload", None)


def test_loading_imports_only_what_is_allowed(run, shapes):
    with pytest.raises(InputError, match=REFUSED):
        cornerjax.load(run)
    assert not (run / "ran").exists()
    predictor = cornerjax.load(run, allow_code=True)
    assert (run / "ran").exists()
    predictor(np.zeros((64, 64, 3), np.uint8))


@pytest.mark.parametrize("command", ["eval", "predict", "replay"])
def test_commands_import_only_what_is_allowed(run, shapes, tmp_path, command):
    photo = next((shapes / "images").rglob("*.*"))
    (run / "not_finite").mkdir()
    batch = {"image_id": np.array([1, 2])}
    write_batch(run / "not_finite" / "step-000001-host-0.npz", 1, batch)
    calls = {
        "eval": lambda *more: evaluate.main(["--workdir", str(run), "--report-images", "0", "--pictures", "0", *more]),
        "predict": lambda *more: predict.main(
            [str(photo), "--workdir", str(run), "--out", str(tmp_path / "found"), *more]
        ),
        "replay": lambda *more: replay_command.main([str(run / "not_finite" / "step-000001-host-0.npz"), *more]),
    }
    with pytest.raises(InputError, match=REFUSED):
        calls[command]()
    assert not (run / "ran").exists()
    if command == "replay":  # it gets as far as building the network
        with pytest.raises(InputError, match="holds converted weights"):
            calls[command]("--allow-code")
    else:
        calls[command]("--allow-code")
    assert (run / "ran").exists()
