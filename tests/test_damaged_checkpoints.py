"""Damaged checkpoints: whatever it is, sound weights are taken and nothing that can be read is lost."""

import json
import shutil

import numpy as np
import pytest
from made_checkpoints import GIVEN_UP, as_numpy, save, trees, write_two_steps

from cornerjax.checkpoint import Checkpoints, restore_weights
from cornerjax.errors import RunError

DAMAGE = {
    "gone": lambda file, content: file.unlink(),
    "cut in half": lambda file, content: file.write_bytes(content[: len(content) // 2]),
    "garbage": lambda file, content: file.write_bytes(np.random.default_rng(0).bytes(len(content))),
}


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory):
    return write_two_steps(tmp_path_factory.mktemp("two"))


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
