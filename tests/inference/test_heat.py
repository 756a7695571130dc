"""Heat lies over what a network finds: it is hot where an image is blue (top-left corners) and green (bottom-right)."""

import colour_detector
import jax.numpy as jnp
import numpy as np
import pytest
from colour_detector import NAMES, draw
from jax import lax

from cornerjax.config import Data
from cornerjax.detectors.base import InputMaps, Inspection
from cornerjax.detectors.cornernet import CornerConfig, CornerNet, CornerTest
from cornerjax.detectors.cornernet_saccade.detector import CornerNetSaccade
from cornerjax.detectors.cornernet_saccade.options import Saccade, SaccadeConfig, SaccadeData, SaccadeTest
from cornerjax.inference.heat import LARGEST, find_heat, largest_in_blocks, over_pixels
from cornerjax.inference.predictor import Predictor
from cornerjax.ops.pixels import MEAN, STD

BLUE, GREEN = (8, 16, 64, 96), (70, 24, 112, 56)


def apply(params, model_state, images, train):
    colours = (images[..., :2] * STD[:2] + MEAN[:2] > 0.75).astype(jnp.float32)
    shape = cells(colours, 4).shape[:3]
    maps = {
        "tl_heat": logits(cells(colours[..., :1], 4) * np.array([0, 1], np.float32)),  # of the second class only
        "br_heat": logits(cells(colours[..., 1:], 4) * np.array([1, 0], np.float32)),
        **{f"{side}_tag": jnp.zeros((*shape, 1)) for side in ("tl", "br")},
        **{f"{side}_off": jnp.zeros((*shape, 2)) for side in ("tl", "br")},
    }
    return [maps], model_state


def with_attention(params, model_state, images, train):
    (maps,), _ = apply(params, model_state, images, train)
    blue = (images[..., :1] * STD[0] + MEAN[0] > 0.75).astype(jnp.float32)
    nothing = [jnp.full((len(images), n, n, 1), -9.0) for n in (8, 16)]
    return [maps | {"attention": [logits(cells(blue, 16)), *nothing]}], model_state


def cells(colours, stride):
    """The maximum of each cell."""
    return lax.reduce_window(colours, -jnp.inf, lax.max, (1, stride, stride, 1), (1, stride, stride, 1), "SAME")


def logits(hot):
    return jnp.where(hot > 0, 3.0, -9.0)


@pytest.fixture(scope="module")
def saccade():
    saccade = Saccade(view_px=(48, 63), max_crops=3, crop_batch=4)
    test = SaccadeTest(batch=1, top_k=4, max_pairs=4, saccade=saccade)
    config = SaccadeConfig(data=SaccadeData(crop_px=(63, 63)), test=test)
    return Predictor(CornerNetSaccade(), with_attention, {}, {}, config, NAMES)


def whole(**test):
    config = CornerConfig(data=Data(crop_px=(127, 127)), test=CornerTest(batch=2, top_k=4, max_pairs=8, **test))
    return Predictor(CornerNet(), apply, {}, {}, config, NAMES)


def check_lies_on(values, place, box, *, height, width, tolerance):
    """Hot in all of the box, cold everywhere else, but for a margin."""
    x1, y1, x2, y2 = place
    rows = ((np.arange(height) + 0.5 - y1) * values.shape[0] / (y2 - y1)).astype(int)
    columns = ((np.arange(width) + 0.5 - x1) * values.shape[1] / (x2 - x1)).astype(int)
    shown = values[rows[:, None], columns]
    inside, outside = np.zeros((2, height, width), bool)
    for mask, margin in ((inside, -tolerance), (outside, tolerance)):
        mask[max(box[1] - margin, 0) : box[3] + margin, max(box[0] - margin, 0) : box[2] + margin] = True
    np.testing.assert_allclose(shown[inside], 1 / (1 + np.exp(-3)), rtol=1e-5)
    assert shown[~outside].max() < 0.01


@pytest.mark.parametrize("scales", [(1.0,), (2.0,), (0.5, 1.0)])
def test_heat_lies_where_the_network_is_hot(scales):
    heat = find_heat(whole(scales=scales), draw(101, 131, BLUE, GREEN))
    assert list(heat.maps) == ["tl", "br"]
    for values, box in zip(heat.maps.values(), (BLUE, GREEN), strict=True):
        check_lies_on(values, heat.place, box, height=101, width=131, tolerance=5)
    assert heat.layers == {}
    assert heat.place[0] < 0 or heat.place[1] < 0  # the image lies in the middle of its padding


def test_heat_of_many_network_inputs_is_put_together(saccade):
    height, width = 200, LARGEST + 10  # too large for a cell a pixel
    heat = find_heat(saccade, draw(height, width, BLUE, GREEN))
    assert list(heat.layers) == ["attention"]
    assert {values.shape for values in (*heat.maps.values(), *heat.layers.values())} == {(100, 165)}
    np.testing.assert_array_equal(heat.place, [0, 0, 330, 200])
    for values, box in zip(heat.maps.values(), (BLUE, GREEN), strict=True):
        check_lies_on(values, heat.place, box, height=height, width=width, tolerance=28)  # a cell of the smallest view
    check_lies_on(heat.layers["attention"], heat.place, BLUE, height=height, width=width, tolerance=84)


def test_where_network_inputs_overlap_the_larger_heat_counts(monkeypatch):
    """Two inputs of 1 x 3 cells that show pixels 0 to 2 and 1 to 3; the layer has two maps."""
    predictor = whole()
    first, second = (
        {f"{name}_heat": jnp.log(jnp.float32(odds))[None, None, :, None] for name in ("tl", "br")}
        for odds in ([1, 3, 1], [1, 3, 4])
    )
    cell, starts = np.ones(2, np.float32), np.array([[0, 0], [1, 0]], np.float32)
    inputs = [InputMaps(first, cell, starts[0]), InputMaps(second, cell, starts[1])]
    layers = {"attention": np.array([[[0, 1, 0, 0]], [[0, 0.5, 0.5, 0]]], np.float32)}
    inspection = Inspection(inputs, layers, np.zeros((0, 4), np.float32))
    monkeypatch.setattr(predictor, "inspect", lambda image: inspection)
    heat = find_heat(predictor, np.zeros((1, 4, 3), np.uint8))
    np.testing.assert_allclose(heat.maps["tl"], [[0.5, 0.75, 0.75, 0.8]], rtol=1e-6)
    np.testing.assert_array_equal(heat.layers["attention"], [[0, 1, 0.5, 0]])
    np.testing.assert_array_equal(heat.place, [0, 0, 4, 1])


def test_heat_of_keypoints_of_any_name():
    detector = colour_detector.DETECTOR
    colours = Predictor(detector, colour_detector.apply, colour_detector.WEIGHTS, {}, detector.defaults, NAMES)
    heat = find_heat(colours, draw(63, 63, (8, 16, 24, 32)))
    assert heat.layers == {}
    np.testing.assert_array_equal(heat.place, [0, 0, 63, 63])
    ((y, x),) = np.argwhere(heat.maps["middle"] > 0.01)
    assert (heat.maps["middle"].shape, x, y) == ((16, 16), 16 * 16 // 63, 24 * 16 // 63)
    np.testing.assert_allclose(heat.maps["middle"][y, x], 0.9, rtol=1e-5)


def test_cells_over_pixels():
    of_input = InputMaps({}, np.array([2, 1.6], np.float32), np.array([-1, 1], np.float32))
    heat = np.array([[1, 2], [3, 4]], np.float32)
    expected = [[0, 0, 0, 0], [1, 2, 2, 0], [1, 2, 2, 0], [3, 4, 4, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(over_pixels(heat, of_input, 5, 4), expected)


def test_the_largest_of_blocks():
    pixels = np.array([[1, 0, 5], [0, 2, 0], [0, 0, 7]], np.float32)
    np.testing.assert_array_equal(largest_in_blocks(pixels, 2), [[2, 5], [0, 7]])
    np.testing.assert_array_equal(largest_in_blocks(pixels, 1), pixels)
