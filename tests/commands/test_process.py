"""What commands change of their process, and that it is as before when they end."""

import contextlib
import gc
import logging
import sys
from types import SimpleNamespace

import cv2
import jax.numpy as jnp
import pytest

from cornerjax.checkpoint import Checkpoints, restore_weights
from cornerjax.commands.process import LOGS, quiet, single_threaded_opencv
from cornerjax.errors import InputError, RunError


@pytest.fixture
def unraisable(monkeypatch):
    """What the hook of the program around gets; its logs have levels of their own."""
    printed: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", printed.append)
    for name in LOGS:
        monkeypatch.setattr(logging.getLogger(name), "level", logging.INFO)
    return printed


def state():
    return sys.unraisablehook, [logging.getLogger(name).level for name in LOGS]


def leave_something_behind():
    """What tensorstore's threads do when the save or read that they belong to has failed, and a defect elsewhere."""
    for said in ("Event loop is closed", "Encountered error while reading array index: (slice(0, 2, 1),)", "a defect"):
        sys.unraisablehook(SimpleNamespace(exc_value=RuntimeError(said)))


@pytest.mark.parametrize("error", [None, InputError, ZeroDivisionError, SystemExit])
def test_hooks_and_levels_are_as_before(error, unraisable):
    before = state()
    with pytest.raises(error) if error else contextlib.nullcontext(), quiet():
        assert state() != before
        leave_something_behind()
        if error:
            raise error
    assert state() == before
    assert [str(what.exc_value) for what in unraisable] == ["a defect"]


def test_after_a_failed_save_its_threads_stay_quiet(unraisable):
    with pytest.raises(RunError), quiet():
        raise RunError("cannot write a checkpoint")
    leave_something_behind()
    assert [str(what.exc_value) for what in unraisable] == ["a defect"]


def test_reads_that_orbax_gives_up_say_nothing(tmp_path, unraisable, capfd):
    """It reads the arrays while it finds that what describes them is damaged."""
    weights = {"params": {str(i): jnp.zeros((50, 40)) for i in range(20)}, "model_state": {"m": jnp.zeros(2)}}
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, weights)
    described = tmp_path / "checkpoints" / "2" / "weights" / "array_metadatas" / "process_0"
    described.write_bytes(described.read_bytes()[: described.stat().st_size // 2])
    with quiet():
        assert restore_weights(tmp_path, "latest")[2] == 1
    gc.collect()
    assert not unraisable
    assert "Traceback" not in capfd.readouterr().err


def test_opencv_has_its_threads_back():
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    with single_threaded_opencv():
        assert cv2.getNumThreads() == 1
    assert cv2.getNumThreads() == 3
    cv2.setNumThreads(before)
