"""A loss that is not finite stops the run with one sentence, the batch on disk, and the last good weights."""

import dataclasses
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from cornerjax.checkpoint import Checkpoints
from cornerjax.commands.replay import main
from cornerjax.config import Optim
from cornerjax.data.pipeline import make_batches
from cornerjax.errors import InputError, RunError
from cornerjax.training import replay
from cornerjax.training.guard import Guard, write_batch
from cornerjax.training.loop import train

BAD = 5  # the next step, which is sound by itself, has been started when it is noticed


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory):
    """The runs here differ in what they meet, not in what they compile."""
    options: dict[str, object] = {"jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled"))}
    options["jax_persistent_cache_min_compile_time_secs"] = 0.0
    before = {name: getattr(jax.config, name) for name in options}
    for changed in (options, before):
        for name, value in changed.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()  # it looks at the options once
        if changed is options:
            yield


FINE = {"total": 3.0, "focal": 2.0, "pull": 1.0, "grad_norm": 5.0}


def losses(**changes):
    return {name: jnp.float32(value) for name, value in (FINE | changes).items()}


def batch(*image_ids):
    return {"image": np.full((len(image_ids), 3), 0.5, np.float32), "image_id": np.array(image_ids, np.int64)}


def test_a_bad_step_is_named_when_the_next_one_has_been_started(tmp_path):
    guard = Guard(tmp_path)
    guard.step(122, batch(1, 2), losses())
    guard.step(123, batch(3, 4), losses(focal=np.nan, total=np.nan))
    file = tmp_path / "not_finite" / "step-000123-host-0.npz"
    sentence = (
        f"the loss is not finite at step 123 (focal nan), on the images with ids 3, 4; to see whether one of "
        f"them is to blame, run cornerjax replay {file}; a lower optim.peak_lr, or gradients "
        "clipped with optim.clip_norm, may help"
    )
    with pytest.raises(RunError, match=f"^{re.escape(sentence)}$"):
        guard.step(124, batch(5, 6), losses())
    kept = dict(np.load(file))
    assert kept.pop("step") == 123
    assert kept.keys() == batch(3, 4).keys()
    assert all((kept[name] == value).all() and kept[name].dtype == value.dtype for name, value in batch(3, 4).items())
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_the_last_step_is_checked_too(tmp_path):
    guard = Guard(tmp_path)
    guard.finish()
    guard.step(1, batch(1), losses())
    guard.finish()
    guard.step(2, batch(1), losses(pull=-np.inf, total=-np.inf))
    with pytest.raises(RunError, match=r"^the loss is not finite at step 2 \(pull -inf\)"):
        guard.finish()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"grad_norm": np.inf},
            r"the gradient is not finite at step 1 \(grad_norm inf\), though the loss is \(total 3",
        ),
        ({"total": np.nan}, r"the loss is not finite at step 1 \(total nan\)"),
        ({"focal": np.inf, "pull": np.nan, "total": np.nan, "grad_norm": np.nan}, r"\(focal inf, pull nan\)"),
    ],
)
def test_the_parts_that_are_not_finite_are_named(tmp_path, changes, message):
    guard = Guard(tmp_path)
    guard.step(1, batch(1), losses(**changes))
    with pytest.raises(RunError, match=message):
        guard.finish()


def test_of_many_images_the_first_are_named(tmp_path):
    guard = Guard(tmp_path)
    guard.step(1, batch(*range(20)), losses(total=np.nan))
    with pytest.raises(RunError, match="with ids 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 and 4 more; "):
        guard.finish()


def test_a_batch_that_cannot_be_written_is_said_and_hides_nothing(tmp_path):
    (tmp_path / "not_finite").write_text("in the way")
    guard = Guard(tmp_path)
    guard.step(1, batch(1), losses(total=np.nan))
    with pytest.raises(RunError, match=r"at step 1 .*; the batch could not be written to .*: File exists; "):
        guard.finish()


@pytest.fixture(scope="module")
def config(config):
    return dataclasses.replace(config, optim=Optim(peak_lr=1e-3), save_steps=4)


def with_a_nan(source, config, *, first_step, **options):
    """The batches, but for one pixel in the second image of step BAD."""
    for step, batch in enumerate(make_batches(source, config, first_step=first_step, **options), start=first_step + 1):
        image = batch["image"].copy()
        if step == BAD:
            image[1, 60, 60, 0] = np.nan
        yield batch | {"image": image}


def weights(workdir, step):
    with Checkpoints(workdir, read_only=True) as checkpoints:
        return checkpoints.read(step, "weights")


def newest(workdir):
    with Checkpoints(workdir, read_only=True) as checkpoints:
        return checkpoints.latest()


@pytest.fixture(scope="module")
def straight(config, tmp_path_factory):
    """The work directory of a run without a mishap; it has checkpoints of steps 4 and 6."""
    return train(config, tmp_path_factory.mktemp("runs") / "straight").path


@pytest.fixture(scope="module")
def stopped(config, tmp_path_factory):
    """The work directory of a run that stopped at step BAD, without any checkpoint before, and what it said."""
    path = tmp_path_factory.mktemp("runs") / "stopped"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cornerjax.training.loop.make_batches", with_a_nan)
        with pytest.raises(RunError) as caught:
            train(dataclasses.replace(config, save_steps=100), path)
    return path, str(caught.value)


def test_a_stopped_run_keeps_the_batch_and_the_weights_before_it(straight, stopped):
    path, sentence = stopped
    file = path / "not_finite" / f"step-{BAD:06d}-host-0.npz"
    batch = dict(np.load(file))
    ids = ", ".join(map(str, batch["image_id"]))
    assert re.match(rf"the loss is not finite at step {BAD} \(focal nan, .*\), on the images with ids {ids};", sentence)
    assert str(file) in sentence
    assert np.argwhere(np.isnan(batch["image"])).tolist() == [[1, 60, 60, 0]]
    assert newest(path) == BAD - 1
    jax.tree.map(np.testing.assert_array_equal, weights(path, BAD - 1), weights(straight, BAD - 1))


def test_the_same_command_stops_there_again_and_goes_on_once_the_image_is_mended(
    config, straight, stopped, tmp_path, monkeypatch
):
    path = shutil.copytree(stopped[0], tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr("cornerjax.training.loop.make_batches", with_a_nan)
        with pytest.raises(RunError) as caught:
            train(config, path)
    assert str(caught.value) == stopped[1].replace(str(stopped[0]), str(path))
    assert newest(path) == BAD - 1
    train(config, path)
    jax.tree.map(np.testing.assert_array_equal, weights(path, 6), weights(straight, 6))


def replayed(file, capsys):
    """What the command prints."""
    capsys.readouterr()
    main([str(file)])
    return capsys.readouterr().out.splitlines()


def test_a_replay_finds_the_image(stopped, capsys):
    file = stopped[0] / "not_finite" / f"step-{BAD:06d}-host-0.npz"
    first, second = np.load(file)["image_id"]
    whole, good, bad, conclusion = replayed(file, capsys)
    assert whole.startswith(f"step {BAD}, the weights of step {BAD - 1}, all 2 images: focal nan, ")
    assert re.match(rf"image {first} alone: focal \d+\.\d+, .*, total \d+\.\d+$", good)
    assert re.match(rf"image {second} alone: focal nan, .*, total nan$", bad)
    assert conclusion == f"not finite alone: the image {second}"


def test_a_replay_changes_nothing_where_the_newest_checkpoint_is_damaged(stopped, straight, tmp_path, capsys):
    """The step before it is not there any more: it says so, and leaves the rest to the run."""
    run = shutil.copytree(stopped[0], tmp_path / "run")
    shutil.copytree(straight / "checkpoints" / "6", run / "checkpoints" / "6")
    (run / "checkpoints" / "6" / "weights" / "_METADATA").write_text("{")
    before = {path: path.is_file() and path.read_bytes() for path in run.rglob("*")}
    said, whole, note, *_ = replayed(run / "not_finite" / f"step-{BAD:06d}-host-0.npz", capsys)
    assert {path: path.is_file() and path.read_bytes() for path in run.rglob("*")} == before
    assert said == f"checkpoint {run}/checkpoints/6 is damaged (weights/_METADATA is not as it was written)"
    assert whole.startswith(f"step {BAD}, the weights of step {BAD - 1}, all 2 images: ")
    assert note.startswith("image ")


@pytest.mark.slow
def test_a_learning_rate_that_is_too_high(config, tmp_path, capsys):
    """Nothing is made up here: the weights of step 1 are finite, and what they give is not."""
    wild = dataclasses.replace(config, optim=Optim(peak_lr=1e9), log_steps=2)
    with pytest.raises(RunError, match=r"^the loss is not finite at step 2 \("):
        train(wild, tmp_path / "run")
    assert newest(tmp_path / "run") == 1
    assert all(np.isfinite(value).all() for value in jax.tree.leaves(weights(tmp_path / "run", 1)))
    *_, conclusion = replayed(tmp_path / "run" / "not_finite" / "step-000002-host-0.npz", capsys)
    assert conclusion == "no image alone is finite: it is the weights rather than an image"


@pytest.mark.parametrize("name", ["nowhere.npz", "step-000001-host-0.npz"])
def test_a_replay_without_a_batch_is_one_sentence(name, tmp_path, capsys):
    with pytest.raises(InputError, match=rf"^no file {tmp_path}/{name}; expected WORKDIR/not_finite/step-STEP"):
        replayed(tmp_path / name, capsys)


def test_the_batch_of_several_hosts_is_put_together(tmp_path):
    for host in (0, 1, 10, 2):
        write_batch(tmp_path / f"step-000007-host-{host}.npz", 7, batch(host, host + 100))
    step, whole = replay.read_step(tmp_path / "step-000007-host-2.npz")
    assert step == 7
    assert whole["image_id"].tolist() == [0, 100, 1, 101, 2, 102, 10, 110]
    (tmp_path / "step-000007-host-1.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"host-1\.npz is damaged"):
        replay.read_step(tmp_path / "step-000007-host-0.npz")


@pytest.mark.parametrize(
    "content",
    [
        {"step": 3},
        {"step": np.zeros(3), "image_id": np.arange(2)},
        {"step": "3", "image_id": np.arange(2)},
        {"step": 3, "image_id": np.array(7)},
        {"step": 3, "image_id": np.zeros((2, 2))},
        {"step": 3, "image_id": np.array([{}], object)},
    ],
)
def test_a_file_of_another_form_is_no_batch(tmp_path, content):
    file = tmp_path / "step-000003-host-0.npz"
    np.savez(file, **content)
    with pytest.raises(
        InputError,
        match=r"host-0\.npz (is damaged|has .step., which holds no numbers); expected the batch that a stopped run",
    ):
        replay.read_step(file)


def test_the_files_of_hosts_have_to_fit(tmp_path):
    write_batch(tmp_path / "step-000007-host-0.npz", 7, batch(0, 1))
    np.savez(tmp_path / "step-000007-host-1.npz", step=7, image_id=np.arange(2))
    with pytest.raises(InputError, match=r"host-0\.npz does not fit the files of the other hosts"):
        replay.read_step(tmp_path / "step-000007-host-0.npz")


def test_the_batch_of_some_hosts_is_not_enough(stopped):
    with pytest.raises(InputError, match=r"not_finite has 1 images of the step, data\.batch is 2; expected"):
        next(replay.losses_of(stopped[0], batch(1)))
