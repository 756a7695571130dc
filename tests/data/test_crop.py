"""The random crop against the recorded one of CornerNet-Lite, and its draws."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from cornerjax.config import Config, Data
from cornerjax.data.crop import Cropped, crop_at, crop_example, draw, fit_border, random_crop
from cornerjax.data.geometry import Affine, mirrored, moved
from cornerjax.data.records import Record
from cornerjax.legacy import Legacy


def test_fit_border(golden):
    recorded = golden("augment/random_crop.npz")
    assert [fit_border(*pair) for pair in recorded["get_border_in"].tolist()] == recorded["get_border_out"].tolist()


@pytest.mark.parametrize("case", range(5))
def test_random_crop(golden, case):
    recorded = golden("augment/random_crop.npz")
    draws = {name: recorded[f"crop{case}_draw_{name}"].item() for name in ("scale_f64", "ctx", "cty")}
    crop, affine = random_crop(
        recorded["image"],
        scale=draws["scale_f64"],
        centre=(draws["ctx"], draws["cty"]),
        crop_px=tuple(recorded[f"crop{case}_view"].tolist()),
        lost_odd_side=True,
    )
    boxes = moved({"boxes": recorded["boxes"][:, :4]}, affine)["boxes"]
    np.testing.assert_array_equal(crop, recorded[f"crop{case}_image"])
    np.testing.assert_allclose(boxes, recorded[f"crop{case}_boxes"][:, :4], atol=2e-5)


def test_draws_lie_in_their_ranges():
    data = Data(crop_border_px=16)
    many = [draw(np.random.default_rng(i), 100, 20, data) for i in range(400)]
    assert {d.scale for d in many} == set(data.crop_scales)
    assert {d.centre[0] for d in many} == set(range(8, 12))  # the border 16 halved to 8
    assert min(d.centre[1] for d in many) == 16
    assert max(d.centre[1] for d in many) == 83
    assert {d.flip for d in many} == {False, True}
    assert len({tuple(d.jitter_order) for d in many}) == 6
    assert 0.39 < max(abs(d.jitter).max() for d in many) <= 0.4
    assert 0.08 < np.std([d.lighting for d in many]) < 0.12


def test_an_option_that_is_off_leaves_the_other_draws():
    draws = [dataclasses.asdict(draw(np.random.default_rng(0), 90, 90, Data(flip=flip))) for flip in (True, False)]
    assert draws[0].pop("flip")
    assert not draws[1].pop("flip")
    for name, value in draws[0].items():
        np.testing.assert_array_equal(value, draws[1][name])


@pytest.mark.parametrize("random", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (3, 200), (500, 40)])
def test_an_image_of_any_size_gives_a_crop(random, size):
    config = Config(data=Data(crop_px=(63, 95), random_crop=random))
    height, width = size
    image = np.full((height, width, 3), 200, np.uint8)
    objects = {"boxes": np.array([[0, 0, width, height]], np.float32), "classes": np.zeros(1, np.int32)}
    for i in range(5):
        draws = draw(np.random.default_rng(i), height, width, config.data)
        crop, kept, *_ = crop_example(image, objects, draws, config)
        assert crop.shape == (63, 95, 3)
        assert (kept["boxes"] >= 0).all()
        assert (kept["boxes"] <= [95, 63, 95, 63]).all()
        assert len(kept["classes"]) == len(kept["boxes"])


def test_the_crop_says_where_its_pixels_lie_in_the_image():
    config = Config(data=Data(crop_px=(63, 95), crop_scales=(0.6,), crop_border_px=10))
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (120, 150, 3), np.uint8)
    boxes = np.array([[40, 30, 100.5, 90]], np.float32)
    objects = {"boxes": boxes, "classes": np.zeros(1, np.int32), "tip_points": boxes.reshape(1, 2, 2)}
    for i in range(5):
        draws = draw(np.random.default_rng(i), 120, 150, config.data)
        _, shown, affine, _ = crop_example(image, objects, draws, config)
        expected = np.clip(boxes * np.tile(affine.scale, 2) + np.tile(affine.shift, 2), 0, [95, 63, 95, 63])
        np.testing.assert_allclose(shown["boxes"], expected, atol=1e-4)
        np.testing.assert_allclose(shown["tip_points"], expected.reshape(1, 2, 2), atol=1e-4)


@pytest.mark.parametrize("lost", [False, True])
def test_an_odd_side_is_filled_or_loses_its_last_column_as_in_the_original(lost):
    image = np.full((40, 50, 3), 200, np.uint8)
    config = Config(data=Data(crop_px=(31, 31), crop_scales=(1.0,)), legacy=Legacy(lost_odd_side=lost))
    draws = dataclasses.replace(draw(np.random.default_rng(0), 40, 50, config.data), centre=(20, 18))
    crop, *_ = crop_example(image, {"boxes": np.zeros((0, 4), np.float32)}, draws, config)
    assert crop[:-1, :-1].all()
    assert bool(crop[:, -1].any()) == bool(crop[-1].any()) == (not lost)


@pytest.mark.parametrize("legacy", [False, True])
def test_boxes_end_where_the_crop_does_or_before_its_last_pixel_as_in_the_original(legacy):
    config = Config(data=Data(crop_px=(31, 63), random_crop=False), legacy=Legacy(clip_to_last_pixel=legacy))
    image = np.zeros((62, 126, 3), np.uint8)
    objects = {"boxes": np.array([[0, 0, 126, 62]], np.float32)}
    _, shown, *_ = crop_example(image, objects, draw(np.random.default_rng(0), 62, 126, config.data), config)
    assert shown["boxes"].tolist() == [[0, 0, 62, 30] if legacy else [0, 0, 63, 31]]


@pytest.mark.parametrize("by_itself", [False, True])
def test_an_example_is_mirrored_once_by_its_crop_or_after_it(by_itself):
    """A crop that mirrors by itself is left as it is."""
    boxes = np.array([[10, 20, 30, 50]], np.float32)
    record = Record(1, Path("a.png"), 60, 80, boxes, np.zeros(1, np.int32))
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    config, asked = Config(), set()

    def crop(image, objects, draws, config):
        asked.add(draws.flip)
        if by_itself and draws.flip:
            image, objects = image[:, ::-1], mirrored(objects, image.shape[1])
        return Cropped(image, objects, Affine(np.ones(2, np.float32), np.zeros(2, np.float32)), mirrored=by_itself)

    for position in range(8):
        draws, cut, objects = crop_at(position, record, image, config, crop)
        assert not (by_itself and draws.flip)
        is_mirrored = draws.flip or not np.array_equal(cut, image)
        assert objects["boxes"].tolist() == ([[50, 20, 70, 50]] if is_mirrored else boxes.tolist())
    assert asked == {False, True}
