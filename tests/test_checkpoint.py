"""Checkpoints: which are kept, which is the best, and what happens where they cannot be written."""

import gc
import logging
import shutil
import sys
import threading
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from made_checkpoints import GIVEN_UP, as_numpy, save, trees, write_two_steps

from cornerjax.checkpoint import Checkpoints, restore_weights
from cornerjax.commands.process import LOGS, quiet
from cornerjax.errors import InputError, RunError


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory):
    return write_two_steps(tmp_path_factory.mktemp("two"))


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


def test_the_best_outlives_all_checkpoints_without_ap(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for step, ap in [(1, 0.5), (2, None), (3, float("nan")), (4, None)]:
            save(checkpoints, step, ap)
    with Checkpoints(tmp_path) as checkpoints:
        save(checkpoints, 5)
    assert sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()) == [1, 5]


def test_without_checkpoints_there_is_nothing_to_restore(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore_newest(*trees(0), pytest.fail) is None


def test_a_checkpoint_of_another_network_is_not_taken_for_damaged(two_steps, tmp_path):
    run = shutil.copytree(two_steps, tmp_path / "run")
    weights, optimiser = trees(0)
    wider = weights | {"model_state": {"m": jnp.zeros(3)}}
    message = r"checkpoints/2 is of another network: model_state\.m is \(2,\) float32 there, \(3,\) float32 here"
    with Checkpoints(run) as checkpoints, pytest.raises(InputError, match=message):
        checkpoints.restore_newest(wider, optimiser, pytest.fail)
    with Checkpoints(run) as checkpoints, pytest.raises(InputError, match=r"ema is None there, \(\) float32 here"):
        checkpoints.restore_newest(weights, optimiser | {"ema": jnp.float32(0)}, pytest.fail)
    assert not (run / "damaged").exists()


def test_weights_of_another_shape_are_refused_before_they_are_read(two_steps, tmp_path, monkeypatch):
    monkeypatch.setattr(ocp.CheckpointManager, "restore", lambda *_, **__: pytest.fail("read"))
    run = shutil.copytree(two_steps, tmp_path / "run")
    with pytest.raises(InputError, match=r"run, step 2: weights do not fit the network: shape of .* is .*, expected"):
        restore_weights(run, "latest", shapes=lambda: {"a.0": (10_000, 10_000)})


def test_what_an_interrupted_save_leaves_is_no_checkpoint_and_is_removed(two_steps, tmp_path):
    run = shutil.copytree(two_steps, tmp_path / "run")
    shutil.copytree(run / "checkpoints" / "2", run / "checkpoints" / "3.orbax-checkpoint-tmp")
    with Checkpoints(run, keep=2) as checkpoints:
        assert checkpoints.latest() == 2
        checkpoints.save(3, *trees(3))
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["1", "2", "3"]


def many_arrays():
    """As many as a network has; the small disk holds three checkpoints of them."""
    rng = np.random.default_rng(0)
    arrays = [jnp.asarray(rng.standard_normal(1_500), jnp.float32) for _ in range(300)]
    weights = {"params": {str(i): array for i, array in enumerate(arrays[:150])}, "model_state": {"m": jnp.zeros(2)}}
    return weights, {"opt_state": {str(i): array for i, array in enumerate(arrays[150:])}, "step": jnp.int32(0)}


@GIVEN_UP
def test_a_full_disk_while_saving_is_one_sentence_and_leaves_nothing_half_written(small_disk, monkeypatch, capfd):
    """Both ways out: the error of a save in the background comes with the next save, or at the end."""
    printed: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", printed.append)
    for log in map(logging.getLogger, LOGS):
        monkeypatch.setattr(log, "level", log.level)  # quiet leaves them as they are for the threads that go on
    message = (
        rf"cannot write a checkpoint to {small_disk}/checkpoints: No space left on device; "
        r"the newest complete one is that of step 3; make room and run the same command again"
    )

    def save_steps(*steps):
        with quiet(), Checkpoints(small_disk, keep=9) as checkpoints:
            for step in steps:
                checkpoints.save(step, *many_arrays())

    for steps in [range(1, 9), [4]]:
        with pytest.raises(RunError, match=message):
            save_steps(*steps)
        assert sorted(path.name for path in (small_disk / "checkpoints").iterdir()) == ["1", "2", "3"]
        closed = SimpleNamespace(exc_value=RuntimeError("Event loop is closed"))
        sys.unraisablehook(closed)  # as tensorstore's threads do, later
        assert not printed
        assert not capfd.readouterr().err
    shutil.rmtree(small_disk / "checkpoints" / "1")
    save_steps(4)
    assert restore_weights(small_disk, "latest")[2] == 4
    gc.collect()  # what orbax gave up, while it is quiet


@GIVEN_UP
def test_an_error_before_a_save_fails_is_the_one_that_is_told(small_disk, caplog):
    def fail():
        with quiet(), Checkpoints(small_disk, keep=9) as checkpoints:
            for step in range(1, 5):  # the fourth fails in the background
                checkpoints.save(step, *many_arrays())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert "cannot write a checkpoint" in caplog.text


def test_a_folder_that_cannot_be_written_is_one_sentence_at_once_however_often_it_is_tried(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1)
    checkpoints._manager.wait_until_finished()
    shutil.rmtree(tmp_path / "checkpoints")
    (tmp_path / "checkpoints").write_text("")  # permissions would not stop root
    threads = set(threading.enumerate())

    message = r"cannot write a checkpoint to .*: Not a directory; there is no complete one$"
    for _ in range(2):
        with pytest.raises(RunError, match=message):
            save(checkpoints, 2)
    with pytest.raises(RunError, match=message):
        checkpoints.__exit__(None, None, None)
    assert set(threading.enumerate()) <= threads  # the process ends only when they do


def test_an_ap_that_is_known_later_counts_for_the_best(two_steps, tmp_path, caplog):
    run = shutil.copytree(two_steps, tmp_path / "run")
    with Checkpoints(run, keep=1) as checkpoints:
        checkpoints.save(3, *trees(3))
    with Checkpoints(run, keep=1) as checkpoints:
        assert checkpoints.best() == 1
        checkpoints.add_ap(3, float("nan"))
        assert checkpoints.best() == 1
        checkpoints.add_ap(3, 0.75)
        checkpoints.add_ap(3, 0.1)  # a checkpoint has one
        assert checkpoints.best() == 3
        for step in (4, 5):
            checkpoints.save(step, *trees(step))
    params, _, step = restore_weights(run)
    assert step == 3
    assert as_numpy(params) == as_numpy(trees(3)[0]["params"])
    assert "its AP is not known" not in caplog.text
    file = run / "checkpoints" / "3" / "metrics" / "metrics"
    file.write_text(file.read_text().replace("0.75", "0.85"))
    assert restore_weights(run)[2] == 5
    assert "checkpoints/3: its AP is not known, metrics/metrics is not as it was written" in caplog.text


def test_a_checkpoint_of_an_older_version_gets_an_ap_and_no_checksums(two_steps, tmp_path):
    """With those of its AP alone, the rest would be taken for damaged."""
    run = shutil.copytree(two_steps, tmp_path / "run")
    shutil.rmtree(run / "checkpoints" / "2" / "metrics")
    (run / "checkpoints" / "2" / "sha256.json").unlink()
    with Checkpoints(run, keep=2) as checkpoints:
        checkpoints.add_ap(2, 0.75)
    assert restore_weights(run)[2] == 2
    assert not (run / "checkpoints" / "2" / "sha256.json").exists()


def test_an_ap_that_cannot_be_written_is_one_sentence(two_steps, tmp_path):
    run = shutil.copytree(two_steps, tmp_path / "run")
    shutil.rmtree(run / "checkpoints" / "2" / "metrics")
    (run / "checkpoints" / "2" / "metrics").write_text("")  # permissions would not stop root
    message = r"^cannot write the AP of checkpoint .*checkpoints/2: File exists"
    with Checkpoints(run, keep=2) as checkpoints, pytest.raises(RunError, match=message):
        checkpoints.add_ap(2, 0.75)


def test_who_only_reads_writes_nothing_and_moves_nothing(two_steps, tmp_path):
    run = shutil.copytree(two_steps, tmp_path / "run")
    (run / "checkpoints" / "2" / "weights" / "_METADATA").write_text("{")
    shutil.copytree(run / "checkpoints" / "2", run / "checkpoints" / "3.orbax-checkpoint-tmp")

    def content():
        return {path: path.is_file() and path.read_bytes() for path in run.rglob("*")}

    before = content()
    warned: list[str] = []
    with Checkpoints(run, read_only=True) as checkpoints:
        assert as_numpy(checkpoints.restore_newest(*trees(0), warned.append)) == as_numpy(trees(1))
    assert content() == before
    why = "weights/_METADATA is not as it was written"
    assert warned == [f"checkpoint {run}/checkpoints/2 is damaged ({why})"]
