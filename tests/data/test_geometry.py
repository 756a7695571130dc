"""Moves, mirrors and clips of everything that an object has."""

import numpy as np
import pytest

from cornerjax.data.geometry import Affine, clipped, fitted, mirrored, moved, typed
from cornerjax.keypoints import Objects

AFFINE = Affine(np.array([2, 3], np.float32), np.array([-1, 5], np.float32))


def objects():
    return {
        "boxes": np.array([[1, 2, 4, 9], [0, 0, 3, 3]], np.float32),
        "classes": np.array([7, 8], np.int32),
        "extreme_points": np.array([[[2, 2], [1, 5], [3, 9], [4, 6]], [[1, 0], [0, 1], [2, 3], [3, 2]]], np.float32),
        "weight": np.array([0.5, 0.25], np.float32),
    }


def test_a_move_takes_boxes_and_points_along_and_leaves_the_rest():
    there = moved(objects(), AFFINE)
    assert there["boxes"].tolist() == [[1, 11, 7, 32], [-1, 5, 5, 14]]
    assert there["extreme_points"][0].tolist() == [[3, 11], [1, 20], [5, 32], [7, 23]]
    assert there["boxes"].dtype == there["extreme_points"].dtype == np.float32
    for name in ("classes", "weight"):
        np.testing.assert_array_equal(there[name], objects()[name])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_everything_is_computed_in_the_precision_of_what_is_given(dtype):
    given = typed(objects(), dtype)
    for found in (moved(given, AFFINE), mirrored(given, 60), clipped(given, (9, 9), to_last_pixel=True)):
        assert found["boxes"].dtype == found["extreme_points"].dtype == dtype
        assert found["weight"].dtype == np.float32
    third = moved(given, Affine(np.full(2, 1 / 3), np.zeros(2)))
    np.testing.assert_array_equal(third["boxes"], given["boxes"] * dtype(1 / 3))


def back(affine):
    return Affine(1 / affine.scale, -affine.shift / affine.scale)


@pytest.mark.parametrize("i", range(4))
def test_a_square_is_fitted_as_by_the_original(golden, i):
    """And goes back as there, where predictions do; the original solves for the way back, rounding otherwise."""
    recorded = golden("targets/centernet_z_geometry.npz")
    width, height = recorded[f"aff{i}_out"].tolist()
    side = float(recorded[f"aff{i}_scale"].ravel()[0])
    found = fitted(tuple(recorded[f"aff{i}_center"].tolist()), side, (height, width))
    found, names = (back(found), ("pts_out", "transform_preds")) if recorded[f"aff{i}_inv"] else (found, ("pts_out",))
    expected = recorded[f"aff{i}_f64"]
    np.testing.assert_allclose(np.column_stack([np.diag(found.scale), found.shift]), expected, rtol=1e-15, atol=0)
    points = moved({"tip_points": recorded[f"aff{i}_pts"].astype(np.float64)[:, None]}, found)["tip_points"][:, 0]
    for name in names:
        np.testing.assert_allclose(points, recorded[f"aff{i}_{name}_f64"], rtol=1e-13, err_msg=name)


def test_two_moves_are_one():
    after = Affine(np.array([0.5, 4], np.float32), np.array([3, -2], np.float32))
    one, two = moved(objects(), AFFINE.then(after)), moved(moved(objects(), AFFINE), after)
    np.testing.assert_allclose(one["boxes"], two["boxes"])


def test_mirrored_boxes_lie_on_mirrored_pixels():
    image = np.zeros((12, 60), np.uint8)
    image[2:9, 0:10] = 1
    box = mirrored({"boxes": np.array([[0, 2, 10, 9]], np.float32)}, 60)["boxes"][0].astype(int)
    x1, y1, x2, y2 = box.tolist()
    assert image[:, ::-1][y1:y2, x1:x2].all()
    assert image.sum() == (x2 - x1) * (y2 - y1)


def test_the_originals_mirrored_boxes_lie_a_pixel_beside():
    assert mirrored({"boxes": np.array([[0, 2, 10, 9]], np.float32)}, 60, minus_one=True)["boxes"].tolist() == [
        [49, 2, 59, 9]
    ]


@pytest.mark.parametrize("minus_one", [False, True])
def test_mirroring_twice_is_nothing_and_swaps_left_and_right_once(minus_one):
    once = mirrored(objects(), 10, minus_one=minus_one)
    last = 9 if minus_one else 10
    assert once["extreme_points"][0].tolist() == [[last - 2, 2], [last - 4, 6], [last - 3, 9], [last - 1, 5]]
    twice = mirrored(once, 10, minus_one=minus_one)
    for name, values in objects().items():
        np.testing.assert_array_equal(twice[name], values)


def test_clip_drops_what_is_left_without_area_with_all_its_fields():
    boxes = np.array([[-5, 2, 200, 9], [-9, 2, 0, 9], [3, 30, 9, 50]], np.float32)
    points = boxes.reshape(3, 2, 2)
    given: Objects = {"boxes": boxes, "classes": np.arange(3), "tip_points": points}
    kept = clipped(given, (20, 10))
    assert kept["boxes"].tolist() == [[0, 2, 10, 9]]
    assert kept["classes"].tolist() == [0]
    assert kept["tip_points"].tolist() == [[[0, 2], [10, 9]]]
    assert clipped(given, (20, 10), to_last_pixel=True)["boxes"].tolist() == [[0, 2, 9, 9]]
    assert clipped(given, (5, 8), first_px=(3, 1))["boxes"].tolist() == [[1, 3, 9, 8]]
