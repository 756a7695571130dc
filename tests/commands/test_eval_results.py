"""eval.py on boxes of others, as a user calls it: published ground truths, results and values."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest

from cornerjax.evaluation.compare.average_precision import NAMES

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests" / "golden" / "metrics"
PUBLISHED = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


@pytest.fixture
def evaluate(monkeypatch, tmp_path):
    """evaluate(...) -> (exit code, metrics.json of tmp_path/out if there is one)."""

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["eval.py", *map(str, args), "--out", str(tmp_path / "out")])
        code: str | int | None = 0
        try:
            runpy.run_path(str(ROOT / "eval.py"), run_name="__main__")
        except SystemExit as e:
            code = e.code
        written = tmp_path / "out" / "metrics.json"
        return code, json.loads(written.read_text()) if written.exists() else None

    return call


@pytest.mark.parametrize("case", ["coco_val2014_fake100", "kerascv_sample_boxes", "torchmetrics_small", "voc_sample85"])
def test_published_values(evaluate, case):
    files = CASES / case
    expected = json.loads((files / "expected.json").read_text())
    code, metrics = evaluate("--results", files / "dets.json", "--annotations", files / "gt.json", "--voc")
    assert code == 0
    numbers = expected["metrics"]
    for name, published in zip(NAMES, PUBLISHED, strict=True):
        if published in numbers:
            assert metrics[name] == pytest.approx(numbers[published], abs=expected["tolerance"])
    if "VOC_mAP50" in expected:
        assert metrics["voc"]["all_points"] == pytest.approx(expected["VOC_mAP50"], abs=1e-8)
        for name, ap in expected["VOC_AP50"].items():
            assert metrics["voc"]["per_class"][name]["all_points"] == (ap and pytest.approx(ap, abs=1e-8))


def test_published_values_of_voc(evaluate, capsys):
    files = CASES / "voc_toy"
    code, metrics = evaluate("--results", files / "dets.json", "--annotations", files / "gt.json", "--voc")
    expected = json.loads((files / "expected.json").read_text())
    assert code == 0
    assert metrics["voc"]["all_points"] == pytest.approx(expected["AP_all_points"]["0.5"], abs=expected["tolerance"])
    assert metrics["voc"]["eleven_points"] == pytest.approx(expected["AP_11_point"]["0.5"], abs=expected["tolerance"])
    assert "24 boxes on the 7 images" in capsys.readouterr().out


def test_boxes_below_the_least_score_do_not_count(evaluate, capsys):
    files = CASES / "voc_toy"
    options = ("--results", files / "dets.json", "--annotations", files / "gt.json", "--min-score", 0.9)
    assert evaluate(*options)[1]["options"]["min_score"] == 0.9
    assert "3 boxes on the 7 images" in capsys.readouterr().out


def test_logits_below_zero_count_too(evaluate, tmp_path, capsys):
    files = CASES / "voc_toy"
    boxes = json.loads((files / "dets.json").read_text())
    for box in boxes:
        box["score"] -= 1.5
    (tmp_path / "logits.json").write_text(json.dumps(boxes))
    true = ("--annotations", files / "gt.json")
    _, metrics = evaluate("--results", tmp_path / "logits.json", *true)
    assert "24 boxes on the 7 images" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "out")
    assert metrics["AP"] == evaluate("--results", files / "dets.json", *true)[1]["AP"] > 0
    capsys.readouterr()
    shutil.rmtree(tmp_path / "out")
    evaluate("--results", tmp_path / "logits.json", *true, "--min-score", -0.6)
    assert "3 boxes on the 7 images" in capsys.readouterr().out


def test_counts_are_written_as_in_the_report(evaluate, tmp_path, capsys):
    box = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 0.5}
    truth = {"images": [{"id": 1}], "categories": [{"id": 1, "name": "cat"}], "annotations": [box]}
    (tmp_path / "true.json").write_text(json.dumps(truth))
    (tmp_path / "found.json").write_text(json.dumps([box] * 1200))
    options = ("--annotations", tmp_path / "true.json", "--report-images", 0)
    assert evaluate("--results", tmp_path / "found.json", *options)[0] == 0
    assert "found.json, 1,200 boxes on the 1 images of" in capsys.readouterr().out


def test_an_evaluation_behind_a_link_is_replaced_by_no_smaller_one_and_not_while_it_is_read(evaluate, tmp_path, capsys):
    files, real = CASES / "voc_toy", tmp_path / "real"
    real.mkdir()
    (tmp_path / "out").symlink_to(real)
    options = ("--annotations", files / "gt.json", "--report-images", 0)
    assert evaluate("--results", files / "dets.json", *options, "--voc")[0] == 0
    assert (tmp_path / "out").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "real"]
    assert evaluate("--results", files / "dets.json", *options)[0] == 2
    assert "real holds an evaluation with --voc" in capsys.readouterr().err
    assert evaluate("--results", real / "results.json", *options, "--voc")[0] == 2
    assert "results.json in it is read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "expected either --workdir, a run to evaluate, or --results, a file of boxes"),
        (("--results", "a.json"), "--results needs the true boxes: either --annotations"),
        (
            ("--results", "a.json", "--annotations", "b.json", "--test.flip"),
            "--test and --compute options are of",
        ),
        (("--results", "a.json", "--annotations", "b.json"), "cannot read b.json: No such file"),
        (("--results", "a.json", "--annotations", "b.json", "--checkpoint", "latest"), "--checkpoint is of a run"),
        (("--results", "a.json", "--root", "nowhere", "--allow-code"), "--allow-code is of a run; the boxes of"),
        (("--results", "a.json", "--annotations", "b.json", "--split", "val"), "--split needs images, of which"),
        (("--results", "a.json", "--annotations", "b.json", "--images", "c"), "--images needs images, of which"),
        (("--results", "a.json", "--annotations", "b.json", "--exif", "turn"), "--exif needs images, of which"),
        (("--results", "a.json", "--annotations", "b.json", "--pictures", "5"), "--pictures needs images, of which"),
        (("--results", "a.json", "--annotations", "b.json", "--hosts.count", "2"), "--hosts options are of a run"),
        (("--results", "a.json", "--root", "tfds:b", "--images", "c"), "--images is of folders; the images of tfds:b"),
        (("--results", "a.json", "--root", "nowhere"), "data.root 'nowhere' is not a folder"),
        (("--workdir", "nowhere"), "work directory nowhere does not exist"),
    ],
)
def test_a_mistake_is_one_sentence(evaluate, capsys, args, message):
    code, metrics = evaluate(*args)
    assert (code, metrics) == (2, None)
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("min-score", "nan", "accepted is a finite number"),
        ("pictures", "1000000", "accepted is a whole number from 0 to"),
    ],
)
def test_numbers_that_make_no_sense(evaluate, capsys, option, value, message):
    files = CASES / "voc_toy"
    given = ("--results", files / "dets.json", "--annotations", files / "gt.json", f"--{option}", value)
    assert evaluate(*given) == (2, None)
    assert f"error: --{option} is {value}; {message}" in capsys.readouterr().err


def test_a_score_that_is_no_number_a_computer_has(evaluate, tmp_path, capsys):
    entry = '{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1%s}' % ("0" * 400)
    (tmp_path / "boxes.json").write_text(f"[{entry}]")
    assert evaluate("--results", tmp_path / "boxes.json", "--annotations", CASES / "voc_toy" / "gt.json")[0] == 2
    error = capsys.readouterr().err
    assert "entry 0 has score 1000" in error
    assert len(error) < 500 + len(str(tmp_path))
