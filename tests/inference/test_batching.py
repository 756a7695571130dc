"""Padding, batching and the way back from cells to pixels."""

import dataclasses

import colour_detector
import jax.numpy as jnp
import numpy as np
import pytest
from colour_detector import DETECTOR, NAMES, WEIGHTS, compiled_shapes, draw

from cornerjax.config import Config, Test
from cornerjax.detectors.rows import Candidates, Extra
from cornerjax.detectors.selection import select
from cornerjax.errors import InputError
from cornerjax.inference import batching
from cornerjax.inference.batching import BatchPredictor, batch_rows
from cornerjax.inference.placing import pad_images
from cornerjax.inference.whole_image import WholeImage
from cornerjax.legacy import Legacy

CONFIG = Config(test=Test(batch=4))


@pytest.fixture(scope="module")
def predictor():
    return BatchPredictor(DETECTOR, colour_detector.apply, CONFIG, NAMES)


def find(predictor, images):
    batches = predictor.plan([image.shape[:2] for image in images])
    return dict(predictor(WEIGHTS, {}, batches, images.__getitem__))


@pytest.mark.parametrize(("height", "width"), [(31, 31), (32, 40), (45, 63), (64, 33), (95, 4)])
def test_boxes_come_back_in_pixels_of_the_image(predictor, height, width):
    blue, green = (0, 0, width, height // 2), (1, 2, 3, height)
    found = find(predictor, [draw(height, width, blue, green)])[0]
    np.testing.assert_allclose(found.boxes, [blue, green], atol=1e-4)
    np.testing.assert_array_equal(found.classes, [0, 1])
    np.testing.assert_allclose(found.scores, [0.9, 0.8])
    assert found.class_names == NAMES
    assert (found.boxes.dtype, found.scores.dtype, found.classes.dtype) == (np.float32, np.float32, np.int32)


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_images_are_resized_for_the_network_and_boxes_back(scale):
    config = Config(test=Test(batch=4, scales=(scale,)))
    predictor = BatchPredictor(DETECTOR, colour_detector.apply, config, NAMES)
    found = find(predictor, [draw(81, 60, (8, 10, 30, 40), (0, 0, 60, 4))])[0]
    np.testing.assert_allclose(found.boxes, [(8, 10, 30, 40), (0, 0, 60, 4)], atol=1.6)
    with pytest.raises(InputError, match=f"image of 9x1 pixels: both sides must be at least {4 / scale:.0f}"):
        predictor.plan([(1, 9)])


def test_images_of_many_sizes_keep_their_boxes(predictor):
    rng = np.random.default_rng(0)
    images, boxes = [], []
    for _ in range(9):
        height, width = (int(side) for side in rng.integers(20, 64, 2))
        x1, y1 = int(rng.integers(0, width - 8)), int(rng.integers(0, height - 8))
        boxes.append((x1, y1, x1 + 7, y1 + 5))
        images.append(draw(height, width, blue=boxes[-1]))
    found = find(predictor, images)
    assert sorted(found) == list(range(9))
    for i, box in enumerate(boxes):
        np.testing.assert_allclose(found[i].boxes, [box], atol=1e-4)


def test_an_image_without_objects_has_no_boxes(predictor):
    found = find(predictor, [draw(40, 40)])[0]
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)


def test_a_shape_is_compiled_once():
    predictor = BatchPredictor(DETECTOR, colour_detector.apply, CONFIG, NAMES)
    images = [draw(40, 40, blue=(0, 0, 5, 5))] * 11
    find(predictor, images)  # three batches of four, the last one not full
    assert compiled_shapes(predictor) == 1
    find(predictor, images[:7])
    find(predictor, [draw(50, 33)] * 4)  # another size, the same bucket
    assert compiled_shapes(predictor) == 1
    find(predictor, images[:1])
    assert compiled_shapes(predictor) == 2


@pytest.mark.parametrize(
    ("count", "largest", "rows"), [(1, 16, 1), (8, 16, 1), (9, 16, 16), (100, 40, 40), (9, 1, 1), (1, 1, 1)]
)
def test_rows_of_a_batch(count, largest, rows):
    assert batch_rows(count, largest) == rows


def test_images_that_come_one_after_the_other_wait_for_few_of_their_bucket(predictor, monkeypatch):
    """A bucket that filled a batch fills up its last one, too; of the others, few images go one by one."""
    monkeypatch.setattr(batching, "WAIT", 5)
    buckets = {"a": ((31, 31),), "b": ((31, 63),), "c": ((63, 63),)}
    coming = [(index, buckets[name]) for index, name in enumerate("abaacabaaaaacbb")]
    batches = list(predictor.plan_ahead(iter(coming), most=4))
    assert [(batch.indices, batch.rows) for batch in batches] == [
        ([0, 2, 3, 5], 4),
        ([1], 1),
        ([6], 1),
        ([4], 1),
        ([7, 8, 9, 10], 4),
        ([11], 4),
        ([12], 1),
        ([13], 1),
        ([14], 1),
    ]
    assert {batch.bucket for batch in batches if batch.rows == 4} == {buckets["a"]}


@pytest.mark.parametrize(
    ("bucket", "flip", "rows"),
    [
        (((767, 767),), False, 16),
        (((767, 767),), True, 8),
        (((383, 383), (1535, 1535)), False, 3),  # a quarter of a full batch's rows have as many pixels
        (((9999, 9999),), False, 1),
    ],
)
def test_of_large_images_fewer_are_taken(bucket, flip, rows):
    config = Config(test=Test(scales=(1.0,) * len(bucket), flip=flip))
    assert WholeImage(DETECTOR, colour_detector.apply, config).rows(bucket, 16) == rows


def test_the_image_stands_in_the_middle_of_black():
    """An odd side is placed whole; border as in the original, whose crop starts at 127 // 2 - 100 // 2."""
    image = np.full((100, 127, 3), 9, np.uint8)
    padded, borders, ratios, sizes = pad_images([image], [(201, 127)], (127, 127), 2, scale=0.5, legacy=Legacy())
    np.testing.assert_array_equal(borders, [[0, 13], [0, 0]])
    np.testing.assert_allclose(ratios, np.array([[1, 1 / 2.01], [1, 1]]))
    np.testing.assert_array_equal(sizes, [[127, 201], [0, 0]])
    np.testing.assert_array_equal(padded[0, 13:113], image)
    assert padded.sum() == image.sum()


def test_the_original_cuts_an_image_that_fills_its_place_and_scales_by_the_nominal_factor():
    image = np.full((100, 127, 3), 9, np.uint8)
    legacy = Legacy(cut_last=True, nominal_scale=True)
    padded, borders, ratios, sizes = pad_images([image], [(201, 127)], (127, 127), 1, scale=0.5, legacy=legacy)
    np.testing.assert_array_equal(borders, [[0, 13]])
    np.testing.assert_array_equal(ratios, [[0.5, 0.5]])
    np.testing.assert_array_equal(sizes, [[254, 200]])
    np.testing.assert_array_equal(padded[0, 13:113, :126], image[:, :126])
    assert padded[0, :, 126].max() == 0


@pytest.mark.parametrize("scale", [0.9, 1.8])
def test_images_end_at_the_same_place_at_other_scales(scale):
    """In float32, as in the original, which divides: ExtremeNet asks whether boxes of all scales lie in one another."""
    image = np.zeros((int(200 * scale), int(360 * scale), 3), np.uint8)
    legacy = Legacy(nominal_scale=True)
    *_, sizes = pad_images([image], [(200, 360)], (767, 767), 1, scale=scale, legacy=legacy)
    np.testing.assert_array_equal(sizes, [[360, 200]])


def test_boxes_are_clipped_and_those_in_the_padding_dropped():
    class Blind(colour_detector.ColourDetector):
        """Finds a box round everything, and one in the upper padding."""

        def decode(self, outputs, config):
            boxes = jnp.array([[[0, 0, 8, 8], [0, 0, 8, 1]]], jnp.float32)
            return Candidates(boxes, jnp.array([[0.5, 0.9]]), jnp.zeros((1, 2), jnp.int32), {})

    predictor = BatchPredictor(Blind(), colour_detector.apply, CONFIG, NAMES)
    found = find(predictor, [draw(20, 30)])[0]
    np.testing.assert_array_equal(found.boxes, [[0, 0, 30, 20]])
    kept = dataclasses.replace(CONFIG, legacy=Legacy(padding_boxes=True))
    found = find(BatchPredictor(Blind(), colour_detector.apply, kept, NAMES), [draw(20, 30)])[0]
    np.testing.assert_array_equal(found.boxes, [[0, 0, 30, 0], [0, 0, 30, 20]])


def test_an_image_smaller_than_a_cell_is_refused(predictor):
    with pytest.raises(InputError, match="image of 50x3 pixels: both sides must be at least 4"):
        predictor.plan([(40, 40), (3, 50)])


def test_a_failing_load_ends_the_stream(predictor):
    def load(i):
        raise InputError(f"no image {i}")

    with pytest.raises(InputError, match="no image 0"):
        list(predictor(WEIGHTS, {}, predictor.plan([(40, 40)] * 30), load))


BOXES = jnp.array([[[0, 0, 10, 10], [0, 0, 10, 7], [0, 0, 10, 10], [0, 0, 0, 0]]], jnp.float32)
CANDIDATES = Candidates(BOXES, jnp.array([[0.9, 0.8, 0.7, -1]]), jnp.array([[0, 0, 1, 0]]), {})


def selected(test, legacy=CONFIG.legacy, found=CANDIDATES):
    kept = select(found, dataclasses.replace(CONFIG, test=test, legacy=legacy))
    boxes, scores = np.asarray(kept.boxes[0]), np.asarray(kept.scores[0])
    return boxes[scores >= 0], scores[scores >= 0]


@pytest.mark.parametrize(
    ("nms", "legacy", "scores"),
    [
        ("none", Legacy(), [0.9, 0.8, 0.7]),
        ("hard", Legacy(), [0.9, 0.7]),
        ("linear", Legacy(), [0.9, 0.7, 0.8 * (1 - 70 / 100)]),
        ("linear", Legacy(inclusive_overlap=True), [0.9, 0.7, 0.8 * (1 - 88 / 121)]),  # 11 x 8 of 11 x 11 pixels
    ],
)
def test_non_maximum_suppression_is_chosen_by_name(nms, legacy, scores):
    test = dataclasses.replace(CONFIG.test, nms=nms)
    np.testing.assert_allclose(selected(test, legacy)[1], scores, rtol=1e-5)
    two = dataclasses.replace(test, max_detections=2)
    np.testing.assert_allclose(selected(two, legacy)[1], scores[:2], rtol=1e-5)


@pytest.mark.parametrize("corner_scores", [None, (0.6, 0.2)])
def test_suppressed_boxes_move_the_one_that_stays(corner_scores):
    """The lower side is weighed by the scores of the bottom-right corners, if there are any."""
    first, second = corner_scores or (0.9, 0.8)
    scores = jnp.array([[[0.1, first], [0.1, second], [0.1, 0.1], [0, 0]]])
    extra: Extra = {"corner_scores": scores} if corner_scores else {}
    test = dataclasses.replace(CONFIG.test, nms="hard", merge=True, merge_exp=1)
    boxes, _ = selected(test, found=CANDIDATES._replace(extra=extra))
    np.testing.assert_allclose(boxes[0], [0, 0, 10, (10 * first + 7 * second) / (first + second)], rtol=1e-6)


def test_stale_rows_are_reported_where_wanted():
    """The dropped box stays in the buffer, with the score 0 that it was dropped for."""
    test = dataclasses.replace(CONFIG.test, nms="hard")
    np.testing.assert_allclose(selected(test, Legacy(stale_rows=True))[1], [0.9, 0.7, 0])


def test_ties_with_the_last_box_are_kept_where_wanted():
    tied = CANDIDATES._replace(scores=jnp.array([[0.9, 0.5, 0.5, 0.5]]))
    test = dataclasses.replace(CONFIG.test, nms="none", max_detections=2)
    assert len(selected(test, found=tied)[1]) == 2
    assert len(selected(test, Legacy(ties=True), found=tied)[1]) == 4


def test_the_mirrored_image_and_every_scale_add_their_boxes():
    """The colour detector finds the same boxes in each; without suppression all of them are there."""
    test = dataclasses.replace(CONFIG.test, scales=(1.0, 2.0), flip=True, nms="none")
    predictor = BatchPredictor(DETECTOR, colour_detector.apply, Config(test=test), NAMES)
    found = find(predictor, [draw(40, 60, (8, 10, 30, 32))])[0]
    assert len(found) == 4
    np.testing.assert_allclose(found.boxes, [(8, 10, 30, 32)] * 4, atol=1.6)
