"""Crops and their way back against the recorded numbers of CornerNet-Saccade."""

import functools

import jax
import numpy as np
import pytest

from cornerjax.detectors.cornernet_saccade.windows import (
    Windows,
    crop_windows,
    cut_crops,
    placements,
    to_image,
    view_locations,
)

SIDE, CELLS = 255, 64


@pytest.fixture(scope="module")
def recorded(golden):
    return golden("post/saccade.npz")


@functools.partial(jax.jit, static_argnames="side")
def cut(images, index, windows, side=SIDE):
    return cut_crops(images, index, windows, side=side)


@jax.jit
def back(boxes, scales, offsets):
    return to_image(boxes, scales, offsets, side=SIDE, cells=CELLS)


def cut_all(image, windows):
    """All crops of one image."""
    return np.asarray(cut(image[None], np.zeros(len(windows.start), np.int32), windows))


def test_crops_match_the_original(recorded):
    image = recorded["prep_image_u8_chw"].transpose(1, 2, 0)
    windows = crop_windows(recorded["prep_locs"], *image.shape[:2], side=SIDE)
    np.testing.assert_array_equal(windows.offset, recorded["prep_offsets"])
    crops = cut_all(image, windows).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(crops[..., ::3, ::3], recorded["prep_images"], atol=5e-7)
    np.testing.assert_allclose(crops.sum((1, 2, 3), dtype=np.float64), recorded["prep_images_sum_f64"], rtol=1e-6)


@pytest.mark.parametrize(("run", "stage"), [("one", 0), ("one", 1), ("two", 0), ("two", 1), ("two", 2)])
def test_crops_of_every_stage_match_the_original(golden, run, stage):
    image = golden("e2e/cornernet_squeeze.npz")["image"]  # the same one
    recorded = golden("e2e/saccade_stages.npz")
    windows = crop_windows(recorded[f"{run}.locations.{stage}_f64"], *image.shape[:2], side=SIDE)
    np.testing.assert_array_equal(windows.offset, recorded[f"{run}.offsets.{stage}"])
    sums = cut_all(image, windows).sum((1, 2, 3), dtype=np.float64)
    np.testing.assert_allclose(sums, recorded[f"{run}.crops_sum_f64.{stage}"], rtol=2e-7)


def test_views_match_the_original(golden):
    views = view_locations(240, 320, (192, 255))
    expected = golden("e2e/saccade_stages.npz")["one.locations.0_f64"]
    np.testing.assert_array_equal(views, expected)
    assert views.dtype == expected.dtype == np.float32


def test_float32_decides_how_many_pixels_a_view_takes():
    view = view_locations(100, 122, (255,))
    assert crop_windows(view, 100, 122, side=SIDE).size.tolist() == [[100, 122]]
    assert crop_windows(view.astype(np.float64), 100, 122, side=SIDE).size.tolist() == [[100, 120]]  # 121.99, halved


def test_every_crop_is_of_its_own_image():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 60, 70, 3), np.uint8)
    sizes, index = [(60, 70), (41, 33), (50, 64)], np.array([2, 0, 1, 2], np.int32)
    where = np.array([[10, 60, 2], [59, 2, 1.3], [40, 30, 3.7], [25, 32, 0.8]])
    windows = [crop_windows(row[None], *sizes[i], side=SIDE) for row, i in zip(where, index, strict=True)]
    together = cut(images, index, Windows(*map(np.concatenate, zip(*windows, strict=True))))
    for crop, i, window in zip(together, index, windows, strict=True):
        height, width = sizes[i]
        np.testing.assert_array_equal(crop, cut_all(images[i, :height, :width], window)[0])


def test_a_window_without_a_part_of_the_image_is_black():
    image = np.full((40, 50, 3), 255, np.uint8)
    beside, tiny = [500.0, 20.0, 4.0], [20.0, 20.0, 400.0]
    windows = crop_windows(np.array([beside, [-300.0, -300.0, 4.0], tiny, [20.0, 25.0, 4.0]]), 40, 50, side=SIDE)
    crops = cut_all(image, windows)
    assert not crops[:3].any()
    assert crops[3].max() == 1
    assert not cut_all(image, Windows(*np.zeros((5, 2, 2), np.int32))).any()
    for part in placements(windows, np.ones(4), nominal=False):
        assert np.isfinite(part).all()


def test_boxes_go_back_as_in_the_original(recorded):
    boxes, offsets = recorded["remap_in"][..., :4], recorded["remap_offsets"]
    none = np.zeros((3, 2), np.int32)
    windows = Windows(none, none, none, none, offset=offsets)
    scales, offsets = placements(windows, recorded["remap_scales"], nominal=True)
    found = back(boxes, scales, offsets)
    np.testing.assert_allclose(found, recorded["remap_out"][..., :4], rtol=0, atol=2e-5)


def test_boxes_go_back_the_way_that_the_pixels_came():
    windows = crop_windows(np.array([[30.0, 100.0, 1.7], [70.0, 3.0, 0.9]]), 80, 111, side=SIDE)
    scales, offsets = placements(windows, np.array([1.7, 0.9]), nominal=False)
    first, last = windows.corner[:, ::-1], (windows.corner + windows.resized)[:, ::-1]
    edges = np.concatenate([first, last], 1)[:, None] * (CELLS / SIDE)
    found = back(edges.astype(np.float32), scales, offsets)
    parts = np.concatenate([windows.start[:, ::-1], (windows.start + windows.size)[:, ::-1]], 1)
    np.testing.assert_allclose(found[:, 0], parts, atol=1e-4)
