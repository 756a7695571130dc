"""Every damage of a set is found and named, alone and among all the others; a sound set passes."""

import json
import shutil
from pathlib import Path

import cv2
import pytest
from damages import ALSO, DAMAGES, Folder, damaged, where_found

ROOT = Path(__file__).parents[2]
SHAPES = ROOT / "configs/shapes.py"


def test_a_sound_set_passes(shapes, check, tmp_path):
    code, printed, report = check("--root", shapes, "--config", SHAPES, "--samples", 3)
    assert code == 0
    assert report["findings"] == []
    assert printed.endswith("READY: no errors, no warnings\n")
    truth = json.loads((shapes / "annotations/instances_train.json").read_text())["annotations"]
    train = report["splits"]["train"]
    assert (train["images"], train["boxes"]) == (30, len(truth))
    assert train["classes"]["circle"] == sum(entry["category_id"] == 1 for entry in truth)
    assert train["longer_side_px"]["32"] == sum(32 <= max(entry["bbox"][2:]) < 64 for entry in truth)
    assert train["small"] == sum(entry["bbox"][2] * entry["bbox"][3] < 32**2 for entry in truth)
    assert cv2.imread(str(tmp_path / "out/samples.jpg")).shape[1] == 4 * 508 + 3 * 8


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damage_alone_is_found_and_nothing_else(name, shapes, check, tmp_path):
    _, what, where = DAMAGES[name]
    root = damaged(shapes, tmp_path / "set", [name])
    code, printed, report = check("--root", root, "--config", SHAPES, "--samples", 0)
    assert any(where in example for example in where_found(report, what) or [])
    assert code == what.startswith("error")
    assert len(report["findings"]) == 1 + (name in ALSO)
    assert name not in ALSO or where_found(report, ALSO[name])
    assert where in printed


def test_all_damages_at_once_are_found(shapes, check, tmp_path):
    root = damaged(shapes, tmp_path / "set", DAMAGES)
    code, printed, report = check("--root", root, "--config", SHAPES)
    assert code == 1
    assert printed.splitlines()[-1].startswith("NOT READY: 13 kinds of errors, 11 kinds of warnings")
    for name, (_, what, where) in DAMAGES.items():
        if name != "more than max_objects":  # what is counted includes other boxes here
            assert any(where in example for example in where_found(report, what) or []), name
    lines = [line for line in printed.splitlines() if line.startswith(("error ", "warning ", "info "))]
    assert len(lines) == len(report["findings"])


def test_splits_that_do_not_go_together(shapes, check, tmp_path):
    root = Path(shutil.copytree(shapes, tmp_path / "set"))
    file = root / "annotations/instances_val.json"
    content = json.loads(file.read_text())
    content["categories"] = [{"id": 5 * i, "name": name} for i, name in ((1, "circle"), (2, "square"), (4, "square"))]
    for entry in content["annotations"]:
        entry["category_id"] = 10
    file.write_text(json.dumps(content))
    code, _, report = check("--root", root, "--config", SHAPES, "--samples", 0)
    assert code == 1
    assert where_found(report, "error: with other categories than train") == ["val"]
    assert where_found(report, "warning: with a name that another has") == [
        "val: square (id 10)",
        "val: square (id 20)",
    ]
    assert where_found(report, "info: not 1, 2, 3") == ["val"]


def test_boxes_in_parts_of_the_image_are_told(shapes, check, tmp_path):
    root = Path(shutil.copytree(shapes, tmp_path / "set"))
    folder = Folder(root)
    for entry in folder.content["annotations"]:
        entry["bbox"] = [value / 127 for value in entry["bbox"]]
    folder.save()
    code, _, report = check("--root", root, "--config", SHAPES, "--samples", 0)
    assert code == 1
    assert where_found(report, "error: bbox is in pixels") == ["train"]


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "images", "boxes"), [("bccd", 292, 3941), ("coco_mini", 59, 577)])
def test_real_sets(name, images, boxes, real_data, check, tmp_path):
    code, _, report = check(
        "--root", real_data / "data" / name, "--config", ROOT / "configs/squeeze_small.py", "--samples", 4
    )
    train = report["splits"]["train"]
    assert (code, train["images"], train["boxes"]) == (0, images, boxes)
    assert (tmp_path / "out/samples.jpg").is_file()
