"""A small ExtremeNet goes all the way: training, mask AP, oracles, pictures, boxes with their octagons."""

import dataclasses
import json

import numpy as np
import pytest

import cornerjax
from cornerjax.check.run import check_set
from cornerjax.commands.predict import main as predict
from cornerjax.config import Optim
from cornerjax.data.records import read_image
from cornerjax.data.shapes import write_shapes
from cornerjax.data.source import open_source
from cornerjax.detectors import DETECTORS
from cornerjax.detectors.extremenet import ExtremeConfig, ExtremeData, ExtremeModel, ExtremeTest
from cornerjax.detectors.octagons import octagons
from cornerjax.errors import InputError
from cornerjax.evaluation.of_run import evaluate_run
from cornerjax.evaluation.options import Options
from cornerjax.inference.overlays import available, draw, find_evidence
from cornerjax.nn.backbones.hourglass import Hourglass
from cornerjax.training.loop import train
from cornerjax.validation import replaced


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    root = write_shapes(tmp_path_factory.mktemp("data") / "shapes", seed=0, train=8, val=4)
    return ExtremeConfig(
        model=ExtremeModel(
            backbone=Hourglass(stacks=1, stem_dim=8, stem_kernel=3, dims=(16, 16), blocks=(1, 1), dim=16),
            head_kernel=1,
        ),
        data=ExtremeData(
            root=str(root),
            batch=4,
            crop_px=(127, 127),
            random_crop=False,
            max_objects=8,
            colour_jitter=0.0,
            workers=1,
            worker_kind="thread",
        ),
        optim=Optim(peak_lr=1e-2),
        test=ExtremeTest(batch=4, top_k=12, quadruples=40, flip=True, point_floor=0.02, centre_floor=0.02),
        steps=40,
        log_steps=10,
    )


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    return train(config, tmp_path_factory.mktemp("runs") / "extreme")


@pytest.fixture(scope="module")
def metrics(run):
    evaluate_run(Options(workdir=str(run.path), oracles=True, report_images=2, pictures=1, test=run.config.test))
    return json.loads((run.path / "eval" / "metrics.json").read_text())


def test_it_learns(run):
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    losses = [line["total"] for line in lines if "total" in line]
    assert losses[-1] < 0.7 * losses[0]


def test_with_everything_true_all_boxes_are_found(metrics):
    assert metrics["oracles"]["all"]["AP"] > 0.97


def test_results_have_octagons_and_the_evaluation_their_ap(run, metrics):
    results = json.loads((run.path / "eval" / "results.json").read_text())
    assert results
    for entry in results:
        (polygon,) = entry["segmentation"]
        x, y = np.array(polygon).reshape(8, 2).T
        left, top, _, height = entry["bbox"]
        assert x.min() == pytest.approx(left, abs=1e-3)
        assert y.max() == pytest.approx(top + height, abs=1e-3)
    assert set(metrics["masks"]) == {name for name in metrics if name.startswith(("AP", "AR"))}
    assert "Average precision of masks" in (run.path / "eval" / "report.html").read_text()


@pytest.fixture(scope="module")
def found_in(run, config):
    """A predictor, a record in whose image it finds something, the image, BGR, and what it finds."""
    predictor = cornerjax.load(run.path)
    for record in open_source(config.data, "val").records:
        if len(found := predictor(read_image(record)[..., ::-1])):
            return predictor, record, read_image(record), found
    raise AssertionError("nothing is found in any image")


def test_detections_have_points_polygons_and_masks(found_in):
    _, _, image, found = found_in
    points = found.extra["extreme_points"]
    assert points.shape == (len(found), 4, 2)
    np.testing.assert_allclose(points[:, 1, 0], found.boxes[:, 0], atol=1e-3)
    np.testing.assert_allclose(points[:, 2, 1], found.boxes[:, 3], atol=1e-3)
    np.testing.assert_array_equal(found.polygons, octagons(points))
    assert found.size == image.shape[:2]
    larger = found.scaled(2.0, 3.0)
    assert larger.size == (3 * image.shape[0], 2 * image.shape[1])
    np.testing.assert_allclose(larger.extra["extreme_points"], points * [2, 3], rtol=1e-6)


def test_supervision_gets_the_octagons_as_masks(run, config):
    pytest.importorskip("supervision", reason="supervision is not installed, and need not be")
    image = read_image(open_source(config.data, "val").records[0])
    found = cornerjax.load(run.path)(image[..., ::-1])
    masks = found.to_supervision().mask
    assert isinstance(masks, np.ndarray)
    assert masks.shape == (len(found), *image.shape[:2])
    for mask, (x1, y1, x2, y2) in zip(masks, found.boxes, strict=True):
        rows, columns = np.nonzero(mask)
        assert min(columns.min() - x1, x2 - columns.max(), rows.min() - y1, y2 - rows.max()) > -1


def test_it_trains_in_bfloat16(config, tmp_path):
    half = replaced(config, {"compute.dtype": "bfloat16", "steps": 4, "log_steps": 2, "eval_steps": 0})
    lines = [json.loads(line) for line in (train(half, tmp_path).path / "metrics.jsonl").read_text().splitlines()]
    losses = [line["total"] for line in lines if "total" in line]
    assert len(losses) == 2
    assert np.isfinite(losses).all()


def test_points_and_masks_are_drawn(run, found_in, tmp_path):
    predictor, record, image, found = found_in
    assert available(predictor.detector) == ("keypoints", "extremes", "masks")
    evidence = find_evidence(predictor, image)
    plain, *others = (draw(predictor, image, found, evidence, names) for names in ((), ("extremes",), ("masks",)))
    for drawn in others:
        assert (drawn != plain).any()
    photo, out = record.path, tmp_path / "out"
    options = ["--workdir", str(run.path), "--out", str(out), "--results", "json", "coco", "--min-score", "0"]
    predict([str(photo), *options, "--overlay", "extremes", "masks"])
    assert (out / photo.name).exists()
    (entry,) = json.loads((out / "detections.json").read_text())
    np.testing.assert_allclose(entry["extreme_points"], found.extra["extreme_points"], atol=1e-3)
    results = json.loads((out / "results.json").read_text())
    assert [np.array(one["segmentation"]).shape for one in results] == [(1, 16)] * len(found)


def test_images_without_objects_or_detections_and_objects_without_points_are_no_trouble(config, tmp_path):
    """In training, in its evaluation, and in the check."""
    folder = write_shapes(tmp_path / "shapes", seed=0, train=4, val=2)
    for split in ("train", "val"):
        file = folder / "annotations" / f"instances_{split}.json"
        content = json.loads(file.read_text())
        content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] != 1]
        for entry in content["annotations"]:
            if entry["image_id"] == 2:
                del entry["extreme_points"], entry["segmentation"]
        file.write_text(json.dumps(content))
    data = dataclasses.replace(config.data, root=str(folder))
    test = dataclasses.replace(config.test, point_floor=0.9999)
    few = dataclasses.replace(config, data=data, test=test, steps=2)
    run = train(few, tmp_path / "run")
    evaluate_run(Options(workdir=str(run.path), report_images=1, pictures=2, test=test))
    assert json.loads((run.path / "eval" / "results.json").read_text()) == []
    check_set(few, ["train", "val"], recipe="small", out=tmp_path / "out", samples=4)


def test_an_earlier_set_of_shapes_gets_its_masks(tmp_path):
    folder = write_shapes(tmp_path / "shapes", seed=3, train=2, val=1)
    file = folder / "annotations" / "instances_train.json"
    whole = file.read_text()
    for split in ("train", "val"):
        older = folder / "annotations" / f"instances_{split}.json"
        content = json.loads(older.read_text())
        for entry in content["annotations"]:
            del entry["extreme_points"], entry["segmentation"]
        older.write_text(json.dumps(content))
    write_shapes(tmp_path / "shapes", seed=3, train=2, val=1)
    assert file.read_text() == whole


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test.top_k": 300}, r"^test\.top_k is 300; at most 215 points of a kind are grouped$"),
        ({"test.merge": True}, r"^test\.merge is True; merged boxes would no longer be those of their extreme points$"),
    ],
)
def test_options_that_make_no_sense_are_refused(config, changes, message):
    with pytest.raises(InputError, match=message):
        DETECTORS["extremenet"].check(replaced(config, {"model.num_classes": 3, **changes}))


def test_the_check_says_which_objects_have_no_points(config, tmp_path, capsys):
    folder = write_shapes(tmp_path / "shapes", seed=0, train=3, val=1)
    file = folder / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    for entry in content["annotations"][:2]:
        del entry["extreme_points"], entry["segmentation"]
    file.write_text(json.dumps(content))
    data = dataclasses.replace(config.data, root=str(folder))
    check_set(dataclasses.replace(config, data=data), ["train"], recipe="small", out=tmp_path / "out", samples=2)
    said = capsys.readouterr().out
    assert "2 objects without extreme_points or a segmentation to make them from, left out of training" in said
    assert (tmp_path / "out" / "samples.jpg").exists()
