"""COCO's numbers against published ones, and what pycocotools alone would trip over."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cornerjax.evaluation.compare.average_precision import NAMES, average_precision, why_no_masks

CASES = Path(__file__).parents[2] / "golden" / "metrics"
PUBLISHED = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
TRUTH: Any = {
    "images": [{"id": 5}, {"id": 9}],
    "categories": [{"id": 3, "name": "cat"}, {"id": 70, "name": "dog"}],
    "annotations": [
        {"id": 0, "image_id": 5, "category_id": 70, "bbox": [1, 2, 40, 40]},
        {"id": 1, "image_id": 9, "category_id": 70, "bbox": [5, 5, 60, 50], "area": 3000, "iscrowd": 0},
    ],
}
FOUND: Any = [
    {"image_id": 5, "category_id": 70, "bbox": [1, 2, 40, 40], "score": 0.9},
    {"image_id": 9, "category_id": 70, "bbox": [5, 5, 60, 50], "score": 0.5},
]


@pytest.mark.parametrize("case", ["coco_val2014_fake100", "torchmetrics_small"])
def test_published_numbers(case):
    truth, results, expected = (
        json.loads((CASES / case / f"{name}.json").read_text()) for name in ("gt", "dets", "expected")
    )
    metrics, per_class = average_precision(truth, results, [image["id"] for image in truth["images"]])
    wanted = {name: expected["metrics"][published] for name, published in zip(NAMES, PUBLISHED, strict=True)}
    assert metrics == pytest.approx(wanted, abs=expected["tolerance"])
    for category in truth["categories"]:
        if ap := expected.get("per_class_AP", {}).get(str(category["id"])):
            ours = per_class[category["name"]]["AP"]
            assert math.isnan(ours) if ap < 0 else ours == pytest.approx(ap, abs=expected["per_class_tolerance"])


def test_perfect_boxes_without_area_and_with_an_annotation_numbered_zero():
    before = copy.deepcopy((TRUTH, FOUND))
    metrics, per_class = average_precision(TRUTH, FOUND, [5, 9])
    assert metrics["AP"] == metrics["AR_100"] == metrics["AP_medium"] == pytest.approx(1)
    assert per_class["dog"] == pytest.approx({"AP": 1, "AP50": 1})
    assert math.isnan(per_class["cat"]["AP"])
    assert math.isnan(metrics["AP_small"])
    assert before == (TRUTH, FOUND)


def test_null_is_as_good_as_missing():
    annotations = [annotation | {"area": None, "iscrowd": None} for annotation in TRUTH["annotations"]]
    metrics, _ = average_precision(TRUTH | {"annotations": annotations}, FOUND, [5, 9])
    assert metrics["AP"] == metrics["AP_medium"] == pytest.approx(1)


def test_the_size_of_a_found_box_is_that_of_its_box_whatever_its_area_says():
    found = [box | {"area": 4e6} for box in FOUND] + [FOUND[0] | {"bbox": [200, 2, 20, 20], "area": 2e3, "score": 0.95}]
    truth = COCO()
    truth.dataset = TRUTH | {
        "info": {},
        "annotations": [{"iscrowd": 0, "area": 1600} | box | {"id": box["id"] + 1} for box in TRUTH["annotations"]],
    }
    truth.createIndex()
    theirs = COCOeval(truth, truth.loadRes(copy.deepcopy(found)), "bbox")
    theirs.evaluate()
    theirs.accumulate()
    theirs.summarize()
    ours, _ = average_precision(TRUTH, found, [5, 9])
    assert list(ours.values()) == pytest.approx(np.where(theirs.stats < 0, np.nan, theirs.stats), nan_ok=True)


def test_nothing_found():
    metrics, per_class = average_precision(TRUTH, [], [5, 9])
    assert metrics["AP"] == metrics["AR_100"] == 0
    assert per_class["dog"] == {"AP": 0, "AP50": 0}


def test_nothing_to_find():
    metrics, per_class = average_precision(TRUTH | {"annotations": []}, FOUND, [5, 9])
    assert np.isnan(list(metrics.values())).all()
    assert math.isnan(per_class["dog"]["AP"])


def test_only_the_images_asked_for_count():
    assert average_precision(TRUTH, FOUND[:1], [5])[0]["AP"] == pytest.approx(1)
    assert average_precision(TRUTH, FOUND[:1], [5, 9])[0]["AP"] < 0.6


def test_boxes_on_a_crowd_are_not_wrong():
    crowd = {"id": 2, "image_id": 5, "category_id": 70, "bbox": [100, 100, 80, 80], "iscrowd": 1}
    truth = TRUTH | {"annotations": [*TRUTH["annotations"], crowd]}
    on_it: Any = {"image_id": 5, "category_id": 70, "bbox": [110, 110, 30, 30], "score": 0.95}
    assert average_precision(truth, [on_it, *FOUND], [5, 9])[0]["AP"] == pytest.approx(1)
    assert average_precision(TRUTH, [on_it, *FOUND], [5, 9])[0]["AP"] < 0.9


def test_classes_of_the_same_name_are_told_apart():
    truth = TRUTH | {"categories": [{"id": 3, "name": "dog"}, {"id": 70, "name": "dog"}]}
    assert set(average_precision(truth, FOUND, [5, 9])[1]) == {"dog 3", "dog 70"}


def square(x, y, side):
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


MASKS: Any = {
    "images": [{"id": 5, "height": 80, "width": 100}],
    "categories": TRUTH["categories"],
    "annotations": [
        {"id": 1, "image_id": 5, "category_id": 3, "bbox": [0, 0, 40, 40], "segmentation": square(0, 0, 40)},
        {"id": 2, "image_id": 5, "category_id": 3, "bbox": [50, 0, 40, 40], "segmentation": square(50, 0, 40)},
    ],
}


def test_masks_are_compared_by_their_pixels():
    """Both boxes are right; of the second only half of the mask is, an IoU of 0.5."""
    found: Any = [
        {"image_id": 5, "category_id": 3, "bbox": entry["bbox"], "score": 1.0, "segmentation": entry["segmentation"]}
        for entry in MASKS["annotations"]
    ]
    assert why_no_masks(MASKS, found, [5]) is None
    assert average_precision(MASKS, found, [5])[0]["AP"] == pytest.approx(1)
    assert average_precision(MASKS, found, [5], of="segm")[0]["AP"] == pytest.approx(1)
    found[1]["segmentation"] = [[50, 0, 90, 0, 90, 20, 50, 20]]
    assert average_precision(MASKS, found, [5])[0]["AP"] == pytest.approx(1)
    masks, _ = average_precision(MASKS, found, [5], of="segm")
    assert masks["AP50"] == pytest.approx(1)
    assert masks["AP75"] == pytest.approx(51 / 101)  # one of two: precision 1 up to a recall of a half


@pytest.mark.parametrize(
    ("lacks", "said"),
    [
        ("truth", "a true box in image id 5 has no segmentation that can be used: polygons, or a"),
        ("found", "a found box in image id 5 has no segmentation that can be used: polygons, or a"),
        ("sizes", "a found box in image id 5 has no segmentation that can be used: polygons, or a"),
        ("form", "a found box in image id 5 has no segmentation that can be used: polygons, or a"),
        ("every truth", "no true box has a segmentation"),
        ("everything", ""),
        ("both", ""),
    ],
)
def test_without_all_masks_and_sizes_there_is_no_mask_ap(lacks, said):
    truth = copy.deepcopy(MASKS)
    found: Any = [{**FOUND[0], "category_id": 3, "segmentation": square(0, 0, 40)}]
    if lacks == "truth":
        del truth["annotations"][1]["segmentation"]
    elif lacks == "found":
        found.append(FOUND[0])
    elif lacks == "sizes":
        del truth["images"][0]["width"]
    elif lacks == "form":
        found[0]["segmentation"] = [[0, 0, 40, 40]]
    elif lacks == "everything":
        found = []
    else:
        for annotation in truth["annotations"]:
            annotation["segmentation"] = []
        if lacks == "both":
            del found[0]["segmentation"]
    why = why_no_masks(truth, found, [5])
    assert why is not None
    assert why.startswith(said)
    assert bool(why) == bool(said)


def test_masks_on_crowds_and_of_other_images_do_not_count():
    truth = copy.deepcopy(MASKS)
    truth["images"].append({"id": 9, "height": 80, "width": 100})
    truth["annotations"].append({"id": 3, "image_id": 9, "category_id": 3, "bbox": [0, 0, 9, 9]})
    crowd = {"size": [80, 100], "counts": [0, 80 * 100]}
    truth["annotations"].append(
        {"id": 4, "image_id": 5, "category_id": 3, "bbox": [0, 0, 100, 80], "iscrowd": 1, "segmentation": crowd}
    )
    found: Any = [
        {"image_id": 5, "category_id": 3, "bbox": [0, 0, 40, 40], "score": 0.9, "segmentation": square(0, 0, 40)},
        {"image_id": 5, "category_id": 3, "bbox": [50, 0, 40, 40], "score": 0.8, "segmentation": square(50, 0, 40)},
        {"image_id": 5, "category_id": 3, "bbox": [20, 45, 20, 20], "score": 1.0, "segmentation": square(20, 45, 20)},
    ]
    assert why_no_masks(truth, found, [5]) is None
    assert why_no_masks(truth, found, [5, 9])
    assert average_precision(truth, found, [5], of="segm")[0]["AP"] == pytest.approx(1)
