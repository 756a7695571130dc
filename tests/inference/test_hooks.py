"""What a detector can add to the test procedure of whole images: fields of its rows, and steps of its own."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from colour_detector import NAMES, STRIDE, WEIGHTS, ColourDetector, apply, draw

from cornerjax.config import Test
from cornerjax.inference.predictor import Predictor

BLUE, GREEN = (8, 10, 30, 32), (34, 4, 50, 20)


def predict(detector, image, apply=apply, **test):
    config = dataclasses.replace(detector.defaults, test=Test(batch=1, **{"nms": "none", **test}))
    return Predictor(detector, apply, WEIGHTS, {}, config, NAMES)(image[..., ::-1])


def cells(pixels, side):
    """Pixels of an input in cells, as those of boxes are."""
    return pixels * np.float32(-(-side // STRIDE) / side)


def extreme_points(colours):
    """(b, class, 4, 2): the middle of the uppermost, leftmost, lowest and rightmost pixels of each colour, in cells."""
    _, height, width, _ = colours.shape
    x, y = jnp.arange(width)[None, None, :, None], jnp.arange(height)[None, :, None, None]
    points = []
    for at in (y, x, -y, -x):
        least = jnp.where(colours, at, height + width).min((1, 2), keepdims=True)
        edge = colours & (at == least)
        means = [(edge * (place + 0.5)).sum((1, 2)) / edge.sum((1, 2)) for place in (x, y)]
        points.append(jnp.stack([cells(means[0], width), cells(means[1], height)], -1))
    return jnp.stack(points, 2)


class WithExtras(ColourDetector):
    """Its rows have extreme points, a point far beyond the image, a number, and something that nobody is told."""

    extras = ("extreme_points", "far_points", "number")

    def decode(self, outputs, config):
        found = super().decode(outputs, config)
        extreme = jnp.pad(extreme_points(outputs[-1]["colours"]), ((0, 0), (0, 1), (0, 0), (0, 0)))
        far = found.boxes.reshape(*found.scores.shape, 2, 2)[:, :, 1:] + 1000
        number = jnp.tile(jnp.array([10, 11, 12]), (len(extreme), 1))
        hidden = jnp.zeros((len(extreme), 3))
        extra = {"extreme_points": extreme, "far_points": far, "number": number, "hidden": hidden}
        return found._replace(extra=extra)


@pytest.mark.parametrize("scales", [(1.0,), (2.0, 1.0)])
def test_points_of_a_row_are_mirrored_scaled_and_clipped_with_its_box(scales):
    """What is blue is far from symmetric: bumps on its upper and left sides. With flips, left and right are swapped."""
    image = draw(40, 60, BLUE)
    image[6:10, 12:16, 0], image[20:22, 4:8, 0] = 255, 255
    found = predict(WithExtras(), image, scales=scales, flip=True)
    assert len(found) == 2 * len(scales)
    np.testing.assert_allclose(found.boxes, [(4, 6, 30, 32)] * len(found), atol=0.5)
    top, left, bottom, right = (14, 6.5), (4.5, 21), (19, 31.5), (29.5, 21)
    for points in found.extra["extreme_points"]:
        np.testing.assert_allclose(points, [top, left, bottom, right], atol=0.5)
    far = sorted(found.extra["far_points"].tolist())  # a mirrored image ends on its left
    assert far == [[[0, 40]]] * len(scales) + [[[60, 40]]] * len(scales)
    assert set(found.extra) == {"extreme_points", "far_points", "number"}


@pytest.mark.parametrize("nms", ["none", "gaussian", "hard"])
@pytest.mark.parametrize("stale_rows", [False, True])
def test_fields_of_a_row_follow_its_box_through_sorting_and_suppression(nms, stale_rows):
    """Green, the second row, becomes the best; every second box is suppressed, or keeps half of its score and less."""

    class GreenFirst(WithExtras):
        def decode(self, outputs, config):
            found = super().decode(outputs, config)
            twice = found._replace(scores=found.scores * jnp.array([0.5, 1, 1]))
            second = twice._replace(
                scores=jnp.where(twice.scores > 0, twice.scores * 0.9, -1),
                extra=twice.extra | {"number": twice.extra["number"] + 100},
            )
            together = [jnp.concatenate(parts, 1) for parts in zip(twice[:3], second[:3], strict=True)]
            extra = {name: jnp.concatenate([twice.extra[name], second.extra[name]], 1) for name in twice.extra}
            return type(found)(*together, extra)

    detector = GreenFirst()
    detector.defaults = dataclasses.replace(
        detector.defaults, legacy=dataclasses.replace(detector.defaults.legacy, stale_rows=stale_rows)
    )
    found = predict(detector, draw(40, 60, BLUE, GREEN), nms=nms)
    kept = found.above(0.01)
    numbers = {"none": [11, 111, 10, 110], "gaussian": [11, 10, 111, 110], "hard": [11, 10]}[nms]
    assert kept.extra["number"].tolist() == numbers
    for number, box, label in zip(found.extra["number"], found.boxes, found.classes, strict=True):
        assert label == number % 10
        np.testing.assert_allclose(box, (BLUE, GREEN)[label], atol=1e-3)
    tops = kept.extra["extreme_points"][:, 0]
    np.testing.assert_allclose(tops, [((19, 10.5), (42, 4.5))[number % 10] for number in numbers], atol=1e-3)


def test_maps_of_the_mirrored_image_are_averaged_where_a_detector_wants_it():
    """Its network is half as sure of what lies in the right half. Without flips there is nothing to average."""

    def one_sided(params, model_state, images, train):
        (maps,), _ = apply(params, model_state, images, train=train)
        left = maps["colours"][:, :, : images.shape[2] // 2].any((1, 2))
        return [maps | {"scores": jnp.where(left | (maps["scores"] < 0), maps["scores"], maps["scores"] / 2)}], {}

    class Averaging(ColourDetector):
        def average_mirrored(self, outputs, mirrored, config):
            (maps,), (others,) = outputs, mirrored
            both = maps["colours"] & others["colours"][:, :, ::-1]  # nothing, unless they show the same
            return [{"colours": both, "scores": (maps["scores"] + others["scores"]) / 2}]

    image = draw(40, 60, blue=(8, 10, 20, 32), green=(40, 4, 52, 20))
    for detector, flip, scores in [
        (Averaging(), True, [0.75 * 0.9, 0.75 * 0.8]),
        (Averaging(), False, [0.9, 0.4]),
        (ColourDetector(), True, [0.9, 0.8, 0.45, 0.4]),
    ]:
        found = predict(detector, image, one_sided, flip=flip)
        np.testing.assert_allclose(found.scores, scores, rtol=1e-5)
        boxes = [(8, 10, 20, 32), (40, 4, 52, 20)]
        np.testing.assert_allclose(found.boxes, [boxes[label] for label in found.classes], atol=1e-3)


@pytest.mark.parametrize(("chosen", "mirrored"), [(0, False), (3, True)])
def test_a_detector_may_combine_the_views_itself(chosen, mirrored):
    """It takes one of four, at a scale of 1 or 0.5, and says where in the network's input its boxes lay."""
    told = []

    class Choosing(ColourDetector):
        extras = ("size", "in_input")

        def combine(self, candidates, views, config):
            told.append([(view.scale, view.mirrored) for view in views])
            found, view = candidates[chosen], views[chosen]
            corners = found.boxes.reshape(*found.scores.shape, 2, 2)
            in_input = corners * view.ratios[:, None, None] + view.borders[:, None, None]
            size = jnp.broadcast_to(view.sizes[:, None], (*found.scores.shape, 2))
            return found._replace(extra={"size": size, "in_input": in_input})

    found = predict(Choosing(), draw(40, 60, BLUE), scales=(1.0, 0.5), flip=True)
    assert told == [[(1.0, False), (1.0, True), (0.5, False), (0.5, True)]]
    assert len(found) == 1
    np.testing.assert_allclose(found.boxes, [BLUE], atol=1e-3)
    np.testing.assert_array_equal(found.extra["size"], [(60, 40)])
    # The image lies in the middle of 63 x 63 pixels, and half as large of 31 x 31; boxes are told of it unmirrored.
    border, scale = ((1, 11), 1) if chosen == 0 else ((0, 5), 0.5)
    expected = np.array(BLUE).reshape(1, 2, 2) * scale + border
    np.testing.assert_allclose(found.extra["in_input"][0], expected[0], atol=1e-3)
    assert told[0][chosen][1] == mirrored


@pytest.mark.parametrize("nms", ["none", "gaussian"])
@pytest.mark.parametrize("max_detections", [1, 2])
def test_a_detector_may_finish_the_boxes_that_are_left_and_they_are_sorted_again(nms, max_detections):
    """Blue, the best before, is put back behind green, which is there if two boxes are wanted."""

    class Finishing(WithExtras):
        def finish(self, found, config):
            assert config.test.max_detections == max_detections
            halved = jnp.where(found.classes == 0, found.scores / 2, found.scores)
            return found._replace(scores=jnp.where(found.scores < 0, -1, halved))

    found = predict(Finishing(), draw(40, 60, BLUE, GREEN), nms=nms, max_detections=max_detections)
    np.testing.assert_allclose(found.boxes, [GREEN, BLUE][-max_detections:], atol=1e-3)
    np.testing.assert_allclose(found.scores, [0.8, 0.45][-max_detections:], rtol=1e-5)
    assert found.extra["number"].tolist() == [11, 10][-max_detections:]
