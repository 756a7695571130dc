"""The random crop against the recorded one of CornerNet-Lite, and its draws."""

import dataclasses

import numpy as np
import pytest

from cornerjax.config import Config, Data
from cornerjax.data.crop import clip_objects, crop_example, draw, fit_border, flip_objects, random_crop


def test_fit_border(golden):
    recorded = golden("augment/random_crop.npz")
    assert [fit_border(*pair) for pair in recorded["get_border_in"].tolist()] == recorded["get_border_out"].tolist()


@pytest.mark.parametrize("case", range(5))
def test_random_crop(golden, case):
    recorded = golden("augment/random_crop.npz")
    draws = {name: recorded[f"crop{case}_draw_{name}"].item() for name in ("scale_f64", "ctx", "cty")}
    crop, boxes = random_crop(
        recorded["image"],
        recorded["boxes"][:, :4],
        scale=draws["scale_f64"],
        centre=(draws["ctx"], draws["cty"]),
        crop_px=tuple(recorded[f"crop{case}_view"].tolist()),
    )
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
    image = np.full((*size, 3), 200, np.uint8)
    objects = {"boxes": np.array([[0, 0, size[1], size[0]]], np.float32), "classes": np.zeros(1, np.int32)}
    for i in range(5):
        draws = draw(np.random.default_rng(i), *size, config.data)
        crop, kept = crop_example(image, objects, draws, config)
        assert crop.shape == (63, 95, 3)
        assert (kept["boxes"] >= 0).all()
        assert (kept["boxes"] <= [94, 62, 94, 62]).all()
        assert len(kept["classes"]) == len(kept["boxes"])


def test_clip_drops_what_is_left_without_area_with_all_its_fields():
    boxes = np.array([[-5, 2, 200, 9], [-9, 2, 0, 9], [3, 30, 9, 50]], np.float32)
    kept = clip_objects({"boxes": boxes, "classes": np.arange(3), "points": np.arange(6).reshape(3, 2)}, (20, 10))
    assert kept["boxes"].tolist() == [[0, 2, 9, 9]]
    assert kept["classes"].tolist() == [0]
    assert kept["points"].tolist() == [[0, 1]]


def test_flip_objects():
    objects = {"boxes": np.array([[1, 2, 4, 9]], np.float32)}
    flipped = flip_objects(objects, 10)
    assert flipped["boxes"].tolist() == [[5, 2, 8, 9]]
    np.testing.assert_array_equal(flip_objects(flipped, 10)["boxes"], objects["boxes"])
