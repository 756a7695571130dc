"""Our matching against pycocotools': the same APs at every IoU and size, with ties and crowds."""

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.cocoeval import COCOeval

from cornerjax.evaluation.compare.average_precision import _index
from cornerjax.evaluation.compare.curves import matched_precision, mean_precision
from cornerjax.evaluation.compare.false_discovery import IOUS, SIZES, false_discovery
from cornerjax.evaluation.compare.matching import as_arrays, labels, match, match_at


def random_case(seed) -> tuple[Any, Any, list[int]]:
    """Few classes, whole numbers and coarse scores: many equal overlaps and scores; one image with over 100 boxes."""
    rng = np.random.default_rng(seed)
    images, categories = [3, 8, 21, 50], [{"id": i, "name": f"class {i}"} for i in (7, 2, 90)]
    annotations, results = [], []
    for image in images:
        for _ in range(6):
            x, y, w, h = (int(v) for v in rng.integers(4, 160, 4))
            category = int(rng.choice([7, 2]))
            crowd = int(rng.random() < 0.2)
            annotations.append(
                {
                    "image_id": image,
                    "category_id": category,
                    "bbox": [x, y, w, h],
                    "iscrowd": crowd,
                    "area": w * h * 0.6,
                }
            )
            for _ in range(40 if image == 21 else 5):
                moved = [max(int(v + rng.integers(-9, 10)), 1) for v in (x, y, w, h)]
                label = int(rng.choice([category, category, category, 2, 90]))
                score = round(float(rng.random()), 1)
                results.append({"image_id": image, "category_id": label, "bbox": moved, "score": score})
    truth = {"images": [{"id": image} for image in images], "categories": categories, "annotations": annotations}
    return truth, results, images


def coco_precision(truth, results, images, *, ious):
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(*(_index(e, set(images), truth) for e in (truth["annotations"], results)))
        evaluation.params.iouType = "bbox"
        evaluation.params.imgIds, evaluation.params.iouThrs = sorted(images), np.array(ious)
        evaluation.evaluate()
        evaluation.accumulate()
    return np.where(evaluation.eval["precision"] < 0, np.nan, evaluation.eval["precision"])[..., -1]


@pytest.mark.parametrize("seed", range(3))
def test_precision_is_that_of_pycocotools(seed):
    case, ious = random_case(seed), [0.3, 0.5, 0.75]
    boxes, wanted = as_arrays(*case), coco_precision(*case, ious=ious)
    for i, matches in enumerate(match_at(boxes, ious)):
        np.testing.assert_allclose(matched_precision(boxes, matches), wanted[i, ..., 0].T, atol=1e-12)
        assert matches.ignored.any()
    assert np.isnan(wanted[..., 2, 0]).all()  # nothing of class 90 to be found


@pytest.mark.parametrize("seed", range(3))
def test_false_discovery_is_one_minus_the_ap_of_pycocotools(seed):
    case = random_case(seed)
    wanted = coco_precision(*case, ious=IOUS)
    rates = false_discovery(as_arrays(*case))
    assert rates["FD"] == pytest.approx(1 - np.nanmean(wanted[..., 0]), abs=1e-12)
    for name, i in (("FD_5", 0), ("FD_25", 4), ("FD_50", 9)):
        assert rates[name] == pytest.approx(1 - np.nanmean(wanted[i, ..., 0]), abs=1e-12)
    for size, name in enumerate(SIZES, start=1):
        assert rates[f"FD_{name}"] == pytest.approx(1 - np.nanmean(wanted[..., size]), abs=1e-12)


def test_matches_say_which_box_is_which():
    truth: Any = {
        "categories": [{"id": 5, "name": "cat"}, {"id": 1, "name": "dog"}],
        "annotations": [
            {"image_id": 4, "category_id": 5, "bbox": [0, 0, 10, 10]},
            {"image_id": 4, "category_id": 5, "bbox": [50, 50, 40, 40], "iscrowd": 1},
            {"image_id": 9, "category_id": 1, "bbox": [0, 0, 10, 10], "difficult": 1},
        ],
    }
    results: Any = [
        {"image_id": 4, "category_id": 5, "bbox": [0, 0, 10, 9], "score": 0.3},
        {"image_id": 4, "category_id": 5, "bbox": [0, 0, 10, 8], "score": 0.9},
        {"image_id": 4, "category_id": 5, "bbox": [55, 55, 5, 5], "score": 0.8},
        {"image_id": 4, "category_id": 5, "bbox": [60, 60, 5, 5], "score": 0.7},
        {"image_id": 7, "category_id": 5, "bbox": [0, 0, 1, 1], "score": 1},
        {"image_id": 9, "category_id": 5, "bbox": [0, 0, 10, 10], "score": 1},
    ]
    boxes = as_arrays(truth, results, [4, 9])
    assert boxes.class_names == ("dog", "cat")
    assert boxes.true.classes.tolist() == [1, 1, 0]
    assert boxes.true.areas.tolist() == [100, 1600, 100]
    assert boxes.true.difficult.tolist() == [False, False, True]
    assert boxes.found.boxes[2].tolist() == [55, 55, 60, 60]
    assert boxes.found.images.tolist() == [4, 4, 4, 4, 9]
    assert boxes.totals().tolist() == [1, 1]
    matches = match(boxes)
    assert matches.true_index.tolist() == [-1, 0, 1, 1, -1]
    assert matches.ignored.tolist() == [False, False, True, True, False]
    assert matches.right.tolist() == [False, True, False, False, False]
    assert matches.found_index.tolist() == [1, -1, -1]
    assert mean_precision(matched_precision(boxes, matches)) == pytest.approx(0.25)  # cat after a wrong one, no dog


def test_labels_are_unique_and_names_that_occur_once_are_kept():
    categories: Any = [{"id": i, "name": name} for i, name in [(7, "a 1"), (2, "a"), (1, "a"), (3, "b")]]
    assert labels(categories) == {1: "a 1 1", 2: "a 2", 3: "b", 7: "a 1"}


def test_of_equal_overlaps_the_last_is_taken_as_in_pycocotools():
    truth: Any = {"categories": [{"id": 1, "name": "cat"}]}
    truth["annotations"] = [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10]}] * 2
    results: Any = [
        {"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "score": score} for score in (0.9, 0.8, 0.7)
    ]
    assert match(as_arrays(truth, results, [1])).true_index.tolist() == [1, 0, -1]


def test_overlaps_of_boxes_without_area_are_zero():
    truth: Any = {"categories": [{"id": 1, "name": "cat"}]}
    found: Any = [{"image_id": 1, "category_id": 1, "bbox": box, "score": 1} for box in ([1, 1, 0, 0], [0, 0, 2, 2])]
    truth["annotations"] = [*found, {"image_id": 1, "category_id": 1, "bbox": [0, 0, 4, 4], "iscrowd": 1}]
    boxes = as_arrays(truth, found, [1])
    np.testing.assert_array_equal(boxes.overlaps(np.arange(2), np.arange(3)), [[0, 0, 0], [0, 1, 1]])


@pytest.mark.parametrize("decimals", [1, 2, 12])
def test_overlaps_are_those_of_pycocotools_to_the_last_bit(decimals):
    rng = np.random.default_rng(decimals)
    bboxes = np.round(rng.uniform(0, [60, 60, 40, 40], (600, 4)), decimals)
    crowd = rng.random(300) < 0.3
    truth: Any = {"categories": [{"id": 1, "name": "cat"}]}
    truth["annotations"] = [
        {"image_id": 1, "category_id": 1, "bbox": box, "iscrowd": int(is_crowd)}
        for box, is_crowd in zip(bboxes[:300].tolist(), crowd, strict=True)
    ]
    found: Any = [{"image_id": 1, "category_id": 1, "bbox": box, "score": 0.5} for box in bboxes[300:].tolist()]
    boxes = as_arrays(truth, found, [1])
    wanted = coco_mask.iou(bboxes[300:], bboxes[:300], crowd.astype(np.uint8))
    np.testing.assert_array_equal(boxes.overlaps(np.arange(300), np.arange(300)), wanted)
    assert (wanted > 0).mean() > 0.1


def test_sizes_are_those_of_the_file_whatever_the_place():
    """A square of 32 px is medium and small both, as in COCO; x + width - x is not always the width."""
    truth: Any = {"images": [{"id": 1}], "categories": [{"id": 1, "name": "cat"}], "annotations": []}
    found: Any = []
    for i in range(50):
        place = {"image_id": 1, "category_id": 1, "bbox": [0.1 + 33.3 * i, 0.7 + 1.1 * i, 32, 32]}
        truth["annotations"].append(place)
        found.append(place | {"score": 0.5})
    boxes = as_arrays(truth, found, [1])
    assert set(boxes.true.areas) == set(boxes.found.box_areas) == {1024}
    rates = false_discovery(boxes)
    assert rates["FD_small"] == rates["FD_medium"] == pytest.approx(0)
