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

from cornerjax.evaluation.compare.average_precision import NAMES, average_precision

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
