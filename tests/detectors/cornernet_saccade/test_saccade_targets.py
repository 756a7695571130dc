"""CornerNet-Saccade's targets against the recorded ones, and host drawing against device drawing."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cornerjax.data.crop import draw
from cornerjax.detectors.cornernet_saccade.crop import crop_around_reference
from cornerjax.detectors.cornernet_saccade.options import SaccadeConfig, SaccadeData, SaccadeLegacy
from cornerjax.detectors.cornernet_saccade.targets import encode_saccade, render_saccade
from cornerjax.legacy import switched

DATA = SaccadeData(crop_px=(255, 255))
ORIGINAL = switched(SaccadeLegacy(), on=True)
SIZES = ((16, 16), (32, 32), (64, 64))
encode = partial(
    encode_saccade,
    map_size=(64, 64),
    crop_px=DATA.crop_px,
    max_objects=128,
    iou=0.5,
    attention_px=DATA.attention_px,
    attention_sizes=SIZES,
)
render = partial(render_saccade, num_classes=80, map_size=(64, 64), attention_sizes=SIZES)


def objects_of(boxes, overlap=None):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    objects = {"boxes": boxes, "classes": np.arange(len(boxes), dtype=np.int32)}
    return objects if overlap is None else objects | {"overlap": np.array(overlap, np.float32)}


def dense(recorded, name):
    array = np.zeros(recorded[f"{name}__shape"], np.float32)
    array.flat[recorded[f"{name}__idx"]] = recorded[f"{name}__val"]
    return array


def uniform(value, low, high):
    """The number in [0, 1) that gives a recorded randint(low, high)."""
    return (value - low + 0.5) / (high - low)


def recorded_draws(recorded):
    """Draws.own for both images: the ranges of the numbers around the reference are worked out from its box."""
    draws = recorded["draws_value_f64"].tolist()
    x1, y1, x2, y2 = recorded["boxes0"][0, :4] * (draws[1] / np.float32(23.61))
    near = [draws[2]]
    for first, last, (before, after, middle) in ((x1, x2, draws[3:6]), (y1, y2, draws[6:9])):
        at = (first + last) // 2
        near += [uniform(before, 0, 15), uniform(after, 0, 15), uniform(middle, at - before, at + after + 1)]
    inside = 9  # of the 10 boxes of the first image; a draw of 0 is the first of any number
    yield [uniform(draws[0], 0, inside), uniform(draws[1], 16, 33), *near]
    yield [uniform(draws[9], 0, 4), uniform(draws[10], 16, 33), draws[11], *[0] * 6]


def test_crop_and_targets_match_the_original(golden):
    recorded = golden("targets/cornernet_saccade.npz")
    for i, own in enumerate(recorded_draws(recorded)):
        image, boxes = recorded[f"image{i}"], recorded[f"boxes{i}"]
        height, width = image.shape[:2]
        draws = draw(np.random.default_rng(0), height, width, DATA)
        draws = dataclasses.replace(draws, own=np.array(own, float))
        objects = {"boxes": boxes[:, :4], "classes": boxes[:, 4].astype(np.int32) - 1}
        crop, objects, *_ = crop_around_reference(image, objects, draws, SaccadeConfig(data=DATA, legacy=ORIGINAL))
        difference = crop[::3, ::3].transpose(2, 0, 1).astype(int) - recorded["xs_uint8"][i]
        assert abs(difference).max() <= 1

        encoded = encode(objects, shared_ends=True)
        maps = render(encoded, xp=np)
        np.testing.assert_array_equal(encoded["valid"], recorded["tag_mask"][i])
        for corner in ("tl", "br"):
            flat = encoded[f"{corner}_cells"][:, 1] * 64 + encoded[f"{corner}_cells"][:, 0]
            np.testing.assert_array_equal(flat, recorded[f"{corner}_ind"][i])
            np.testing.assert_array_equal(encoded[f"{corner}_off"], recorded[f"{corner}_off"][i])
            want = dense(recorded, f"{corner}_heat")[i].transpose(1, 2, 0)
            np.testing.assert_allclose(maps[f"{corner}_heat"], want, atol=1e-6)
            np.testing.assert_array_equal(maps[f"{corner}_heat"] == 1, want == 1)
            want = 1 - dense(recorded, f"inv_{corner}_valid")[i].transpose(1, 2, 0)
            np.testing.assert_array_equal(maps[f"{corner}_valid"], want)
        for level in range(3):
            np.testing.assert_array_equal(maps[f"attention_{level}"][..., 0], dense(recorded, f"att.{level}")[i, 0])


@pytest.mark.parametrize("name", ["attmask", "attmask_edge"])
def test_attention_matches_the_original(golden, name):
    recorded = golden("augment/crop_and_saccade.npz")
    maps = render(encode(objects_of(recorded[f"{name}_boxes"][:, :4]), shared_ends=True), xp=np)
    for level in range(3):
        np.testing.assert_array_equal(maps[f"attention_{level}"][..., 0], recorded[f"{name}{level}"])


@pytest.mark.parametrize(
    ("side", "shared", "apart"),
    [
        (16, [2], [2]),
        (32, [1, 2], [2]),
        (32.001, [1], [1]),
        (96, [0, 1], [1]),
        (96.001, [0], [0]),
        (254, [0], [0]),
    ],
)
def test_an_object_at_the_end_of_a_range_is_in_one_map_or_two(side, shared, apart):
    for shared_ends, levels in ((True, shared), (False, apart)):
        encoded = encode(objects_of([[0, 0, 5, side]]), shared_ends=shared_ends)
        assert np.flatnonzero(encoded["attended"][0]).tolist() == levels


def test_small_and_cut_objects_are_ignored_but_attended():
    boxes = [[8, 8, 24, 20], [100, 100, 115.9, 110], [100.9, 40, 116, 50], [200, 200, 254, 254], [60, 8, 90, 90]]
    objects = objects_of(boxes, overlap=[0.51, 1, 1, 0.5, 1])
    encoded = encode(objects)
    assert encoded["valid"][:6].tolist() == [True, True, True, False, False, False]
    assert encoded["ignored"][:6].tolist() == [False, False, False, True, True, False]
    assert encoded["classes"][:5].tolist() == [0, 2, 4, 1, 3]  # 15.1 px from 100.9 to 116: whole pixels count
    assert encoded["attended"].sum(1)[:6].tolist() == [1, 1, 1, 1, 1, 0]

    maps = render(encoded, xp=np)
    for corner, cell in (("tl", (25, 25)), ("br", (27, 29))):
        assert maps[f"{corner}_valid"][*cell, 1] == 0
        assert maps[f"{corner}_heat"][..., [1, 3]].max() == 0
        assert maps[f"{corner}_valid"][..., [0, 2, 4]].min() == 1
        assert (maps[f"{corner}_heat"] == 1).sum() == 3
    radius = encoded["radii"][4]
    assert radius > 1
    assert (maps["tl_valid"][..., 3] == 0).sum() == (2 * radius + 1) ** 2


def test_without_an_overlap_all_objects_are_whole():
    boxes = [[0, 0, 20, 20], [30, 30, 90, 60]]
    without, whole = encode(objects_of(boxes)), encode(objects_of(boxes, overlap=[1, 1]))
    jax.tree.map(np.testing.assert_array_equal, without, whole)


def crowded(n):
    corners = np.random.default_rng(0).uniform(0, 250, (n, 2, 2)).astype(np.float32)
    boxes = np.concatenate([corners.min(1), corners.max(1)], 1)
    boxes[::3, 2:] = boxes[::3, :2] + 9
    return objects_of(np.minimum(boxes, 254), overlap=np.linspace(0.2, 1, n))


@pytest.mark.parametrize("n", [0, 1, 12])
def test_host_and_device_draw_the_same(n):
    encoded = encode(crowded(n), max_objects=15)
    host, device = render(encoded, xp=np), jax.jit(partial(render, xp=jnp))(encoded)
    names = [f"{corner}_{kind}" for corner in ("tl", "br") for kind in ("heat", "valid")]
    shapes = dict.fromkeys(names, (64, 64, 80)) | {f"attention_{i}": (*size, 1) for i, size in enumerate(SIZES)}
    for maps in (host, device):
        assert {name: (m.shape, m.dtype) for name, m in maps.items()} == {
            name: (shape, np.float32) for name, shape in shapes.items()
        }
    for name in shapes:
        np.testing.assert_allclose(host[name], device[name], atol=1e-6)
        np.testing.assert_array_equal(host[name] == 1, device[name] == 1)
    assert (host["tl_heat"] == 1).sum() == encoded["valid"].sum()
    assert (host["tl_valid"] == 0).any() == encoded["ignored"].any()


def test_form():
    n, int32 = 7, np.dtype(np.int32)
    encoded = encode(crowded(4), max_objects=n)
    forms: dict[str, tuple[tuple[int, ...], np.dtype]] = dict.fromkeys(("tl_cells", "br_cells"), ((n, 2), int32))
    forms |= dict.fromkeys(("tl_off", "br_off"), ((n, 2), np.dtype(np.float32)))
    forms |= dict.fromkeys(("classes", "radii"), ((n,), int32)) | {"att_cells": ((n, 3, 2), int32)}
    forms |= dict.fromkeys(("valid", "ignored"), ((n,), np.dtype(bool))) | {"attended": ((n, 3), np.dtype(bool))}
    assert {name: (values.shape, values.dtype) for name, values in encoded.items()} == forms


def test_where_room_is_short_ignored_objects_are_left_out_first():
    few, all_of_them = encode(crowded(12), max_objects=5), encode(crowded(12))
    positives = int(all_of_them["valid"].sum())
    assert 2 < positives < 12
    assert few["valid"].tolist() == [True] * min(positives, 5) + [False] * (5 - min(positives, 5))
    for name, values in few.items():
        np.testing.assert_array_equal(values, all_of_them[name][:5])


def test_a_crop_that_is_not_square_and_larger():
    sizes: dict[str, Any] = {"map_size": (96, 128), "attention_sizes": ((24, 32), (48, 64), (96, 128))}
    boxes = [[300, 10, 508, 381], [0, 350, 31, 380]]
    encoded = encode(objects_of(boxes), crop_px=(383, 511), attention_px=((96, 400), (32, 96), (0, 32)), **sizes)
    maps = render(encoded, xp=np, **sizes)
    assert np.argwhere(maps["attention_0"][..., 0]).tolist() == [[12, 25]]
    assert not maps["attention_1"].any()
    assert np.argwhere(maps["attention_2"][..., 0]).tolist() == [[91, 3]]
    assert np.argwhere(maps["br_heat"] == 1).tolist() == [[95, 7, 1], [95, 127, 0]]
