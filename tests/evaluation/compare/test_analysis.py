"""The numbers of an analysis, by hand and against each other."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cornerjax.evaluation.compare.analysis import analyse

CASES = Path(__file__).parents[2] / "golden" / "metrics"


@pytest.fixture(scope="module")
def analysis():
    truth, results = (json.loads((CASES / "voc_sample85" / f"{name}.json").read_text()) for name in ("gt", "dets"))
    return analyse(truth, results, [image["id"] for image in truth["images"]], voc=True)


def test_the_best_threshold_by_hand():
    truth: Any = {"images": [{"id": 1}], "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]}
    places = [0, 100, 200, 300]
    truth["annotations"] = [{"image_id": 1, "category_id": 1, "bbox": [x, 0, 9, 9]} for x in places]
    found = [(0, 0.9), (500, 0.8), (100, 0.7), (200, 0.7), (600, 0.7), (700, 0.1), (300, 0.1), (800, 0.1), (900, 0.1)]
    results: Any = [{"image_id": 1, "category_id": 1, "bbox": [x, 0, 9, 9], "score": score} for x, score in found]
    analysis = analyse(truth, results, [1])
    np.testing.assert_allclose(analysis.curve.thresholds, [0.9, 0.8, 0.7, 0.1])
    np.testing.assert_allclose(analysis.curve.precision, [1, 1 / 2, 3 / 5, 4 / 9])
    np.testing.assert_allclose(analysis.curve.recall, [1 / 4, 1 / 4, 3 / 4, 1])
    cat, dog = analysis.per_class["cat"], analysis.per_class["dog"]
    # 3 of 5 boxes are right from 0.7 on, of 4 objects: 2 * 3 / (5 + 4) = 2 / 3; all of them: 2 * 4 / (9 + 4)
    assert (cat["threshold"], cat["boxes"]) == (0.7, 4)
    assert [cat[name] for name in ("F1", "precision", "recall")] == pytest.approx([2 / 3, 3 / 5, 3 / 4])
    # Of the 5 boxes from 0.7 on two are on nothing, and the fourth cat is found by none of them.
    assert (analysis.error_counts["background"], analysis.error_counts["missed"]) == (2, 1)
    assert (dog["boxes"], math.isnan(dog["threshold"]), math.isnan(dog["AP"])) == (0, True, True)


def test_one_comparison_has_one_ap(analysis):
    assert analysis.errors.ap50 == pytest.approx(analysis.metrics["AP50"])
    assert analysis.false_discovery["FD_50"] == pytest.approx(1 - analysis.metrics["AP50"])
    for name, row in zip(analysis.boxes.class_names, analysis.precision[0.5], strict=True):
        assert row.mean() == pytest.approx(analysis.per_class[name]["AP50"], nan_ok=True)
