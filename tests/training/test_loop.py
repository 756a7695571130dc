"""Whole runs of a tiny network: they resume bit for bit, describe themselves, and need no TensorFlow in the step."""

import dataclasses
import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from cornerjax.checkpoint import Checkpoints
from cornerjax.config import to_json
from cornerjax.data.records import Source
from cornerjax.data.source import open_source
from cornerjax.errors import InputError, RunError
from cornerjax.evaluation.evaluator import Evaluator
from cornerjax.training.log import TrainLog
from cornerjax.training.loop import resolve, train
from cornerjax.training.stop import Stopped
from cornerjax.validation import replaced


@pytest.fixture(scope="module")
def straight(config, tmp_path_factory):
    """The work directory of an uninterrupted run."""
    return train(config, tmp_path_factory.mktemp("runs") / "straight", recipe="tiny").path


def evaluations(workdir):
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if "AP" in line]


def ap_kept(workdir, step):
    """The AP by which a checkpoint may be the best."""
    return json.loads((workdir / "checkpoints" / str(step) / "metrics" / "metrics").read_text())["AP"]


def test_a_run_that_stops_and_resumes_ends_with_the_same_bits(config, straight, tmp_path, capsys, digest):
    """It stops after step 5; its last checkpoint is that of step 3."""
    take, taken = TrainLog.step, []

    def stop_at_five(self, losses):
        take(self, losses)
        taken.append(losses)
        if len(taken) == 5:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainLog, "step", stop_at_five)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "run")
    capsys.readouterr()
    train(config, tmp_path / "run")
    assert "at step 3 of 6" in capsys.readouterr().out
    assert digest(tmp_path / "run") == digest(straight)


def test_a_run_leaves_its_record(straight):
    lines = [json.loads(line) for line in (straight / "metrics.jsonl").read_text().splitlines()]
    losses = {"total", "focal", "pull", "push", "offset", "grad_norm", "learning_rate", "images_per_s"}
    assert [line["step"] for line in lines if "total" in line] == [2, 4, 6]
    assert all(losses <= set(line) for line in lines if "total" in line)
    assert [line["step"] for line in lines if "AP" in line] == [6]
    assert list((straight / "tensorboard").glob("events.*"))
    run = json.loads((straight / "run.json").read_text())
    assert run["recipe"] == "tiny"
    assert run["versions"]["jax"] == jax.__version__


@pytest.mark.slow
def test_another_seed_gives_other_weights(config, straight, tmp_path, digest):
    other = train(dataclasses.replace(config, seed=1), tmp_path / "run")
    assert digest(other.path) != digest(straight)


def test_an_evaluation_that_fails_loses_nothing(config, straight, tmp_path, digest):
    """The state of the last step is saved before the error is passed on, and evaluated by the same command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cornerjax.evaluation.evaluator.read_image", lambda record: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(config, tmp_path / "run")
    assert digest(tmp_path / "run") == digest(straight)
    assert evaluations(tmp_path / "run") == []
    train(config, tmp_path / "run")
    assert evaluations(tmp_path / "run") == evaluations(straight)
    assert ap_kept(tmp_path / "run", 6) == ap_kept(straight, 6)


def test_an_evaluation_on_the_way_that_was_stopped_is_made_up_for(config, straight, tmp_path, digest):
    """It and its checkpoint are a candidate for the best, as without the stop."""
    config = dataclasses.replace(config, eval_steps=3)

    def stop(record):
        signal.raise_signal(signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cornerjax.evaluation.evaluator.read_image", stop)
        with pytest.raises(Stopped, match="stopped by SIGTERM at step 3, which is saved"):
            train(config, tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints" / "3" / "metrics").exists()
    train(config, tmp_path / "run")
    assert [line["step"] for line in evaluations(tmp_path / "run")] == [3, 6]
    assert [ap_kept(tmp_path / "run", line["step"]) for line in evaluations(tmp_path / "run")] == [
        line["AP"] for line in evaluations(tmp_path / "run")
    ]
    assert digest(tmp_path / "run") == digest(straight)


@pytest.mark.parametrize("ends", ["SIGHUP", "closed output"])
def test_a_terminal_that_goes_away_loses_nothing(config, straight, tmp_path, digest, capsys, ends):
    """Where it hangs up, and where what reads the output ends: the step is saved, a sentence says so."""
    report, config_of_all = TrainLog.report, dataclasses.replace(config, log_steps=1)

    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    def gone_after_two(self, step, *args, **options):
        report(self, step, *args, **options)
        if step == 2 and ends == "SIGHUP":
            signal.raise_signal(signal.SIGHUP)
        elif step == 2:
            patch.setattr(sys, "stdout", Closed())

    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup, under which these tests may run, ignores it
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainLog, "report", gone_after_two)
        if ends == "SIGHUP":
            with pytest.raises(Stopped, match="stopped by SIGHUP at step 3, which is saved"):
                train(config_of_all, tmp_path / "run")
        else:
            with pytest.raises(RunError, match="cannot write to standard output, which is closed or full: Broken pipe"):
                train(config_of_all, tmp_path / "run")
    signal.signal(signal.SIGHUP, before)
    with Checkpoints(tmp_path / "run", read_only=True) as checkpoints:
        assert checkpoints.latest() == 3
    train(config, tmp_path / "run")
    assert digest(tmp_path / "run") == digest(straight)


@pytest.mark.slow
def test_single_images_with_and_without_objects(config, tmp_path):
    """Batches of one: images without objects, with one, with several."""
    folder = Path(shutil.copytree(config.data.root, tmp_path / "set"))
    file = folder / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    first, second = (image["id"] for image in content["images"][:2])
    of_first = [a for a in content["annotations"] if a["image_id"] == first]
    content["annotations"] = [of_first[0], *(a for a in content["annotations"] if a["image_id"] == second)]
    content["images"] = content["images"][:4]
    file.write_text(json.dumps(content))
    data = dataclasses.replace(config.data, root=str(folder), batch=1)
    run = train(dataclasses.replace(config, data=data, steps=8, log_steps=1), tmp_path / "run").path
    losses = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert sum("total" in line for line in losses) == 8
    assert all(np.isfinite(line["total"]) for line in losses if "total" in line)


@pytest.mark.slow
def test_a_running_mean_is_what_is_evaluated_and_resumes_with_the_rest(config, straight, tmp_path, digest):
    """It changes nothing in the weights that are trained; a run in two parts ends with the same mean."""
    config = dataclasses.replace(config, optim=dataclasses.replace(config.optim, ema_decay=0.9), keep=2)
    train(config, tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "again")
    shutil.rmtree(tmp_path / "again" / "checkpoints" / "6")
    train(config, tmp_path / "again")
    assert digest(tmp_path / "again") == digest(tmp_path / "run") != digest(straight)


def test_a_finished_run_is_left_as_it_is(config, straight, digest):
    before = digest(straight), evaluations(straight)
    train(config, straight)
    assert (digest(straight), evaluations(straight)) == before


@pytest.mark.slow
def test_rendering_on_the_device_trains_to_nearly_the_same_loss(config, straight, tmp_path):
    data = dataclasses.replace(config.data, render="device")
    other = train(dataclasses.replace(config, data=data), tmp_path / "run").path
    one, another = (
        json.loads((path / "metrics.jsonl").read_text().splitlines()[0])["total"] for path in (straight, other)
    )
    np.testing.assert_allclose(one, another, rtol=1e-3)


@pytest.mark.parametrize(
    ("given", "recorded"),
    [("packed", "{}/packed"), ("tfds:packed", "tfds:{}/packed"), ("tfds:coco/2017", "tfds:coco/2017")],
)
def test_folders_are_recorded_from_the_root(config, tmp_path, monkeypatch, given, recorded):
    (tmp_path / "packed").mkdir()
    monkeypatch.chdir(tmp_path)
    source = Source([], ("cell",), (1,), tmp_path / "instances_train.json")
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, root=given))
    assert resolve(config, source).data.root == recorded.format(tmp_path)


def test_splits_that_list_the_classes_in_another_order(config, straight, tmp_path, digest):
    """Those of the training split count, in its order."""
    folder = Path(shutil.copytree(config.data.root, tmp_path / "set"))
    file = folder / "annotations" / "instances_val.json"
    content = json.loads(file.read_text())
    for entry in (*content["categories"], *content["annotations"]):
        entry["id" if "name" in entry else "category_id"] *= -1
    file.write_text(json.dumps(content))
    original, config = config, dataclasses.replace(config, data=dataclasses.replace(config.data, root=str(folder)))
    sources = []

    class Recording(Evaluator):
        def __init__(self, *args):
            super().__init__(*args)
            sources.append(self.source)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cornerjax.training.loop.Evaluator", Recording)
        run = train(config, tmp_path / "run")
    ((val,),) = [sources]
    assert (val.class_names, val.category_ids) == (run.class_names, tuple(-id_ for id_ in run.category_ids))
    before = open_source(original.data, "val")
    for after, record in zip(val.records, before.records, strict=True):
        np.testing.assert_array_equal(after.classes, record.classes)
    assert digest(run.path) == digest(straight)
    assert evaluations(run.path) == evaluations(straight)


def test_splits_without_a_class_in_common(config, tmp_path):
    folder = Path(shutil.copytree(config.data.root, tmp_path / "set"))
    file = folder / "annotations" / "instances_val.json"
    file.write_text(file.read_text().replace('"name": "', '"name": "no '))
    data = dataclasses.replace(config.data, root=str(folder))
    message = r"instances_val\.json has the classes no circle, .* and .*instances_train\.json has the classes circle, "
    with pytest.raises(InputError, match=message):
        train(dataclasses.replace(config, data=data), tmp_path / "run")


def test_a_batch_that_does_not_divide_is_refused(config, tmp_path):
    data = dataclasses.replace(config.data, batch=0)
    with pytest.raises(InputError, match=r"data\.batch is 0; accepted is 1 to 131072"):
        train(dataclasses.replace(config, data=data), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_checkpoints_are_written_by_the_clock(config, straight, tmp_path, digest):
    """With less than a microsecond between them, at every step that is reported."""
    train(dataclasses.replace(config, save_steps=100, save_minutes=1e-9, keep=9), tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == ["2", "4", "6"]
    assert digest(tmp_path / "run") == digest(straight)


def test_what_goes_to_the_devices_unasked_is_refused(config, tmp_path, monkeypatch):
    """Here a batch that nobody has put there: a slip of that kind would cost every step a transfer."""
    monkeypatch.setattr("cornerjax.training.loop.to_devices", lambda batch, mesh: batch)
    with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed host-to-device transfer"):
        train(config, tmp_path / "run")


@pytest.mark.slow
def test_only_gpus_mind_deterministic(config, straight, tmp_path, digest):
    train(replaced(config, {"compute.deterministic": True}), tmp_path / "run")
    assert digest(tmp_path / "run") == digest(straight)


@pytest.mark.slow
def test_a_profile_is_written(config, tmp_path):
    longer = dataclasses.replace(config, steps=20, save_steps=20)
    run = train(longer, tmp_path / "run", profile=True)
    assert list((run.path / "profile").rglob("*.xplane.pb"))


@pytest.mark.slow
def test_two_devices_train_to_the_same_loss(config, straight, tmp_path):
    """In a process of its own; the rows of a batch lie on different devices there."""
    (tmp_path / "config.json").write_text(to_json(config))
    code = (
        "import jax; from cornerjax.detectors import read_config; from cornerjax.training.loop import train;"
        "assert jax.device_count() == 2; train(read_config('config.json'), 'run')"
    )
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, capture_output=True)
    one, two = (
        [json.loads(line)["total"] for line in (run / "metrics.jsonl").read_text().splitlines() if "total" in line]
        for run in (straight, tmp_path / "run")
    )
    np.testing.assert_allclose(two[0], one[0], rtol=1e-4)  # later, Adam and BatchNorm amplify rounding


WITHOUT_TENSORFLOW = """
import sys
sys.modules.update({"tensorflow": None, "tensorflow_datasets": None})
import jax, numpy as np
import cornerjax
from cornerjax.config import load_recipe
from cornerjax.detectors import get_detector
from cornerjax.detectors.base import make_network
from cornerjax.training.mesh import data_mesh, to_devices
from cornerjax.training.optimiser import make_optimiser
from cornerjax.training.setup import start_state
from cornerjax.training.step import make_train_step
from cornerjax.validation import replaced

narrow = {"num_classes": 3, "backbone": {"dims": (8, 8), "blocks": (1, 1)}}
config = replaced(load_recipe(sys.argv[1]), {"model": narrow})
detector, mesh, tx = get_detector("cornernet"), data_mesh(), make_optimiser(config)
objects = {"boxes": np.array([[20, 30, 70, 90]], np.float32), "classes": np.array([1], np.int32)}
encoded = detector.encode(objects, config)
example = encoded | detector.render(encoded, config, np) | {"image": np.zeros((127, 127, 3), np.float32)}
batch = {name: np.stack([value] * 2) for name, value in example.items()}
apply, params, model_state = make_network(detector, config, np.random.default_rng(0))
state = start_state(params, model_state, tx, mesh, ema=False)
step = make_train_step(detector, apply, tx, config, mesh)
state, losses = step(state, to_devices(batch, mesh))
print(int(state.step), bool(np.isfinite(losses["total"])))
"""


def test_import_and_a_step_on_an_in_memory_batch_need_no_tensorflow():
    command = [sys.executable, "-c", WITHOUT_TENSORFLOW, "configs/shapes.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "1 True", done.stderr
