"""PASCAL VOC's AP against published values, and what does not count."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cornerjax.evaluation.compare.matching import as_arrays
from cornerjax.evaluation.compare.voc import mean_voc, voc_average_precision

CASES = Path(__file__).parents[2] / "golden" / "metrics"


def published(case):
    truth, results, expected = (
        json.loads((CASES / case / f"{name}.json").read_text()) for name in ("gt", "dets", "expected")
    )
    return as_arrays(truth, results, [image["id"] for image in truth["images"]]), expected


@pytest.mark.parametrize("iou", ["0.1", "0.3", "0.5", "0.75"])
def test_published_numbers_of_one_class(iou):
    boxes, expected = published("voc_toy")
    ap = voc_average_precision(boxes, iou=float(iou))["object"]
    assert ap.all_points == pytest.approx(expected["AP_all_points"][iou], abs=expected["tolerance"])
    assert ap.eleven_points == pytest.approx(expected["AP_11_point"][iou], abs=expected["tolerance"])


def test_published_numbers_of_many_classes():
    boxes, expected = published("voc_sample85")
    results = voc_average_precision(boxes)
    for name, ap in expected["VOC_AP50"].items():
        assert results[name].all_points == pytest.approx(np.nan if ap is None else ap, abs=1e-8, nan_ok=True)
    assert mean_voc(results).all_points == pytest.approx(expected["VOC_mAP50"], abs=1e-8)


def case(*marks, results=((0, 0.9),)):
    """Objects at 0, 100, 200 ... with a mark each, and boxes found at (x, score)."""
    annotations: Any = [
        {"image_id": 1, "category_id": 1, "bbox": [100 * i, 0, 9, 9]} | ({mark: 1} if mark else {})
        for i, mark in enumerate(marks)
    ]
    found: Any = [{"image_id": 1, "category_id": 1, "bbox": [x, 0, 9, 9], "score": score} for x, score in results]
    truth: Any = {"categories": [{"id": 1, "name": "cat"}], "annotations": annotations}
    return voc_average_precision(as_arrays(truth, found, [1]))["cat"]


@pytest.mark.parametrize("mark", ["difficult", "iscrowd"])
def test_objects_that_do_not_count_neither_help_nor_harm(mark):
    with_it = case("", mark, results=((100, 0.9), (100, 0.8), (0, 0.7)))
    assert (with_it.all_points, with_it.eleven_points) == (1, pytest.approx(1))
    assert np.isnan(case(mark).all_points)


def test_a_box_belongs_to_the_object_it_overlaps_most_taken_or_not():
    assert case("", results=((0, 0.9), (1, 0.8))).all_points == 1  # the second one is wrong, after full recall
    assert case("", results=((1, 0.9), (0, 0.8))).all_points == 1  # right is the one with the best score
    assert case("", "", results=((0, 0.9), (0, 0.8), (100, 0.7))).all_points == pytest.approx((1 + 2 / 3) / 2)


def test_the_last_row_and_column_belong_to_a_box():
    moved = case("", results=((3.3, 0.9),))
    assert moved.all_points == 1  # 10x10 pixels overlap 67 / 133; 9x9 would overlap 51.3 / 110.7
