"""Extreme points against recordings of the original's tool, and what is refused or made up."""

import json
import logging

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from cornerjax.check.annotations import read_split
from cornerjax.check.findings import Findings
from cornerjax.config import Data
from cornerjax.data import extreme_points as points
from cornerjax.data.geometry import mirrored
from cornerjax.data.pack import pack
from cornerjax.data.shapes import write_shapes
from cornerjax.data.source import open_source
from cornerjax.detectors.extremenet import ExtremeData
from cornerjax.errors import InputError


def test_outlines_and_masks_give_the_originals_points(golden):
    recorded = golden("targets/extreme_points.npz")
    numbers = [key[3:-4] for key in recorded if key.startswith("pts")]
    assert len(numbers) >= 10
    for i in numbers:
        np.testing.assert_array_equal(points.of_outline(recorded[f"pts{i}_f64"]), recorded[f"extreme{i}_f64"])
    np.testing.assert_array_equal(points.of_mask(recorded["mask"] > 0), recorded["mask_extreme_f64"])


def test_whole_annotations_give_the_originals_points(golden):
    """Polygons of several parts make one outline; masks are walked row by row; fractions are cut off."""
    recorded = golden("targets/extreme_points_ann.npz")
    height, width = recorded["image_size_hw"].tolist()
    names = [key.removesuffix("_extreme_i32") for key in recorded if key.endswith("_extreme_i32")]
    assert {name[:4] for name in names} == {"poly", "rle0", "rle1", "rle2", "rle3", "rle4", "rle5"}
    for name in names:
        if name.startswith("poly"):
            parts = range(int(recorded[f"{name}_nparts"]))
            made = [recorded[f"{name}_part{i}_f64"].reshape(-1).tolist() for i in parts]
            found = [points.of_segmentation(made, height, width)]
        else:
            mask = recorded[f"{name}_mask"]
            runs = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
            size, text = list(mask.shape), runs["counts"].decode()
            forms = [{"size": size, "counts": recorded[f"{name}_counts"].tolist()}, {"size": size, "counts": text}]
            found = [points.of_segmentation(form, *size) for form in forms]
        for of_form in found:
            assert of_form is not None
            assert of_form.dtype == np.int32
            np.testing.assert_array_equal(of_form, recorded[f"{name}_extreme_i32"], err_msg=name)


@pytest.mark.parametrize(
    "segmentation",
    [
        None, [], {}, [[]], [[1, 2, 3, 4]], [[1, 2, 3, 4, 5, 6, 7]], [[1, 2, 3, 4, 5, "6"]], [[1, 2, 3, 4, 5, 1e300]],
        {"size": [2, 3], "counts": [1, 2]}, {"size": [3, 2], "counts": [0, 6]}, {"size": [2, 3], "counts": [6]},
        {"size": [2, 3], "counts": [-1, 7]}, {"size": [2, 3], "counts": None}, "abc", [1, 2, 3, 4, 5, 6],
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_segmentation_of_the_image_gives_none(segmentation):
    assert points.of_segmentation(segmentation, 2, 3) is None


def test_a_part_of_two_corners_belongs_to_the_outline():
    part, line = [10, 10, 60, 10, 60, 40, 10, 40], [70, 5, 72, 9]
    whole = points.of_outline(np.array([*part, *line], np.float64).reshape(-1, 2))
    np.testing.assert_array_equal(points.of_segmentation([part, line], 100, 100), whole)
    assert points.polygons_of([part, line]) == []  # a mask needs three


def folder_of(tmp_path, *changes):
    """A folder with a picture; changes: of each annotation in turn, None to leave out a field."""
    folder = write_shapes(tmp_path / "set", seed=0, train=2, val=1)
    file = folder / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    for entry, change in zip(content["annotations"], changes, strict=False):
        entry |= change
        for name in [name for name, value in change.items() if value is None]:
            del entry[name]
    file.write_text(json.dumps(content))
    return folder, content["annotations"]


BARE = {"extreme_points": None, "segmentation": None}


def opened(folder, **options):
    return np.concatenate(
        [r.points["extreme_points"] for r in open_source(ExtremeData(root=str(folder), **options), "train").records]
    )


def test_the_field_of_the_file_comes_first_then_the_segmentation(tmp_path):
    own = [[3, 1], [1, 4], [5, 8], [7, 6]]
    polygon = {"extreme_points": None, "segmentation": [[10, 5, 20, 15, 10, 25, 0, 15]]}
    folder, _ = folder_of(tmp_path, {"extreme_points": own}, polygon)
    found = opened(folder)
    assert found[0].tolist() == own
    assert found[1].tolist() == [[10, 5], [0, 15], [10, 25], [20, 15]]


TOO_FAR = [[3, 2.5], [1, 4], [5, 8], [7, 1]]  # the rightmost lies higher than the topmost


@pytest.mark.parametrize("own", [[[1, 4], [3, 1], [7, 6], [5, 8]], TOO_FAR], ids=["left first", "not the topmost"])
def test_points_in_another_order_are_refused(tmp_path, own):
    folder, _ = folder_of(tmp_path, {}, {"extreme_points": own})
    said = r"instances_train\.json: annotation id 2 has extreme_points \[\[.*; expected its topmost, leftmost,"
    with pytest.raises(InputError, match=said):
        opened(folder)
    findings = Findings()
    read_split(ExtremeData(root=str(folder)), "train", findings)
    assert findings.has_errors()
    open_source(Data(root=str(folder)), "train")  # other detectors do not look at them


def test_points_of_files_that_round_are_in_order(tmp_path):
    own = [[3, 2], [1, 4], [5, 8], [7, 1]]
    folder, _ = folder_of(tmp_path, {"extreme_points": own})
    assert opened(folder)[0].tolist() == own


def test_objects_without_are_left_out_or_get_substitutes(tmp_path, caplog):
    folder, entries = folder_of(tmp_path, {}, BARE)
    caplog.set_level(logging.WARNING)
    assert len(opened(folder)) == len(entries) - 1
    assert f"1 of {len(entries)} objects have no extreme_points and no segmentation to make them from" in caplog.text
    assert "from: they are left out" in caplog.text
    x, y, width, height = entries[1]["bbox"]
    middles = [[x + width / 2, y], [x, y + height / 2], [x + width / 2, y + height], [x + width, y + height / 2]]
    assert opened(folder, extreme_from="box")[1].tolist() == middles
    assert "they get the middles of the sides of their boxes" in caplog.text
    assert not opened(folder, extreme_from="zero")[1].any()


def test_a_pack_has_them_too(tmp_path):
    folder, _ = folder_of(tmp_path, {}, {})
    pack(Data(root=str(folder)), ["train"], str(tmp_path / "pack"))
    np.testing.assert_array_equal(opened(f"tfds:{tmp_path / 'pack'}"), opened(folder))


def test_other_sets_of_tfds_have_boxes_only(tmp_path, caplog):
    folder, entries = folder_of(tmp_path)
    pack(Data(root=str(folder)), ["train"], str(tmp_path / "pack"))
    (tmp_path / "pack" / "instances_train.json").unlink()
    root = f"tfds:{tmp_path / 'pack'}"
    np.testing.assert_array_equal(opened(root, extreme_from="box"), [points.of_box(entry["bbox"]) for entry in entries])
    caplog.clear()
    assert not len(opened(root))
    assert f"{len(entries)} of {len(entries)} objects have no extreme_points and no segmentation" in caplog.text


def test_other_detectors_read_no_points(tmp_path, caplog):
    folder, entries = folder_of(tmp_path, {}, BARE)
    records = open_source(Data(root=str(folder)), "train").records
    assert sum(len(record.classes) for record in records) == len(entries)
    assert [record.points for record in records] == [{}, {}]
    assert "extreme" not in caplog.text


def test_a_mirror_changes_left_and_right():
    objects = {
        "boxes": np.array([[1, 2, 5, 8]], np.float32),
        "extreme_points": np.array([[[2, 2], [1, 4], [3, 8], [5, 6]]], np.float32),
    }
    assert mirrored(objects, 10)["extreme_points"].tolist() == [[[8, 2], [5, 6], [7, 8], [9, 4]]]
