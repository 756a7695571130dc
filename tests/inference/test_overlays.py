"""Keypoints, tags, attention and crops in pixels of the image, with networks that can be worked out by hand."""

import dataclasses

import colour_detector
import jax.numpy as jnp
import numpy as np
import pytest
from colour_detector import DETECTOR, NAMES, WEIGHTS, boxes_of
from corner_network import BLUE, GREEN, LOGITS, TAGS, WHOLE, picture, saccade_predictor, whole_predictor

from cornerjax.detectors.overlay import Overlay
from cornerjax.detectors.tags import pairs
from cornerjax.errors import InputError
from cornerjax.inference import overlays
from cornerjax.inference.overlays import available, check_overlays, find_evidence
from cornerjax.inference.predictor import Predictor

BOXES = np.array([BLUE, GREEN])


@pytest.fixture(scope="module")
def whole():
    return whole_predictor()


@pytest.fixture(scope="module")
def saccade():
    return saccade_predictor()


def colours(detector=DETECTOR, apply=colour_detector.apply):
    return Predictor(detector, apply, WEIGHTS, {}, detector.defaults, NAMES)


def test_keypoints_lie_where_the_corners_of_the_boxes_do(whole):
    image = picture()
    evidence, found = find_evidence(whole, image), whole(image[..., ::-1])
    np.testing.assert_allclose(found.boxes, BOXES, atol=1e-3)
    assert list(evidence.keypoints) == ["tl", "br"]
    for corners, ends in zip(evidence.keypoints.values(), (slice(0, 2), slice(2, 4)), strict=True):
        np.testing.assert_array_equal(corners.classes, [0, 1])
        np.testing.assert_allclose(corners.points, BOXES[:, ends], atol=1e-3)
        np.testing.assert_allclose(corners.scores, 1 / (1 + np.exp(-np.array(LOGITS))), rtol=1e-5)
        np.testing.assert_array_equal(corners.inputs, [0, 0])
        np.testing.assert_allclose(corners.cell_px, 3.98, atol=0.02)
        assert list(corners.values) == ["tag"]
        np.testing.assert_allclose(corners.values["tag"][:, 0], TAGS)
    assert evidence.layers == {}
    assert evidence.crops.shape == (0, 4)


def test_what_further_maps_say_of_a_keypoint_without_offset():
    """A middle is the start of its cell; a map of two channels is read there, and maps of other names are not."""

    def with_sizes(params, model_state, images, train):
        (maps,), _ = colour_detector.apply(params, model_state, images, train=train)
        boxes = boxes_of(maps["colours"])
        sizes = (boxes[..., 2:] - boxes[..., :2])[:, 0, None, None] + jnp.zeros((*maps["middle_heat"].shape[:3], 2))
        return [maps | {"middle_size": sizes, "middles_size": sizes}], model_state

    middles = find_evidence(colours(apply=with_sizes), picture()).keypoints["middle"]
    np.testing.assert_allclose(middles.scores, WEIGHTS["score"], rtol=1e-5)
    before = BOXES.reshape(2, 2, 2).mean(1) - middles.points
    assert ((before >= 0) & (before < 4)).all()
    assert list(middles.values) == ["size"]
    np.testing.assert_allclose(middles.values["size"] * middles.cell_px[:, None], [[56, 80]] * 2, rtol=1e-2)


@pytest.mark.parametrize("scales", [(0.5, 1.0), (2.0, 0.5)])
def test_keypoints_of_resized_images_are_in_pixels_of_the_original(scales):
    config = dataclasses.replace(WHOLE, test=dataclasses.replace(WHOLE.test, scales=scales))
    evidence = find_evidence(whole_predictor(config), picture())
    np.testing.assert_allclose(evidence.keypoints["tl"].points, BOXES[:, :2], atol=2)
    np.testing.assert_allclose(evidence.keypoints["br"].points, BOXES[:, 2:], atol=2)


def test_with_flips_the_keypoints_are_those_of_the_image_itself(whole):
    flipped = dataclasses.replace(WHOLE, test=dataclasses.replace(WHOLE.test, flip=True))
    evidence, expected = (find_evidence(one, picture()) for one in (whole_predictor(flipped), whole))
    np.testing.assert_array_equal(evidence.keypoints["tl"].points, expected.keypoints["tl"].points)


def test_faint_keypoints_are_left_out(whole, monkeypatch):
    monkeypatch.setattr(overlays, "LEAST_HEAT", 0.95)
    evidence = find_evidence(whole, picture())
    assert [part.points.shape for part in evidence.keypoints.values()] == [(0, 2), (0, 2)]
    assert [part.values["tag"].shape for part in evidence.keypoints.values()] == [(0, 1), (0, 1)]
    assert pairs(evidence, whole(picture()[..., ::-1]), tag_distance=0.5) == [None, None]


def changed(evidence, **fields):
    """The evidence with other fields of the bottom-right corners."""
    return evidence._replace(keypoints=evidence.keypoints | {"br": evidence.keypoints["br"]._replace(**fields)})


def test_the_corners_of_a_box_are_found_again(whole):
    image = picture()
    evidence, found = find_evidence(whole, image), whole(image[..., ::-1])
    assert pairs(evidence, found, tag_distance=0.5) == [(0, 0), (1, 1)]
    other = changed(evidence, values={"tag": np.array([[1.0], [-1.0]], np.float32)})
    assert pairs(other, found, tag_distance=0.5) == [(0, 0), None]
    elsewhere = changed(evidence, inputs=np.array([0, 1]))
    assert pairs(elsewhere, found, tag_distance=0.5) == [(0, 0), None]
    moved = dataclasses.replace(found, boxes=found.boxes + np.array([[0, 0, 0, 9], [0, 0, 0, 0]], np.float32))
    assert pairs(evidence, moved, tag_distance=0.5) == [None, (1, 1)]
    assert pairs(evidence, dataclasses.replace(found, classes=found.classes[::-1]), tag_distance=0.5) == [None, None]


def test_what_saccade_finds_in_its_crops_is_in_pixels_of_the_image(saccade):
    image = picture(200, 260)
    evidence, found = find_evidence(saccade, image), saccade(image[..., ::-1])
    corners, attention = evidence.keypoints["tl"], evidence.layers["attention"]
    assert len(evidence.crops) >= 1
    assert np.bincount(corners.inputs).size == 2 + len(evidence.crops)
    middle = np.array([(BLUE[0] + BLUE[2]) / 2, (BLUE[1] + BLUE[3]) / 2])
    assert ((evidence.crops[:, :2] < middle) & (middle < evidence.crops[:, 2:])).all(1).any()
    views = corners.inputs < 2  # a crop may cut an object
    blue = corners.classes == 0
    assert (views & blue).sum() == 2
    np.testing.assert_allclose(corners.points[views & blue], [BLUE[:2]] * 2, atol=6)
    assert attention.shape == (3, 200, 260)
    assert attention[1:].max() < 0.01
    rows, columns = np.nonzero(attention[0] > 0.9)
    assert rows.min() <= middle[1] <= rows.max()
    assert columns.min() <= middle[0] <= columns.max()
    assert np.ptp(rows) < 80
    assert len([pair for pair in pairs(evidence, found.above(0.5), tag_distance=0.5) if pair]) >= 1


def test_evidence_in_an_image_of_another_size(saccade):
    evidence = find_evidence(saccade, picture(200, 260))
    larger = evidence.scaled(520, 600, of=(260, 200))
    np.testing.assert_allclose(larger.crops, evidence.crops * (2, 3, 2, 3))
    for name, corners in evidence.keypoints.items():
        np.testing.assert_allclose(larger.keypoints[name].points, corners.points * (2, 3))
        np.testing.assert_allclose(larger.keypoints[name].cell_px, corners.cell_px * 3)
    assert larger.layers["attention"].shape == (3, 600, 520)
    np.testing.assert_array_equal(larger.layers["attention"][:, ::3, ::2], evidence.layers["attention"])
    assert evidence.scaled(260, 200, of=(260, 200)) is evidence


def test_what_a_detector_does_not_have(whole, saccade):
    assert available(whole.detector) == ("keypoints", "tags")
    assert available(saccade.detector) == ("keypoints", "attention", "crops", "tags")
    assert available(colours().detector) == ("keypoints",)
    check_overlays(saccade.detector, available(saccade.detector))
    with pytest.raises(InputError, match=r"^cornernet has no overlay 'attention'; it has: keypoints, tags$"):
        check_overlays(whole.detector, ["keypoints", "attention"])
    with pytest.raises(InputError, match=r"^colours has no overlay 'tags'; it has: keypoints$"):
        check_overlays(colours().detector, ["tags"])
    check_overlays(colours().detector, [])


def test_every_overlay_is_drawn_over_the_boxes(saccade):
    image = picture(200, 260)
    evidence, found = find_evidence(saccade, image), saccade(image[..., ::-1]).above(0.5)
    names = available(saccade.detector)
    plain = overlays.draw(saccade, image, found, None, ())
    pictures = [overlays.draw(saccade, image, found, evidence, (name,)) for name in names]
    for i, one in enumerate([*pictures, overlays.draw(saccade, image, found, evidence, names)]):
        assert one.shape == image.shape
        for other in [plain, *pictures[:i]]:
            assert (one != other).any()
    np.testing.assert_array_equal(overlays.draw(saccade, image, found, evidence, ()), plain)


@pytest.mark.parametrize("below", [False, True])
def test_an_overlay_of_a_detectors_own_is_drawn_below_or_above_the_boxes(below):
    """It fills the picture with the number of middles: boxes are seen only if they are drawn later."""
    told = []

    def fill(image, evidence, found, config):
        told.append((len(evidence.keypoints["middle"].points), len(found), config))
        return np.full_like(image, 9)

    detector = type("Filling", (colour_detector.ColourDetector,), {"overlays": (Overlay("filling", fill, below),)})()
    predictor, image = colours(detector), picture()
    found = predictor(image[..., ::-1])
    drawn = overlays.draw(predictor, image, found, find_evidence(predictor, image), ["filling"])
    assert told == [(2, 2, detector.defaults)]
    assert (drawn == 9).all() == (not below)
