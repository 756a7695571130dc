"""What the package does to the program that imports it: nothing."""

import subprocess
import sys

import jax.numpy as jnp
import numpy as np

from cornerjax.checkpoint import Checkpoints
from cornerjax.config import Data
from cornerjax.detectors import get_detector
from cornerjax.detectors.base import make_network
from cornerjax.detectors.cornernet import CornerConfig, CornerModel
from cornerjax.new_workdir import create_workdir
from cornerjax.nn.backbones.hourglass import Hourglass

PROGRAM = """
import asyncio, logging, sys
import absl.logging, cv2, flax, jax, numpy as np, optax, orbax.checkpoint

logging.getLogger("asyncio").setLevel(logging.INFO)
cv2.setNumThreads(3)
sys.unraisablehook = lambda what: None

def state():
    logs = [logging.root, *(log for log in logging.root.manager.loggerDict.values() if isinstance(log, logging.Logger))]
    return {log.name: log.level for log in logs}, (sys.unraisablehook, cv2.getNumThreads(), logging.root.handlers)

levels, before = state()
import cornerjax
from cornerjax.checkpoint import Checkpoints
from cornerjax.workdir import open_workdir

run = open_workdir(sys.argv[1])
predictor = cornerjax.load(run.path)
predictor(np.zeros((64, 64, 3), np.uint8))
params, model_state = predictor.weights
weights, optimiser = {"params": params, "model_state": model_state}, {"step": jax.numpy.int32(0)}
with Checkpoints(run.path) as checkpoints:
    assert checkpoints.restore_newest(weights, optimiser, print)
    checkpoints.save(6, weights, optimiser, ap=0.5)

later, after = state()
assert after == before, (before, after)
assert {name: later[name] for name in levels} == levels
assert all(level == logging.NOTSET for name, level in later.items() if name not in levels), later
"""


def test_importing_loading_saving_and_restoring_change_no_log_no_hook_and_no_threads(tmp_path):
    backbone = Hourglass(stacks=1, stem_dim=4, stem_kernel=3, dims=(4, 4), blocks=(1, 1), dim=4)
    config = CornerConfig(model=CornerModel(num_classes=2, backbone=backbone, pool_dim=4), data=Data(crop_px=(63, 63)))
    create_workdir(tmp_path, config, ("a", "b"), (1, 2), recipe="")
    _, params, model_state = make_network(get_detector("cornernet"), config, np.random.default_rng(0))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(5, {"params": params, "model_state": model_state}, {"step": jnp.int32(5)})
    done = subprocess.run([sys.executable, "-c", PROGRAM, tmp_path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "absl" not in done.stderr  # nor does a checkpoint, read or written, warn of anything
