"""Targets against the recorded numbers of CornerNet-Lite, and host drawing against device drawing."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cornerjax import targets
from cornerjax.data.crop import random_crop, stretch
from cornerjax.data.geometry import Affine, clipped, moved
from cornerjax.detectors.tags import CORNERS
from cornerjax.keypoints import Keypoint

encode = partial(targets.encode_keypoints, keypoints=CORNERS)
render = partial(targets.render_keypoints, keypoints=CORNERS)


@pytest.mark.parametrize(("kind", "repository"), [("exact", "lite"), ("legacy", "extremenet")])
@pytest.mark.parametrize("iou", [0.3, 0.5, 0.7])
def test_gaussian_radius(golden, kind, repository, iou):
    recorded = golden("targets/gaussian_radius.npz")
    height, width = recorded["hw"].T.astype(np.float64)
    ours = targets.gaussian_radius(height, width, iou, kind=kind)
    np.testing.assert_array_equal(ours, recorded[f"{repository}_iou{iou}_f64"])  # they are cut off to whole cells


def test_a_centre_on_the_border_of_a_cell_lies_in_the_one_behind_it():
    """Which float32 would miss: the centre of this box is cell 16 on a map of 128."""
    crop = Affine(np.full(2, 511 / 408), np.zeros(2))
    objects = moved({"boxes": np.array([[1.0, 1.0, 101.0, 101.0]]), "classes": np.zeros(1, np.int32)}, crop)
    middle = Keypoint("ct", "centre", lambda o: (o["boxes"][:, :2] + o["boxes"][:, 2:]) / 2)
    encoded = targets.encode_keypoints(
        objects, [middle], map_size=(128, 128), crop_px=(511, 511), max_objects=1, iou=0.7
    )
    assert encoded["ct_cells"].tolist() == [[16, 16]]


def test_gaussian_radius_refuses_another_kind():
    with pytest.raises(ValueError, match="kind must be 'exact' or 'legacy', got 'exakt'"):
        targets.gaussian_radius(np.ones(1), np.ones(1), 0.3, kind="exakt")


@pytest.mark.parametrize("xp", [np, jnp], ids=["numpy", "jax"])
def test_draw_gaussians(golden, xp):
    recorded = golden("targets/draw_gaussian.npz")
    x, y, radii = xp.asarray(recorded["cxyr"].astype(np.int32)).T
    n, map_size = len(radii), recorded["all"].shape
    draw = partial(targets.draw_gaussians, xp.stack([x, y], 1), radii, map_size=map_size, xp=xp)
    one_map = draw(xp.zeros(n, np.int32), xp.ones(n, bool), num_classes=1)
    np.testing.assert_allclose(one_map[..., 0], recorded["all"], atol=1e-6)
    each = draw(xp.arange(n).astype(np.int32), xp.arange(n) != 4, num_classes=n)
    for i in range(n):
        want = recorded[f"map{i}"] if i != 4 else np.zeros(map_size)  # object 4 is not valid
        np.testing.assert_allclose(each[..., i], want, atol=1e-6)
        np.testing.assert_array_equal(each[..., i] == 1, want == 1)


def assert_same_targets(encoded, recorded, i, map_size):
    np.testing.assert_array_equal(encoded["valid"], recorded["tag_mask"][i])
    heats = render(encoded, num_classes=80, map_size=map_size, xp=np)
    for corner in ("tl", "br"):
        flat = encoded[f"{corner}_cells"][:, 1] * map_size[1] + encoded[f"{corner}_cells"][:, 0]
        np.testing.assert_array_equal(flat, recorded[f"{corner}_ind"][i])
        np.testing.assert_array_equal(encoded[f"{corner}_off"], recorded[f"{corner}_off"][i])
        want = np.zeros((2, 80, *map_size), np.float32)
        want.flat[recorded[f"{corner}_heat__idx"]] = recorded[f"{corner}_heat__val"]
        np.testing.assert_allclose(heats[f"{corner}_heat"].transpose(2, 0, 1), want[i], atol=1e-6)
        np.testing.assert_array_equal(heats[f"{corner}_heat"].transpose(2, 0, 1) == 1, want[i] == 1)


@pytest.mark.parametrize("name", ["cornernet", "cornernet_squeeze"])
def test_targets_match_the_original(golden, name):
    recorded = golden(f"targets/{name}.npz")
    crop_px, map_size = (511, 511), tuple(recorded["cfg_output_size"].tolist())
    for i in range(2):
        image, objects = recorded[f"image{i}"], recorded[f"boxes{i}"]
        image, affine = stretch(image, crop_px)
        step = -(-511 // recorded["xs_uint8"].shape[-1])  # the record keeps every step-th pixel
        difference = image[::step, ::step].transpose(2, 0, 1).astype(int) - recorded["xs_uint8"][i]
        assert abs(difference).max() <= 1
        objects = moved({"boxes": objects[:, :4], "classes": objects[:, 4].astype(np.int32) - 1}, affine)
        objects = clipped(objects, crop_px, to_last_pixel=True)
        encoded = encode(objects, map_size=map_size, crop_px=crop_px, max_objects=128, iou=0.3)
        assert_same_targets(encoded, recorded, i, map_size)


@pytest.mark.parametrize("i", [0, 1])
def test_targets_match_the_first_repository_which_pads_to_a_square(golden, i):
    recorded = golden("targets/cornernet_eccv18.npz")
    crop_px, map_size, objects = (511, 511), (128, 128), recorded[f"boxes{i}"]
    image = recorded["image1"] if i else np.zeros((240, 320, 3), np.uint8)  # the first one's pixels are not kept
    height, width = image.shape[:2]
    square, centre = (max(height, width),) * 2, (width // 2, height // 2)
    image, cut = random_crop(image, scale=1.0, centre=centre, crop_px=square, lost_odd_side=True)
    image, stretched = stretch(image, crop_px)
    if i:
        assert abs(image[::4, ::4].transpose(2, 0, 1).astype(int) - recorded["xs_uint8"][0]).max() <= 1
    objects = {"boxes": objects[:, :4], "classes": objects[:, 4].astype(np.int32) - 1}
    objects = clipped(moved(moved(objects, cut), stretched), crop_px, to_last_pixel=True)
    encoded = encode(objects, map_size=map_size, crop_px=crop_px, max_objects=128, iou=0.3)
    assert_same_targets(encoded, recorded, i, map_size)


def crowded(n: int) -> dict[str, np.ndarray]:
    corners = np.random.default_rng(0).uniform(0, 126, (n, 2, 2)).astype(np.float32)
    boxes = np.concatenate([corners.min(1), corners.max(1)], 1)
    return {"boxes": boxes, "classes": np.arange(n, dtype=np.int32) % 3}


@pytest.mark.parametrize("kind", ["exact", "legacy"])
def test_host_and_device_draw_the_same(kind):
    encoded = encode(crowded(9), map_size=(32, 32), crop_px=(127, 127), max_objects=12, iou=0.3, kind=kind)
    draw = partial(render, num_classes=3, map_size=(32, 32))
    host, device = draw(encoded, xp=np), jax.jit(partial(draw, xp=jnp))(encoded)
    for name in ("tl_heat", "br_heat"):
        np.testing.assert_allclose(host[name], device[name], atol=1e-6)
        np.testing.assert_array_equal(host[name] == 1, device[name] == 1)
        assert (host[name] == 1).sum() == 9


def test_more_objects_than_there_is_room_for_are_left_out():
    few = encode(crowded(3), map_size=(32, 32), crop_px=(127, 127), max_objects=3, iou=0.3)
    many = encode(crowded(9), map_size=(32, 32), crop_px=(127, 127), max_objects=3, iou=0.3)
    assert many["valid"].tolist() == [True] * 3
    np.testing.assert_array_equal(many["classes"], few["classes"])


def test_no_objects():
    encoded = encode(crowded(0), map_size=(32, 32), crop_px=(127, 127), max_objects=2, iou=0.3)
    assert not encoded["valid"].any()
    assert not render(encoded, num_classes=3, map_size=(32, 32), xp=np)["tl_heat"].any()


def test_a_keypoint_of_other_points_without_offsets_and_with_a_wider_gaussian():
    tips = Keypoint("tip", "tip", lambda objects: objects["tip_points"][:, 0], offset=False, sigma=1 / 3)
    objects = crowded(2) | {"tip_points": np.array([[[0, 0]], [[127, 126.9]]], np.float32)}
    encoded = targets.encode_keypoints(
        objects, (*CORNERS, tips), map_size=(32, 32), crop_px=(127, 127), max_objects=3, iou=0.3
    )
    assert encoded["tip_cells"].tolist() == [[0, 0], [31, 31], [0, 0]]  # a point may lie where the crop ends
    assert "tip_off" not in encoded
    heats = targets.render_keypoints(encoded, (tips,), num_classes=3, map_size=(32, 32), xp=np)
    assert set(heats) == {"tip_heat"}
    radius, side = encoded["radii"][0], 2 * encoded["radii"][0] + 1
    assert radius >= 1
    np.testing.assert_allclose(heats["tip_heat"][0, 1, 0], np.exp(-1 / (2 * (side / 3) ** 2)), rtol=1e-6)


def test_a_point_where_the_crop_ends_is_in_the_last_cell():
    objects = {"boxes": np.array([[100, 100, 127, 127]], np.float32), "classes": np.zeros(1, np.int32)}
    encoded = encode(objects, map_size=(32, 32), crop_px=(127, 127), max_objects=1, iou=0.3)
    assert encoded["br_cells"].tolist() == [[31, 31]]
    np.testing.assert_allclose(encoded["br_off"], [[1, 1]], atol=1e-5)
