"""eval.py and predict.py on a run, as a user calls them."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from cornerjax.checkpoint import Checkpoints
from cornerjax.config import Data
from cornerjax.data.images import load_image
from cornerjax.data.shapes import SHAPES, write_shapes
from cornerjax.detectors import get_detector
from cornerjax.detectors.base import make_network
from cornerjax.detectors.cornernet import CornerConfig, CornerModel, CornerTest
from cornerjax.errors import InputError
from cornerjax.evaluation import of_run
from cornerjax.inference.video import VideoFile
from cornerjax.new_workdir import create_workdir
from cornerjax.nn.backbones.hourglass import Hourglass

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("data") / "shapes", seed=0, train=1, val=5)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, shapes):
    """A run of a narrow CornerNet, not trained: it finds something everywhere, with scores of about 0.1."""
    path = tmp_path_factory.mktemp("runs") / "narrow"
    model = CornerModel(
        num_classes=3,
        backbone=Hourglass(stacks=1, stem_dim=4, stem_kernel=3, dims=(4, 4), blocks=(1, 1), dim=4),
        pool_dim=4,
    )
    config = CornerConfig(model=model, data=Data(root=str(shapes)), test=CornerTest(batch=4, tag_distance=9.0))
    create_workdir(path, config, SHAPES, (1, 2, 3), recipe="")
    _, params, model_state = make_network(get_detector("cornernet"), config, np.random.default_rng(0))
    with Checkpoints(path) as checkpoints:
        checkpoints.save(5, {"params": params, "model_state": model_state}, {"step": jnp.int32(5)})
    return path


@pytest.fixture
def call(monkeypatch, tmp_path):
    """call("eval.py", ...) -> exit code."""
    monkeypatch.chdir(tmp_path)

    def call(script, *args):
        monkeypatch.setattr(sys, "argv", [script, *map(str, args)])
        try:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        except SystemExit as e:
            return e.code
        return 0

    return call


@pytest.fixture
def error(capsys):
    """error() -> the last line on stderr; a slow machine prints its progress before it."""
    return lambda: capsys.readouterr().err.splitlines()[-1]


def test_eval(call, workdir, shapes, tmp_path, capsys):
    assert call("eval.py", "--workdir", workdir, "--pictures", 2) == 0
    assert "step 5, 5 images of val" in capsys.readouterr().out
    metrics = json.loads((workdir / "eval" / "metrics.json").read_text())
    assert metrics["step"] == 5
    assert 0 <= metrics["AP"] < 0.1
    assert set(metrics["per_class"]) == set(SHAPES)
    results = json.loads((workdir / "eval" / "results.json").read_text())
    assert {entry["category_id"] for entry in results} <= {1, 2, 3}
    assert len(results) > 5
    assert len(list((workdir / "eval" / "pictures").iterdir())) == 3
    report = (workdir / "eval" / "report.html").read_text()
    assert report.count('class="card"') == report.count('class="layer layer-keypoints"') == 5

    other = ["--workdir", workdir, "--split", "train", "--root", shapes, "--pictures", 0]
    other += ["--test.nms", "linear", "--test.max-detections", 7, "--test.max-pairs", 60, "--min-score", 0.05]
    other += ["--report-images", 0]
    assert call("eval.py", *other) == 2
    assert "eval holds an evaluation with annotations" in capsys.readouterr().err
    assert call("eval.py", *other, "--out", tmp_path / "linear") == 0
    metrics = json.loads((tmp_path / "linear" / "metrics.json").read_text())
    assert metrics["split"] == "train"
    given = {"test.nms": "linear", "test.max_detections": 7, "test.max_pairs": 60, "min_score": 0.05}
    of_the_run = {"test.batch": 4, "test.tag_distance": 9.0, "test.scales": [1.0]}
    assert (given | of_the_run).items() <= metrics["options"].items()
    results = json.loads((tmp_path / "linear" / "results.json").read_text())
    assert 1 < len(results) <= 7
    assert min(entry["score"] for entry in results) >= 0.05
    assert not list((tmp_path / "linear" / "pictures").iterdir())
    assert not (tmp_path / "linear" / "report.html").exists()


def test_eval_of_images_as_they_are_stored(call, workdir, tmp_path, error):
    options = ["--workdir", workdir, "--pictures", 0, "--report-images", 0, "--out", tmp_path / "out"]
    assert call("eval.py", *options, "--exif", "ignore") == 0
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["options"]["exif"] == "ignore"
    assert call("eval.py", *options) == 2
    assert "out holds an evaluation with exif ignore instead of turn; --out" in error()


def test_what_stops_the_first_process_stops_all(call, workdir, tmp_path, error, monkeypatch):
    """It alone takes the folder: the others must neither wait for it nor try to take it too."""

    def stop(check):
        raise InputError("said by the first")

    monkeypatch.setattr(of_run, "by_first", stop)
    monkeypatch.setattr(of_run, "check_folder", lambda *_, **__: pytest.fail("checked by each"))
    assert call("eval.py", "--workdir", workdir, "--out", tmp_path / "out") == 2
    assert error() == "error: said by the first"


def test_a_run_that_was_computed_with_a_kernel_for_another_device_is_evaluated_here(call, workdir, tmp_path):
    run = shutil.copytree(workdir, tmp_path / "run")
    text = (run / "config.json").read_text()
    (run / "config.json").write_text(
        text.replace('"pooling_implementation": "auto"', '"pooling_implementation": "pallas_triton"')
    )
    assert call("eval.py", "--workdir", run, "--pictures", 0, "--report-images", 0) == 0
    options = json.loads((run / "eval" / "metrics.json").read_text())["options"]
    assert options["compute.pooling_implementation"] == "auto"


def test_a_run_in_which_nothing_is_found_has_an_evaluation(call, workdir, tmp_path, capsys):
    out = tmp_path / "out"
    assert call("eval.py", "--workdir", workdir, "--min-score", 0.9999, "--pictures", 0, "--out", out) == 0
    assert of_run.NOTHING_FOUND in capsys.readouterr().out
    assert of_run.NOTHING_FOUND in (out / "report.html").read_text()
    assert json.loads((out / "results.json").read_text()) == []


def test_a_set_that_only_the_run_names_is_not_generated(call, workdir, tmp_path, error):
    run = shutil.copytree(workdir, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"data": config["data"] | {"root": "shapes:77"}}))
    assert call("eval.py", "--workdir", run) == 2
    assert "would be generated in the current folder; --root shapes:77 allows it" in error()
    assert call("eval.py", "--workdir", run, "--root", "x" * 300) == 2
    assert error().endswith(
        "x' is not a folder; expected one in COCO format, tfds:NAME, tfds:DIR, shapes:SEED or scenes:SEED"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_test_options_that_cannot_be(call, workdir, capsys):
    assert call("eval.py", "--workdir", workdir, "--test.peak-window", 2) == 2
    assert capsys.readouterr().err == "error: test.peak_window is 2; accepted is an odd number from 1 to 255\n"


def test_help_shows_the_options_of_the_run(call, workdir, capsys):
    assert call("eval.py", "--help") == 0
    assert "--test.tag-distance" not in capsys.readouterr().out
    assert call("eval.py", "--workdir", workdir, "--help") == 0
    help_of_run = capsys.readouterr().out
    assert "--test.tag-distance" in help_of_run
    assert "9.0" in help_of_run


@pytest.fixture
def eval_with(call, workdir, shapes, tmp_path):
    """eval_with({id: name}, ...) -> exit code of an evaluation on images whose file numbers and names classes so."""

    def call_with(categories, *args):
        content = json.loads((shapes / "annotations" / "instances_val.json").read_text())
        content["categories"] = [{"id": id_, "name": name} for id_, name in categories.items()]
        ids = [id_ for name in SHAPES for id_, named in categories.items() if named in (name, f"my {name}")]
        for entry in content["annotations"]:
            entry["category_id"] = ids[entry["category_id"] - 1]
        (tmp_path / "other.json").write_text(json.dumps(content))
        given = ("--workdir", workdir, "--split", tmp_path / "other.json", "--images", shapes / "images" / "val")
        return call("eval.py", *given, *args)

    return call_with


def test_eval_on_a_data_set_that_lists_the_classes_in_another_order(eval_with, tmp_path):
    names = [{1: SHAPES[0], 2: SHAPES[1], 3: SHAPES[2]}, {4: SHAPES[2], 7: SHAPES[0], 9: SHAPES[1]}]
    found: list[list[dict]] = []
    for categories in names:
        assert eval_with(categories, "--out", tmp_path / "out" / str(len(found)), "--report-images", 0) == 0
        results = json.loads((tmp_path / "out" / str(len(found)) / "results.json").read_text())
        found.append([entry | {"category_id": categories[entry["category_id"]]} for entry in results])
    assert found[0] == found[1]
    assert {entry["category_id"] for entry in found[0]} == set(SHAPES)


def test_eval_on_a_data_set_of_other_classes(eval_with, tmp_path, caplog, capsys):
    """Those of the same name are compared, and the others are named."""
    assert eval_with({1: "my circle", 2: "rectangle", 3: "triangle"}, "--out", tmp_path / "out") == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["per_class"]["my circle"]["AP"] == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {entry["category_id"] for entry in results} == {2, 3}
    said = "narrow lacks the class my circle of "
    assert said in caplog.text
    assert said in (tmp_path / "out" / "report.html").read_text()
    assert eval_with({1: "my circle", 2: "my rectangle", 3: "my triangle"}, "--out", tmp_path / "none") == 2
    assert "other.json has the classes my circle, my rectangle, my triangle and " in capsys.readouterr().err


def test_predict(call, workdir, shapes, tmp_path, error):
    photos = shapes / "images" / "val"
    assert call("predict.py", "--workdir", workdir, "--out", "out", "--min-score", 0.0, photos) == 0
    entries = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert [Path(entry["file"]) for entry in entries] == sorted(photos.iterdir())
    assert set(entries[0]["classes"]) <= set(SHAPES)

    (tmp_path / "broken.jpg").write_text("")
    some = sorted(photos.iterdir())[0]
    assert call("predict.py", "--workdir", workdir, "--out", "some", "broken.jpg", some) == 2
    assert error().startswith("error: cannot read broken.jpg as an image; expected")
    assert sorted(p.name for p in (tmp_path / "some").glob("[!.]*")) == ["000001.jpg", "detections.json"]

    for wrong, message in [
        ("gone.jpg", "gone.jpg does not exist"),
        ("", "no photo, video or camera is given; accepted are images (.bmp"),
    ]:
        assert call("predict.py", "--workdir", workdir, "--out", "none", *([wrong] if wrong else [])) == 2
        assert message in error()
    assert not (tmp_path / "none").exists()


def test_predict_everything_at_once(call, workdir, shapes, tmp_path, capsys, error):
    """A video and a pattern; all kinds of results with the data set's ids; corners and tags drawn."""
    made = VideoFile(tmp_path / "clip.mp4", 10.0)
    for photo in sorted((shapes / "images" / "val").iterdir()):
        made.write(load_image(photo))
    made.complete()
    made.publish()
    given = ["clip.mp4", shapes / "images" / "val" / "00000[23]*", "--workdir", workdir, "--min-score", 0.0]
    wanted = ["--classes", "circle", "triangle", "--results", "csv", "coco", "json", "--overlay", "keypoints", "tags"]
    assert call("predict.py", *given, "--out", "out", *wanted, "--batch", 2, "--max-side", 100, "--frames", 3) == 0
    said = capsys.readouterr().out
    assert "clip.mp4: 3 frames, " in said
    assert "written: out" in said
    assert sorted(path.name for path in (tmp_path / "out").glob("[!.]*")) == [
        *("000002.jpg", "000003.jpg", "clip.mp4", "detections.csv", "detections.json", "results.json"),
    ]
    assert {entry["category_id"] for entry in json.loads((tmp_path / "out" / "results.json").read_text())} == {1, 3}
    annotations = shapes / "annotations" / "instances_val.json"
    assert call("predict.py", *given[1:], "--out", "ids", "--results", "coco", "--annotations", annotations) == 0
    results = json.loads((tmp_path / "ids" / "results.json").read_text())
    assert {entry["image_id"] for entry in results} == {2, 3}

    for wrong, message in [
        (["--classes", "disc"], "error: no class 'disc' in this run; its classes are: circle, rectangle, triangle"),
        (["--overlay", "crops"], "error: cornernet has no overlay 'crops'; it has: keypoints, tags"),
        (["--out", tmp_path / "clip.mp4"], f"error: cannot write {tmp_path / 'clip.mp4'}: "),
        (["--annotations", annotations], "error: --annotations is for photos"),
    ]:
        assert call("predict.py", *given, *(["--out", "none"] if wrong[0] != "--out" else []), *wrong) == 2
        assert error().startswith(message)
    assert not (tmp_path / "none").exists()


def test_images_without_boxes_count_in_an_evaluation(call, workdir, shapes, tmp_path, capsys):
    """Also for a run that was trained without them."""
    content = json.loads((shapes / "annotations" / "instances_val.json").read_text())
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] == 1]
    (tmp_path / "one.json").write_text(json.dumps(content))
    config = json.loads((workdir / "config.json").read_text())
    config["data"]["empty_images"] = False
    (workdir / "config.json").write_text(json.dumps(config))
    split, images = tmp_path / "one.json", shapes / "images" / "val"
    options = ("--split", split, "--images", images, "--pictures", 0, "--out", "out")
    assert call("eval.py", "--workdir", workdir, *options) == 0
    assert "5 images of" in capsys.readouterr().out


def test_eval_asks_oracles_and_measures_time(call, workdir, tmp_path, capsys):
    assert call("eval.py", "--workdir", workdir, "--out", tmp_path / "out", "--oracles", "--timing", 3) == 0
    printed = capsys.readouterr().out
    assert "all but tags" in printed
    assert "images/s if one phase waits for the other" in printed
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["oracles"]["nothing"]["AP"] == metrics["AP"]
    assert metrics["oracles"]["all"]["AP"] > 0.9
    assert metrics["timing"]["images"] == 3
    assert metrics["timing"]["phases"]["network"]["median"] > 0

    assert call("eval.py", "--workdir", workdir, "--timing", -1) == 2
    assert "--timing is -1; accepted is a whole number from 0 to 100000" in capsys.readouterr().err
    assert call("eval.py", "--results", "boxes.json", "--annotations", "true.json", "--oracles") == 2
    assert "--oracles and --timing are of a run" in capsys.readouterr().err
