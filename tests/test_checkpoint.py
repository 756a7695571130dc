"""The work directory: what it says of itself, which checkpoints it keeps, what it refuses."""

import dataclasses
import gc
import json
import logging
import shutil
import sys
import threading
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cornerjax.checkpoint import Checkpoints, restore_weights
from cornerjax.commands.process import LOGS, quiet
from cornerjax.config import Optim
from cornerjax.detectors.cornernet import CornerConfig
from cornerjax.errors import InputError, RunError
from cornerjax.new_workdir import create_workdir
from cornerjax.workdir import open_workdir

NAMES, IDS = ("cat", "dog"), (3, 17)


def save(checkpoints, step, ap=None):
    weights = {"params": {"a": {"0": jnp.full((2, 3), step, jnp.float32)}}, "model_state": {"m": jnp.zeros(2)}}
    checkpoints.save(step, weights, {"step": jnp.int32(step)}, ap=ap)


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


@pytest.mark.parametrize("text", ["{", "{}", "[]"])
def test_a_damaged_description(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(InputError, match=r"run\.json is (damaged|not JSON)"):
        open_workdir(tmp_path)


@pytest.mark.parametrize(("folder", "message"), [("gone", "does not exist"), (".", "has no run.json")])
def test_a_folder_that_is_no_work_directory(tmp_path, folder, message):
    with pytest.raises(InputError, match=message):
        open_workdir(tmp_path / folder)


def test_a_run_without_checkpoints(tmp_path):
    with pytest.raises(InputError, match="has no checkpoint yet"):
        restore_weights(tmp_path)


def trees(step) -> tuple[dict[str, Any], dict[str, Any]]:
    """Numbers that differ from step to step, some of them in arrays large enough for files of their own."""
    ramp = jnp.arange(2000, dtype=jnp.float32).reshape(50, 40) / 7 + step
    weights = {"params": {"a": {"0": ramp}}, "model_state": {"m": jnp.full(2, step, jnp.float32)}}
    return weights, {"opt_state": [{"mu": ramp * 2}], "step": jnp.int32(step)}


def as_numpy(tree):
    return [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(tree)]


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory):
    """A work directory with checkpoints of steps 1 and 2; that of step 1 is the best."""
    folder = tmp_path_factory.mktemp("two")
    with Checkpoints(folder, keep=2) as checkpoints:
        for step, ap in [(1, 0.5), (2, 0.4)]:
            checkpoints.save(step, *trees(step), ap=ap)
    return folder


GIVEN_UP = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # reads, by orbax
DAMAGE = {
    "gone": lambda file, content: file.unlink(),
    "cut in half": lambda file, content: file.write_bytes(content[: len(content) // 2]),
    "garbage": lambda file, content: file.write_bytes(np.random.default_rng(0).bytes(len(content))),
}


@GIVEN_UP
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_whichever_file_is_damaged_the_newest_readable_checkpoint_is_taken(two_steps, tmp_path, damage):
    files = [file.relative_to(two_steps) for file in (two_steps / "checkpoints" / "2").rglob("*") if file.is_file()]
    fell_back = set()
    for i, file in enumerate(files):
        run = shutil.copytree(two_steps, tmp_path / str(i))
        damage(run / file, (run / file).read_bytes())
        params, model_state, step = restore_weights(run, "latest")
        assert as_numpy((params, model_state)) == as_numpy((trees(step)[0]["params"], trees(step)[0]["model_state"]))
        warned: list[str] = []
        with Checkpoints(run, keep=2) as checkpoints:
            restored = checkpoints.restore_newest(*trees(0), warned.append)
            assert restored is not None
            taken = int(restored[1]["step"])
            assert as_numpy(restored) == as_numpy(trees(taken)), file
            assert (
                (taken == 2) == (not warned) == (run / "checkpoints" / "2").is_dir() == (not (run / "damaged").exists())
            )
            if taken == 1:
                fell_back.add(file.parts[2] if len(file.parts) == 4 else "")
                assert len(warned) == 1
                assert f"checkpoint {run}/checkpoints/2 is damaged (" in warned[0]
                assert warned[0].endswith(f" and now {run}/damaged/2")
    assert {"weights", "optimiser"} <= fell_back


@pytest.mark.parametrize("folder", ["", "weights", "optimiser", "weights/d", "optimiser/ocdbt.process_0"])
def test_a_checkpoint_without_one_of_its_folders_is_set_aside(two_steps, tmp_path, folder):
    run = shutil.copytree(two_steps, tmp_path / "run")
    shutil.rmtree(run / "checkpoints" / "2" / folder)
    (run / "checkpoints" / "2").mkdir(exist_ok=True)
    with Checkpoints(run, keep=2) as checkpoints:
        assert as_numpy(checkpoints.restore_newest(*trees(0), lambda line: None)) == as_numpy(trees(1))


def test_the_step_of_a_damaged_checkpoint_can_be_saved_again_and_damaged_again(two_steps, tmp_path):
    run = shutil.copytree(two_steps, tmp_path / "run")
    for _ in range(2):
        (run / "checkpoints" / "2" / "weights" / "manifest.ocdbt").unlink()
        with Checkpoints(run, keep=2) as checkpoints:
            assert as_numpy(checkpoints.restore_newest(*trees(0), lambda line: None)) == as_numpy(trees(1))
            checkpoints.save(2, *trees(2))
        assert restore_weights(run, "latest")[2] == 2
    assert sorted(path.name for path in (run / "damaged").iterdir()) == ["2", "2.1"]


def test_where_no_checkpoint_can_be_read_nothing_is_moved(two_steps, tmp_path):
    run = shutil.copytree(two_steps, tmp_path / "run")
    for step in "12":
        (run / "checkpoints" / step / "weights" / "_METADATA").write_text("{")
    why = r"\(step 2: weights/_METADATA is not as it was written\)"
    message = rf"none of the 2 checkpoints in {run}/checkpoints can be read {why}"
    with Checkpoints(run) as checkpoints, pytest.raises(RunError, match=message):
        checkpoints.restore_newest(*trees(0), pytest.fail)
    with pytest.raises(RunError, match=message):
        restore_weights(run)
    assert sorted(path.name for path in (run / "checkpoints").iterdir() if path.name.isdigit()) == ["1", "2"]


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


def test_for_damaged_weights_the_newest_readable_ones_are_taken_with_a_warning(two_steps, tmp_path, caplog):
    run = shutil.copytree(two_steps, tmp_path / "run")
    (run / "checkpoints" / "1" / "weights" / "manifest.ocdbt").write_bytes(b"")
    assert restore_weights(run, "best")[2] == 2
    assert f"checkpoint {run}/checkpoints/1 is damaged" in caplog.text
    assert "that of step 2 is taken" in caplog.text


def test_an_unreadable_ap_keeps_no_run_from_starting(two_steps, tmp_path):
    run = shutil.copytree(two_steps, tmp_path / "run")
    for content in ["{", "[]", '{"AP": "x"}', '{"AP": null}']:
        (run / "checkpoints" / "2" / "metrics" / "metrics").write_text(content)
        with Checkpoints(run) as checkpoints:
            assert (checkpoints.best(), checkpoints.latest()) == (1, 2)


def test_the_best_outlives_all_checkpoints_without_ap(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for step, ap in [(1, 0.5), (2, None), (3, float("nan")), (4, None)]:
            save(checkpoints, step, ap)
    with Checkpoints(tmp_path) as checkpoints:
        save(checkpoints, 5)
    assert sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()) == [1, 5]


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


def test_no_changed_byte_loads_other_weights(tmp_path):
    """One changed in each file; the checkpoint before is taken."""
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in (1, 2):
            save(checkpoints, step)
    sound, _, _ = restore_weights(tmp_path, "latest")
    folder = tmp_path / "checkpoints" / "2" / "weights"
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert len(files) > 3
    for file in files:
        content = file.read_bytes()
        for at in {0, len(content) // 2, len(content) - 1} if content else set():
            file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
            params, _, step = restore_weights(tmp_path, "latest")
            assert step == 1, file
            np.testing.assert_array_equal(params["a"]["0"], np.full((2, 3), 1))
        file.write_bytes(content)
    params, _, step = restore_weights(tmp_path, "latest")
    assert step == 2
    np.testing.assert_array_equal(params["a"]["0"], sound["a"]["0"])


@pytest.mark.parametrize(
    "content", ["{", "7", "{}", "[]", '["weights/d"]', '{"weights/gone": ""}', '{"weights/../../x": ""}']
)
def test_damaged_checksums_are_damage(tmp_path, content):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in (1, 2):
            save(checkpoints, step)
    (tmp_path / "checkpoints/2/sha256.json").write_text(content)
    assert restore_weights(tmp_path, "latest")[2] == 1
    (tmp_path / "checkpoints/2/sha256.json").unlink()  # as older versions wrote it
    assert restore_weights(tmp_path, "latest")[2] == 2


def test_what_may_not_be_read_is_no_damage(tmp_path, monkeypatch):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in (1, 2):
            save(checkpoints, step)
    monkeypatch.setattr("cornerjax.checksums.sha256_of", lambda file: (_ for _ in ()).throw(PermissionError(13, "no")))
    with pytest.raises(RunError, match=r"cannot read checkpoint .*checkpoints/2: Permission denied$"):
        restore_weights(tmp_path, "latest")
    assert (tmp_path / "checkpoints/2").is_dir()


def test_class_names_and_the_network_have_to_agree(tmp_path):
    config = CornerConfig()
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, num_classes=3))
    create_workdir(tmp_path, config, NAMES, IDS, recipe="")
    with pytest.raises(InputError, match=r"run\.json has 2 class names, but config\.json 3 classes"):
        open_workdir(tmp_path)


def test_weights_of_another_shape_are_refused_before_they_are_read(two_steps, tmp_path, monkeypatch):
    monkeypatch.setattr(Checkpoints, "read", lambda *_: pytest.fail("read"))
    run = shutil.copytree(two_steps, tmp_path / "run")
    with pytest.raises(InputError, match=r"run, step 2: weights do not fit the network: shape of .* is .*, expected"):
        restore_weights(run, "latest", shapes=lambda: {"a.0": (10_000, 10_000)})


def test_what_is_sound_is_not_taken_for_damaged(two_steps, tmp_path):
    """Whatever goes wrong in reading it: a mistake of ours must not move what can be read tomorrow."""
    run = shutil.copytree(two_steps, tmp_path / "run")

    def fail(step):
        raise TypeError("a mistake")

    with (
        Checkpoints(run, keep=2) as checkpoints,
        pytest.raises(RunError, match=r"cannot read .*checkpoints/2: a mistake"),
    ):
        checkpoints.first_readable([2, 1], fail)
    (run / "checkpoints" / "2" / "sha256.json").unlink()  # of an older version nothing is known
    (run / "checkpoints" / "1" / "sha256.json").unlink()
    with Checkpoints(run, keep=2) as checkpoints, pytest.raises(RunError, match="none of the 2 checkpoints"):
        checkpoints.first_readable([2, 1], fail)


def test_a_changed_ap_does_not_make_another_checkpoint_the_best(two_steps, tmp_path, caplog):
    run = shutil.copytree(two_steps, tmp_path / "run")
    file = run / "checkpoints" / "2" / "metrics" / "metrics"
    file.write_text(file.read_text().replace("0.4", "0.9"))
    assert restore_weights(run)[2] == 1
    assert "checkpoints/2: its AP is not known, metrics/metrics is not as it was written" in caplog.text
    older = shutil.copytree(two_steps, tmp_path / "older")
    file, sums = older / "checkpoints" / "2" / "metrics" / "metrics", older / "checkpoints" / "2" / "sha256.json"
    file.write_text(file.read_text().replace("0.4", "0.9"))
    known = {name: value for name, value in json.loads(sums.read_text()).items() if not name.startswith("metrics")}
    sums.write_text(json.dumps(known))  # as older versions wrote it
    assert restore_weights(older)[2] == 2
