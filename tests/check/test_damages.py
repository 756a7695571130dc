"""Every damage of a set is found and named, alone and among all the others; a sound set passes."""

import json
import shutil
from pathlib import Path

import pytest
from damages import ALSO, DAMAGES, Folder, damaged, where_found, width_of

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
    assert width_of(tmp_path / "out/samples.jpg") == 4 * 508 + 3 * 8


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
    assert printed.splitlines()[-1].startswith("NOT READY: 15 kinds of errors, 12 kinds of warnings")
    for name, (_, what, where) in DAMAGES.items():
        if name != "more than max_objects":  # what is counted includes other boxes here
            assert any(where in example for example in where_found(report, what) or []), name
    lines = [line for line in printed.splitlines() if line.startswith(("error ", "warning ", "info "))]
    assert len(lines) == len(report["findings"])


@pytest.fixture
def with_val_categories(shapes, tmp_path):
    """with_val_categories(names) -> a set whose val has these categories, its ids 5, 10, 15 ...

    Boxes of a class that is not among them get the first.
    """

    def write(names: list[str]) -> Path:
        root = Path(shutil.copytree(shapes, tmp_path / "set"))
        file = root / "annotations/instances_val.json"
        content = json.loads(file.read_text())
        before = {category["id"]: category["name"] for category in content["categories"]}
        ids = {name: 5 * i for i, name in enumerate(names, start=1)}
        content["categories"] = [{"id": 5 * i, "name": name} for i, name in enumerate(names, start=1)]
        for entry in content["annotations"]:
            entry["category_id"] = ids.get(before[entry["category_id"]], 5)
        file.write_text(json.dumps(content))
        return root

    return write


def findings_of(root: Path, check) -> tuple[int, dict[str, list[str]]]:
    """The exit code, and of each finding, "level: text", the examples."""
    code, _, report = check("--root", root, "--config", SHAPES, "--samples", 0)
    return code, {f"{f['level']}: {f['text']}": list(f["examples"]) for f in report["findings"]}


IDS = "info: category ids from 5 to {}: not 1, 2, 3 ..., which is accepted"


def test_classes_may_stand_in_another_order(shapes, check, with_val_categories):
    code, found = findings_of(with_val_categories(["triangle", "circle", "rectangle"]), check)
    assert code == 0
    assert found == {
        IDS.format(15): ["val"],
        "info: split with the categories of train in another order, which is accepted: they are matched by name": [
            "val"
        ],
    }


def test_a_class_that_one_split_lacks_is_a_warning(check, with_val_categories):
    code, found = findings_of(with_val_categories(["star", "rectangle", "circle"]), check)
    assert code == 0
    assert found == {
        IDS.format(15): ["val"],
        "warning: category in train, but not in val": ["triangle"],
        "warning: category in val, but not in train": ["star"],
    }


def test_splits_without_a_common_class_are_an_error(check, with_val_categories):
    code, found = findings_of(with_val_categories(["star", "moon"]), check)
    assert code == 1
    assert found == {
        IDS.format(10): ["val"],
        "warning: category without a box": ["moon"],
        "error: split that has no category in common with train": ["val"],
    }


def test_boxes_of_a_class_are_compared_by_its_name(shapes, check, with_val_categories):
    """Training has no box of the class that stands first in val, but one of the class that has its place in train."""
    root = with_val_categories(["triangle", "rectangle", "circle"])
    folder = Folder(root)
    number = {category["name"]: category["id"] for category in folder.content["categories"]}
    for entry in folder.content["annotations"]:
        if entry["category_id"] == number["triangle"]:
            entry["category_id"] = number["circle"]
    folder.save()
    _, found = findings_of(root, check)
    assert found["warning: category with boxes in val, but none in train"] == ["triangle"]


def test_two_classes_of_one_name_are_a_warning(check, with_val_categories):
    _, found = findings_of(with_val_categories(["circle", "rectangle", "rectangle"]), check)
    assert found["warning: categories with the same name as another"] == [
        "val: rectangle (id 10)",
        "val: rectangle (id 15)",
    ]
    assert found["warning: category in train, but not in val"] == ["triangle"]


def test_boxes_in_parts_of_the_image_are_told(shapes, check, tmp_path):
    root = Path(shutil.copytree(shapes, tmp_path / "set"))
    folder = Folder(root)
    for entry in folder.content["annotations"]:
        entry["bbox"] = [value / 127 for value in entry["bbox"]]
    folder.save()
    code, _, report = check("--root", root, "--config", SHAPES, "--samples", 0)
    assert code == 1
    assert where_found(report, "error: bbox must be in pixels") == ["train"]


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "images", "boxes"), [("bccd", 292, 3941), ("coco_mini", 59, 577)])
def test_real_sets(name, images, boxes, real_data, check, tmp_path):
    code, _, report = check(
        "--root", real_data / "data" / name, "--config", ROOT / "configs/squeeze_small.py", "--samples", 4
    )
    train = report["splits"]["train"]
    assert (code, train["images"], train["boxes"]) == (0, images, boxes)
    assert (tmp_path / "out/samples.jpg").is_file()
