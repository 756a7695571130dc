"""What happens around a checkpoint while it is written: the clock is set, its folder is renamed, the disk is full."""

import threading
import time

import numpy as np
import orbax.checkpoint as ocp
import pytest

from cornerjax.checkpoint import Checkpoints
from cornerjax.errors import RunError


@pytest.mark.parametrize("after_s", [0.001, 0.02, 0.06])
def test_a_clock_that_is_set_while_a_checkpoint_is_written_changes_nothing(tmp_path, monkeypatch, after_s):
    real, moved = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + moved[0])
    (tmp_path / "checkpoints").mkdir()
    weights = {"params": {"kernel": np.zeros((1000, 300), np.float32)}, "model_state": {}}
    with Checkpoints(tmp_path, keep=3) as checkpoints:
        for step in (1, 2, 3):
            mover = threading.Timer(after_s, lambda: moved.append(moved.pop() + 7200))
            mover.start()
            checkpoints.save(step, weights)
            mover.join()
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.newest_first() == [3, 2, 1]


@pytest.mark.parametrize("after_s", [0, 0.002, 0.01, 0.05])
def test_a_folder_that_is_renamed_while_a_checkpoint_is_written_is_one_sentence(tmp_path, after_s):
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    weights = {"params": {"kernel": np.zeros((1000, 300), np.float32)}, "model_state": {}}

    def save() -> None:
        with Checkpoints(run) as checkpoints:
            checkpoints.save(1, weights)
            time.sleep(after_s)  # any moment of the save, or after it
            run.rename(tmp_path / "elsewhere")
            checkpoints.save(2, weights)

    with pytest.raises(RunError, match=r"^cannot write a checkpoint to .*run/checkpoints: "):
        save()


def test_a_full_disk_that_several_parts_of_orbax_complain_of_is_one_sentence(tmp_path, monkeypatch):
    close = ocp.CheckpointManager.close
    errors: list[Exception] = [
        OSError(28, "No space left on device"),
        ValueError("RESOURCE_EXHAUSTED"),
        OSError("more"),
    ]
    monkeypatch.setattr(ocp.CheckpointManager, "close", lambda self: fail(errors.pop(0)) if errors else close(self))
    (tmp_path / "checkpoints").mkdir()

    def open_and_close() -> None:
        with Checkpoints(tmp_path):
            pass

    with pytest.raises(RunError, match=r"^cannot write a checkpoint to .*: No space left on device"):
        open_and_close()
    assert not errors


def fail(error: Exception) -> None:
    raise error
