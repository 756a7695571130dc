"""An evaluation from images on disk to the files it leaves."""

import json
import math
from pathlib import Path

import colour_detector
import cv2
import numpy as np
import pytest
from colour_detector import DETECTOR, NAMES, WEIGHTS, draw

from cornerjax.config import Config, Data, Test
from cornerjax.data.classes import align_classes
from cornerjax.data.records import Record, Source, read_image
from cornerjax.data.source import open_source
from cornerjax.detectors.rows import Detections
from cornerjax.errors import InputError, RunError
from cornerjax.evaluation import evaluator as evaluating
from cornerjax.evaluation.coco_format import from_results, to_results
from cornerjax.evaluation.draw.pictures import draw_pictures, evenly_spaced
from cornerjax.evaluation.evaluator import Evaluator

IDS = (7, 90)  # category ids with gaps
SIZES = [(50, 61), (40, 40), (64, 50), (50, 61), (33, 47)]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Five images with a blue and a green box each, the last one without boxes."""
    root = tmp_path_factory.mktemp("colours")
    (root / "annotations").mkdir()
    (root / "images").mkdir()
    images, annotations = [], []
    for i, (height, width) in enumerate(SIZES):
        boxes = [] if i == 4 else [(3 + i, 4, 15, 20), (20, 5 + i, width - i, 33)]
        cv2.imwrite(str(root / "images" / f"{i}.png"), draw(height, width, *boxes))
        images.append({"id": 1000 + i, "file_name": f"{i}.png", "height": height, "width": width})
        annotations += [
            {"image_id": 1000 + i, "category_id": IDS[k], "bbox": [x1, y1, x2 - x1, y2 - y1]}
            for k, (x1, y1, x2, y2) in enumerate(boxes)
        ]
    categories = [{"id": id_, "name": name} for id_, name in zip(IDS, NAMES, strict=True)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations" / "instances_val.json").write_text(json.dumps(content))
    return open_source(Data(root=str(root)), "val")


@pytest.fixture
def opened(source, tmp_path):
    """opened({id: name}) -> the same images and boxes, categories numbered so; boxes of others are left out."""

    def of(categories):
        content = json.loads(source.annotation_file.read_text())
        names, ids = dict(zip(IDS, NAMES, strict=True)), {name: id_ for id_, name in categories.items()}
        content["categories"] = [{"id": id_, "name": name} for id_, name in categories.items()]
        content["annotations"] = [
            entry | {"category_id": ids[names[entry["category_id"]]]}
            for entry in content["annotations"]
            if names[entry["category_id"]] in ids
        ]
        (tmp_path / "other.json").write_text(json.dumps(content))
        return open_source(Data(root=str(source.annotation_file.parents[1])), str(tmp_path / "other.json"))

    return of


@pytest.fixture(scope="module")
def evaluator(source):
    return evaluator_of(source)


def evaluator_of(source):
    return Evaluator(DETECTOR, colour_detector.apply, Config(test=Test(batch=2)), source)


@pytest.fixture(scope="module")
def perfect(evaluator):
    return evaluator(WEIGHTS, {})


def test_true_boxes_found_give_ap_1(perfect):
    assert perfect.metrics["AP"] == pytest.approx(1)
    assert math.isnan(perfect.metrics["AP_large"])
    assert perfect.per_class["green"]["AP50"] == pytest.approx(1)
    assert [len(found) for found in perfect.detections] == [2, 2, 2, 2, 0]


def test_results_have_the_ids_of_the_file(perfect, source):
    results = to_results(perfect.detections, source)
    assert [entry["image_id"] for entry in results] == [1000, 1000, 1001, 1001, 1002, 1002, 1003, 1003]
    assert [entry["category_id"] for entry in results[:2]] == [7, 90]
    np.testing.assert_allclose(results[0]["bbox"], [3, 4, 12, 16], atol=1e-4)


def test_the_true_boxes_are_read_once(evaluator, monkeypatch):
    first = evaluator.ground_truth
    monkeypatch.setattr(evaluating, "read_annotations", lambda file: pytest.fail("read again"))
    assert evaluator.ground_truth is first


def test_other_weights_are_evaluated_without_compiling_again(evaluator, perfect):
    compiled = evaluator.batches.procedure.find._cache_size()
    nothing = evaluator({"score": np.full(2, -1, np.float32)}, {})
    assert nothing.metrics["AP"] == 0
    assert evaluator.batches.procedure.find._cache_size() == compiled


def test_a_file_that_lists_the_classes_in_another_order_gives_the_same_numbers(perfect, opened):
    other = opened({3: "green", 8: "blue"})
    assert other.class_names == NAMES[::-1]
    result = evaluator_of(align_classes(other, NAMES, "the run"))(WEIGHTS, {})
    np.testing.assert_equal(result.metrics, perfect.metrics)
    np.testing.assert_equal(result.per_class, perfect.per_class)
    ids = {7: 8, 90: 3}
    assert result.results == [entry | {"category_id": ids[entry["category_id"]]} for entry in perfect.results]
    assert evaluator_of(other)(WEIGHTS, {}).metrics["AP"] == 0  # it would be wrong without


def test_a_class_of_the_file_alone_is_missed_and_one_of_the_run_alone_does_not_count(perfect, opened, source):
    other = opened({3: "red", 8: "blue"})
    other.records[0].classes[:] = 0  # something red, for the picture
    aligned = align_classes(other, NAMES, "the run")
    evaluator = evaluator_of(aligned)
    result = evaluator(WEIGHTS, {})
    assert [entry["category_id"] for entry in result.results] == [8] * 4
    assert [len(found) for found in result.detections] == [2, 2, 2, 2, 0]
    assert result.per_class["blue"]["AP"] == pytest.approx(1)
    assert aligned.class_names == (*NAMES, "red")
    assert len(evaluator.pictures(result, 5)) == 5


def test_the_way_back_from_results(perfect, source):
    back = from_results(perfect.results[::-1], source)
    for before, after in zip(perfect.detections, back, strict=True):
        np.testing.assert_allclose(before.boxes, after.boxes, atol=1e-4)
        np.testing.assert_array_equal(before.scores, after.scores)
        np.testing.assert_array_equal(before.classes, after.classes)


def test_pictures_are_spread_over_the_data_set(evaluator, perfect, source):
    assert evenly_spaced(5, 2) == [0, 2]
    assert evenly_spaced(5, 9) == [0, 1, 2, 3, 4]
    assert evenly_spaced(5, 0) == []
    assert [image_id for image_id, _ in draw_pictures(source, perfect.detections, 2)] == [1000, 1002]
    pictures = evaluator.pictures(perfect, 2)
    assert len(pictures) == 2
    assert all(picture.shape[1] > 2 * 400 for picture in pictures)  # enlarged, side by side


def test_an_image_smaller_than_a_cell_is_named(source):
    with pytest.raises(InputError, match=r"0\.png: image of 61x50 pixels: both sides must be at least 80"):
        Evaluator(DETECTOR, colour_detector.apply, Config(test=Test(scales=(0.05,))), source)


@pytest.fixture
def two_processes(monkeypatch):
    """two_processes(here, there) -> evaluate: another process says `there` while this one, the first, raises `here`."""

    def of(here, there):
        def failing(record):
            raise here

        monkeypatch.setattr(evaluating, "gather", lambda value: [value, ({}, there)])
        monkeypatch.setattr(evaluating, "read_image", failing if here else read_image)

    return of


@pytest.mark.parametrize("here", [None, ZeroDivisionError("by zero")])
def test_an_error_of_any_kind_in_one_process_ends_the_others_too(evaluator, two_processes, here, caplog):
    two_processes(here, (RunError, "process 1 failed in an evaluation: KeyError: 7"))
    said = "process 0 failed in an evaluation: ZeroDivisionError: by zero" if here else "process 1 failed .*KeyError: 7"
    with pytest.raises(RunError, match=f"^{said}$"):
        evaluator(WEIGHTS, {})
    assert [record.exc_info[1] for record in caplog.records] == ([here] if here else [])  # its traceback is told


@pytest.mark.parametrize("here", [None, InputError("cannot read 1.png"), ZeroDivisionError()])
def test_an_image_that_one_process_cannot_read_is_the_same_sentence_in_all(evaluator, two_processes, here):
    there = InputError, "cannot read 2.png"
    two_processes(here, there)
    kind, said = (RunError, "process 0 .* ZeroDivisionError") if isinstance(here, ZeroDivisionError) else there
    with pytest.raises(kind, match=str(here) if isinstance(here, InputError) else said):
        evaluator(WEIGHTS, {})


def test_alone_a_process_has_its_own_error(evaluator, monkeypatch):
    monkeypatch.setattr(evaluating, "read_image", lambda record: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        evaluator(WEIGHTS, {})


def test_results_have_two_decimals_where_wanted(golden):
    recorded = golden("post/coco_results.npz")
    top = recorded["top"]
    found = Detections(top[:, :4], top[:, 4], top[:, 5].astype(np.int32) - 1, ("?",) * 80)
    record = Record(7, Path("7.jpg"), 480, 640, np.zeros((0, 4), np.float32), np.zeros(0, np.int32))
    source = Source([record], ("?",) * 80, tuple(recorded["cls2coco"].tolist()), Path("none.json"))
    results = to_results([found], source, decimals=2)
    assert [result["bbox"] for result in results] == recorded["bbox_f64"].tolist()
    assert [result["score"] for result in results] == recorded["score_f64"].tolist()
    assert [result["category_id"] for result in results] == recorded["category_id"].tolist()
    plain = to_results([found], source)
    np.testing.assert_array_equal([result["score"] for result in plain], top[:, 4])
