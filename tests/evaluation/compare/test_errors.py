"""Every kind of error by hand, and the counts and costs that tidecv gives for published boxes."""

import json
from pathlib import Path

import numpy as np
import pytest

from cornerjax.evaluation.compare.average_precision import average_precision
from cornerjax.evaluation.compare.entries import Category
from cornerjax.evaluation.compare.errors import Kind, TrueKind, count_errors, find_errors
from cornerjax.evaluation.compare.matching import MAX_DETECTIONS, as_arrays

CASES = Path(__file__).parents[2] / "golden" / "metrics"
TIDECV = json.loads((CASES / "tidecv.json").read_text())
CATEGORIES: list[Category] = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]


def true(x, category=1, *, image=1, **more):
    return {"image_id": image, "category_id": category, "bbox": [x, 0, 10, 10], **more}


def found(x, category=1, score=0.5, *, image=1):
    return {"image_id": image, "category_id": category, "bbox": [x, 0, 10, 10], "score": score}


def arrays(annotations, results):
    return as_arrays({"images": [], "categories": CATEGORIES, "annotations": annotations}, results, [1, 2])


def errors_of(annotations, results):
    return find_errors(arrays(annotations, results))


def counts_of(annotations, results, **options):
    boxes = arrays(annotations, results)
    return count_errors(boxes, find_errors(boxes), **options)


def test_every_kind_by_hand():
    annotations = [true(0), true(100), true(200), true(300, 2), true(400), true(600, iscrowd=1)]
    results = [
        found(0, score=0.9),  # IoU 1
        found(1, score=0.8),  # again, 9 / 11
        found(105),  # 5 / 15
        found(200, 2),
        found(306),  # of a dog, 4 / 16
        found(500),
        found(602),  # all on the crowd but a fifth
        found(0, image=2),
    ]
    errors = errors_of(annotations, results)
    kinds = [Kind.CORRECT, Kind.DUPLICATE, Kind.LOCALISATION, Kind.CLASS, Kind.BOTH, Kind.BACKGROUND, Kind.IGNORED]
    assert errors.kinds.tolist() == [*kinds, Kind.BACKGROUND]
    assert errors.true_index.tolist() == [0, 0, 1, 2, 3, -1, 5, -1]
    np.testing.assert_allclose(errors.ious, [1, 9 / 11, 1 / 3, 1, 1 / 4, 0, 4 / 5, 0])
    missed = TrueKind.MISSED
    assert errors.true_kinds.tolist() == [TrueKind.FOUND, *[TrueKind.MISTAKEN] * 2, missed, missed, TrueKind.CROWD]
    assert errors.found_index.tolist() == [0, -1, -1, -1, -1, -1]
    counts = {"class": 1, "localisation": 1, "both": 1, "duplicate": 1, "background": 2, "missed": 2}
    assert counts_of(annotations, results) == counts


def test_a_crowd_region_is_no_object_of_another_class():
    errors = errors_of([true(0, iscrowd=1), true(100)], [found(0, 2)])
    assert errors.kinds.tolist() == [Kind.BACKGROUND]


def test_the_border_between_places_and_background():
    at = errors_of([true(0)], [found(8, score=0.9), found(9, score=0.8)])  # 2 / 18 and 1 / 19
    assert at.kinds.tolist() == [Kind.LOCALISATION, Kind.BACKGROUND]


def test_what_mending_gains_by_hand():
    """Of two cats one is found, below a box of each kind of error; AP50 is that of one hit in the last place."""
    annotations = [true(0), true(100)]
    base = errors_of(annotations, [found(0, score=0.1), found(300, score=0.9)])
    half = 51 / 101  # recalls up to one half
    assert base.ap50 == pytest.approx(half / 2)
    assert base.gains == pytest.approx(
        {"class": 0, "localisation": 0, "both": 0, "duplicate": 0, "background": half / 2, "missed": 0.5 - half / 2}
    )
    placed = errors_of(annotations, [found(0, score=0.1), found(105, score=0.8), found(105, score=0.9)])
    assert placed.ap50 == pytest.approx(half / 3)
    assert placed.gains["localisation"] == pytest.approx(1 - half / 3)  # the better becomes right, the other goes
    assert placed.gains["missed"] == 0  # its cat is not missed but misplaced
    named = errors_of(annotations, [found(0, score=0.1), found(100, 2, score=0.9)])
    assert named.gains["class"] == pytest.approx(1 - half)


def test_a_box_that_another_has_found_is_not_found_again_by_mending():
    errors = errors_of([true(0)], [found(0, score=0.9), found(0, 2, score=0.8), found(5, score=0.7)])
    assert errors.kinds.tolist() == [Kind.CORRECT, Kind.CLASS, Kind.LOCALISATION]
    assert errors.ap50 == 1
    assert set(errors.gains.values()) == {0}


def test_boxes_beyond_those_that_count_are_ignored():
    results = [found(300, score=0.9)] * MAX_DETECTIONS + [found(0, score=0.1)]
    errors = errors_of([true(0)], results)
    assert errors.kinds[-1] == Kind.IGNORED
    assert errors.true_index[-1] == -1
    assert errors.true_kinds.tolist() == [TrueKind.MISSED]
    assert errors.ap50 == 0


def test_nothing_found_and_nothing_to_find():
    errors = errors_of([true(0)], [])
    assert errors.ap50 == 0
    assert counts_of([true(0)], [])["missed"] == 1
    assert np.isnan(errors.gains["missed"])  # no box is left to be found
    errors = errors_of([], [found(0)])
    assert errors.kinds.tolist() == [Kind.BACKGROUND]
    assert np.isnan(errors.ap50)
    assert counts_of([], [])["background"] == 0


@pytest.mark.parametrize("case", [name for name in TIDECV if (CASES / name).is_dir()])
def test_the_errors_that_tidecv_counts(case):
    truth, results = (json.loads((CASES / case / f"{name}.json").read_text()) for name in ("gt", "dets"))
    image_ids = [image["id"] for image in truth["images"]]
    boxes, recorded = as_arrays(truth, results, image_ids), TIDECV[case]
    errors = find_errors(boxes)
    assert count_errors(boxes, errors) == recorded["counts"]
    points = {name: 100 * gain for name, gain in errors.gains.items()}
    assert points == pytest.approx(recorded["gains"], abs=0.04)  # see "differences" there
    assert 100 * errors.ap50 == pytest.approx(recorded["ap50"], abs=0.04)
    assert errors.ap50 == pytest.approx(average_precision(truth, results, image_ids)[0]["AP50"], abs=1e-12)


@pytest.mark.parametrize("case", [name for name in TIDECV if (CASES / name).is_dir()])
@pytest.mark.parametrize("threshold", [0.3, 0.6, 2.0])
def test_from_a_score_on_it_is_as_if_the_other_boxes_were_not_there(case, threshold):
    truth, results = (json.loads((CASES / case / f"{name}.json").read_text()) for name in ("gt", "dets"))
    image_ids = [image["id"] for image in truth["images"]]
    boxes = as_arrays(truth, results, image_ids)
    without = as_arrays(truth, [box for box in results if box["score"] >= threshold], image_ids)
    assert count_errors(boxes, find_errors(boxes), threshold=threshold) == count_errors(without, find_errors(without))
