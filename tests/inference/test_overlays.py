"""Corners, tags, attention and crops in pixels of the image, with networks that can be worked out by hand."""

import dataclasses

import colour_detector
import jax.numpy as jnp
import numpy as np
import pytest
from colour_detector import NAMES, draw

from cornerjax.config import Config, Data, Model, Saccade, Test
from cornerjax.detectors.cornernet import CornerNet
from cornerjax.detectors.cornernet_saccade import CornerNetSaccade
from cornerjax.errors import InputError
from cornerjax.inference import overlays
from cornerjax.inference.overlays import available, check_overlays, find_evidence, pairs
from cornerjax.inference.predictor import Predictor
from cornerjax.ops.pixels import MEAN, STD

BLUE, GREEN = (8, 16, 64, 96), (40, 24, 112, 56)
LOGITS, TAGS = (2.0, 1.5), (1.0, -2.0)  # of what is blue, and green


def apply(params, model_state, images, train):
    """A corner map with one sure corner of each kind round what is blue, and one round what is green."""
    height, width = images.shape[1:3]
    colours = images[..., :2] * STD[:2] + MEAN[:2] > 0.75
    maps = {}
    for side in ("tl", "br"):
        x, y = (edge(colours, axis, first=side == "tl") for axis in (2, 1))
        h, w = -(-height // 4), -(-width // 4)
        x, y = x * np.float32(w / width), y * np.float32(h / height)
        column, row = (jnp.minimum(place.astype(jnp.int32), n - 1) for place, n in ((x, w), (y, h)))
        at = (jnp.arange(h)[:, None, None] == row[:, None, None]) & (jnp.arange(w)[:, None] == column[:, None, None])
        seen = colours.any((1, 2))[:, None, None]
        maps[f"{side}_heat"] = jnp.where(at & seen, np.array(LOGITS, np.float32), -9.0)
        maps[f"{side}_tag"] = jnp.where(at, np.array(TAGS, np.float32), 0).sum(-1, keepdims=True)
        offset = jnp.stack([x - column, y - row], -1)  # (b, class, 2)
        maps[f"{side}_off"] = (at[..., None] * offset[:, None, None]).sum(3)
    return [maps], model_state


def edge(colours, axis, *, first):
    """(b, class): the first pixel of a colour along an axis, or the one after its last."""
    line, side = colours.any(3 - axis), colours.shape[axis]
    return (jnp.argmax(line, 1) if first else side - jnp.argmax(line[:, ::-1], 1)).astype(jnp.float32)


def with_attention(params, model_state, images, train):
    """Attention to where the middle of what is blue lies, in the map for large objects only."""
    (maps,), _ = apply(params, model_state, images, train)
    blue = images[..., 0] * STD[0] + MEAN[0] > 0.75
    side = images.shape[1]
    x, y = (((edge(blue[..., None], a, first=True) + edge(blue[..., None], a, first=False)) / 2)[:, 0] for a in (2, 1))
    attention = []
    for n in (4, 8, 16):
        cells = jnp.arange(n)
        here = (cells[:, None] == (y * n / side).astype(int)[:, None, None]) & (
            cells == (x * n / side).astype(int)[:, None, None]
        )
        attention.append(jnp.where(here & blue.any((1, 2))[:, None, None] & (n == 4), 4.0, -9.0)[..., None])
    return [maps | {"attention": attention}], model_state


@pytest.fixture(scope="module")
def whole():
    config = Config(data=Data(crop_px=(127, 127)), test=Test(batch=2, top_k=4, max_pairs=8))
    return Predictor(CornerNet(), apply, {}, {}, config, NAMES)


@pytest.fixture(scope="module")
def saccade():
    test = Test(batch=1, top_k=4, max_pairs=4, saccade=Saccade(view_px=(48, 63), max_crops=3, crop_batch=1))
    config = Config(model=Model(detector="cornernet_saccade"), data=Data(crop_px=(63, 63)), test=test)
    return Predictor(CornerNetSaccade(), with_attention, {}, {}, config, NAMES)


def picture(height=101, width=131):
    return draw(height, width, BLUE, GREEN)


def test_corners_lie_where_those_of_the_boxes_do(whole):
    image = picture()
    evidence, found = find_evidence(whole, image), whole(image[..., ::-1])
    np.testing.assert_allclose(found.boxes, [BLUE, GREEN], atol=1e-3)
    for corners, ends in ((evidence.top_left, slice(0, 2)), (evidence.bottom_right, slice(2, 4))):
        np.testing.assert_array_equal(corners.classes, [0, 1])
        np.testing.assert_allclose(corners.points, np.array([BLUE, GREEN])[:, ends], atol=1e-3)
        np.testing.assert_allclose(corners.heat, 1 / (1 + np.exp(-np.array(LOGITS))), rtol=1e-5)
        np.testing.assert_allclose(corners.tags, TAGS)
    assert evidence.attention.shape == (0, 101, 131)
    assert evidence.crops.shape == (0, 4)


@pytest.mark.parametrize("scales", [(0.5, 1.0), (2.0, 0.5)])
def test_corners_of_resized_images_are_in_pixels_of_the_original(whole, scales):
    config = dataclasses.replace(whole.config, test=dataclasses.replace(whole.config.test, scales=scales))
    evidence = find_evidence(Predictor(CornerNet(), apply, {}, {}, config, NAMES), picture())
    np.testing.assert_allclose(evidence.top_left.points, np.array([BLUE, GREEN])[:, :2], atol=2)
    np.testing.assert_allclose(evidence.bottom_right.points, np.array([BLUE, GREEN])[:, 2:], atol=2)


def test_faint_corners_are_left_out(whole, monkeypatch):
    monkeypatch.setattr(overlays, "LEAST_HEAT", 0.95)
    evidence = find_evidence(whole, picture())
    assert len(evidence.top_left.points) == len(evidence.bottom_right.points) == 0
    assert pairs(evidence, whole(picture()[..., ::-1]), tag_distance=0.5) == [None, None]


def test_the_corners_of_a_box_are_found_again(whole):
    image = picture()
    evidence, found = find_evidence(whole, image), whole(image[..., ::-1])
    assert pairs(evidence, found, tag_distance=0.5) == [(0, 0), (1, 1)]
    other = evidence._replace(bottom_right=evidence.bottom_right._replace(tags=np.array([1.0, -1.0], np.float32)))
    assert pairs(other, found, tag_distance=0.5) == [(0, 0), None]
    elsewhere = evidence._replace(bottom_right=evidence.bottom_right._replace(looks=np.array([0, 1])))
    assert pairs(elsewhere, found, tag_distance=0.5) == [(0, 0), None]
    moved = dataclasses.replace(found, boxes=found.boxes + np.array([[0, 0, 0, 9], [0, 0, 0, 0]], np.float32))
    assert pairs(evidence, moved, tag_distance=0.5) == [None, (1, 1)]
    assert pairs(evidence, dataclasses.replace(found, classes=found.classes[::-1]), tag_distance=0.5) == [None, None]


def test_saccades_looks_are_in_pixels_of_the_image(saccade):
    image = picture(200, 260)
    evidence, found = find_evidence(saccade, image), saccade(image[..., ::-1])
    assert len(evidence.crops) >= 1
    assert np.bincount(evidence.top_left.looks).size == 2 + len(evidence.crops)
    middle = np.array([(BLUE[0] + BLUE[2]) / 2, (BLUE[1] + BLUE[3]) / 2])
    assert ((evidence.crops[:, :2] < middle) & (middle < evidence.crops[:, 2:])).all(1).any()
    views = evidence.top_left.looks < 2  # a crop may cut an object
    blue = evidence.top_left.classes == 0
    assert (views & blue).sum() == 2
    np.testing.assert_allclose(evidence.top_left.points[views & blue], [BLUE[:2]] * 2, atol=6)
    assert evidence.attention.shape == (3, 200, 260)
    assert evidence.attention[1:].max() < 0.01
    rows, columns = np.nonzero(evidence.attention[0] > 0.9)
    assert rows.min() <= middle[1] <= rows.max()
    assert columns.min() <= middle[0] <= columns.max()
    assert np.ptp(rows) < 80
    assert len([pair for pair in pairs(evidence, found.above(0.5), tag_distance=0.5) if pair]) >= 1


def test_evidence_in_an_image_of_another_size(saccade):
    evidence = find_evidence(saccade, picture(200, 260))
    larger = evidence.scaled(520, 600)
    np.testing.assert_allclose(larger.crops, evidence.crops * (2, 3, 2, 3))
    np.testing.assert_allclose(larger.top_left.points, evidence.top_left.points * (2, 3))
    assert larger.attention.shape == (3, 600, 520)
    np.testing.assert_array_equal(larger.attention[:, ::3, ::2], evidence.attention)
    assert evidence.scaled(260, 200) is evidence


def test_what_a_detector_does_not_have(whole, saccade):
    assert available(whole) == ("corners", "tags")
    assert available(saccade) == ("corners", "tags", "attention", "crops")
    check_overlays(saccade, available(saccade))
    with pytest.raises(InputError, match=r"cornernet has no attention to draw; it has: corners, tags$"):
        check_overlays(whole, ["corners", "attention"])
    config = Config(data=Data(crop_px=(63, 63)))
    colours = Predictor(colour_detector.DETECTOR, colour_detector.apply, colour_detector.WEIGHTS, {}, config, NAMES)
    with pytest.raises(InputError, match=r"has no corners to draw; it has: nothing$"):
        check_overlays(colours, ["corners"])
    check_overlays(colours, [])


def test_every_kind_is_drawn_over_the_boxes(saccade):
    image = picture(200, 260)
    evidence, found = find_evidence(saccade, image), saccade(image[..., ::-1]).above(0.5)
    plain = overlays.draw(image, found, None, ())
    pictures = [overlays.draw(image, found, evidence, (kind,)) for kind in overlays.KINDS]
    for i, one in enumerate([*pictures, overlays.draw(image, found, evidence, overlays.KINDS)]):
        assert one.shape == image.shape
        for other in [plain, *pictures[:i]]:
            assert (one != other).any()
    np.testing.assert_array_equal(overlays.draw(image, found, evidence, ()), plain)
