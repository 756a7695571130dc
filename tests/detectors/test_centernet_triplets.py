"""CenterNet triplets against recordings of the original, and what its rule of centres does by itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recorded import (
    NOISE,
    RECORDINGS,
    boxes_of,
    by_torch_name,
    compare_maps,
    compare_training_step,
    dense,
    image,
    nhwc,
    opened,
    published,
    weights,
)
from recorded_corners import ORIGINAL_LOSS
from recorded_targets import case_of, cropped, gathered_loss, same_crop, same_targets

from cornerjax.data.crop import random_crop, stretch
from cornerjax.data.geometry import clipped, moved
from cornerjax.detectors import apply_preset
from cornerjax.detectors.base import View
from cornerjax.detectors.centernet_triplets import CENTRE, CenterNetTriplets, TripletConfig, confirmed, drop_outside
from cornerjax.detectors.rows import Candidates
from cornerjax.detectors.selection import clip_to_images
from cornerjax.inference.whole_image import cell_px, decode
from cornerjax.targets import draw_gaussians
from cornerjax.validation import replaced

NAME = "centernet_triplets"
TRIPLETS = CenterNetTriplets()
CONFIG = replaced(TripletConfig(), {"model.num_classes": 80})
RECORDED = pytest.mark.parametrize("layout", [0, 1], ids=["104", "52"])


def inside(network, images, *, train):
    """The recorded maps inside the network, by our names."""
    features = network.backbone(images, train=train)
    (first, levels), last = features[0], features[-1].map
    pools = {name: getattr(network, name)[-1].pool(last, train=train) for name in ("tl", "br", "ct")}
    return {"hourglass": levels[-1], "features": first, **pools}


@pytest.mark.slow
@RECORDED
def test_the_published_networks_give_the_original_maps_and_boxes(golden, layout):
    recording, stack = RECORDINGS[NAME][layout], 1 - layout
    recorded, boxes = golden(f"models/{recording}_eval.npz"), golden(f"decode/{recording}_test_dets.npz")
    forward, pixels = opened(NAME, inside, layout=layout), image(recorded)
    outputs, within, found = forward(*weights(NAME, layout), pixels)
    names = {"hourglass": "kps.0", "features": "cnvs.0"}
    names |= {point: f"{point}_cnvs.{stack}" for point in ("tl", "br", "ct")}
    maps = by_torch_name(NAME, outputs, layout=layout) | {names[key]: value for key, value in within.items()}
    compare_maps(maps, recorded, NOISE[f"{recording}_eval"])
    centres = np.column_stack([found.boxes[0, -70:, :2], found.classes[0, -70:], found.extra["centre_scores"][0, -70:]])
    off = np.abs(centres[:, None] - boxes["test_center"][0]).max(-1)
    assert (off.min(1) < 1e-3).sum() >= 68  # what lies at the last place depends on the last digit
    pairs = (np.asarray(found.scores[0]) >= 0).sum()
    assert abs(pairs - int(boxes["n_valid"][0])) <= 1
    *_, found = forward(*weights(NAME, layout, tweak=str(boxes["tweak"])), pixels)  # which pairs many corners
    same_pairs_and_centres(found, 0, boxes["tweaked_dets"][0], boxes["tweaked_center"][0], within=2e-3)


@pytest.mark.slow
@RECORDED
def test_a_training_step_of_the_published_networks_is_the_originals(golden, layout):
    recording = RECORDINGS[NAME][layout]
    maps, step = golden(f"models/{recording}_train.npz"), golden(f"train_step/{recording}_grads.npz")
    config = published(NAME, layout, **ORIGINAL_LOSS)
    compare_training_step(NAME, config, targets_of(step), maps, step, layout=layout)


def targets_of(step):
    made = {"valid": step["gt_tag_mask"].astype(bool)}
    for point in ("tl", "br", "ct"):
        y, x = np.divmod(step[f"gt_{point}_ind"].astype(np.int32), np.int32(step[f"gt_{point}_heat__shape"][3]))
        made |= {
            f"{point}_heat": dense(step, f"gt_{point}_heat"),
            f"{point}_cells": np.stack([x, y], -1),
            f"{point}_off": step[f"gt_{point}_off"],
        }
    return made


def maps_of(recorded):
    names = [f"{point}_{kind}" for point in ("tl", "br", "ct") for kind in ("heat", "tag", "off")]
    return {name: jnp.asarray(nhwc(recorded[name])) for name in names if name in recorded}


def test_pairs_and_centres_match_the_original(golden):
    recorded = golden("decode/centernet_triplet.npz")
    config = replaced(TripletConfig(), {"legacy.non_peaks": True})
    found = jax.jit(lambda maps: TRIPLETS.decode([maps], config))(maps_of(recorded))
    for i in range(2):
        same_pairs_and_centres(found, i, recorded["dets"][i], recorded["center"][i], within=1e-4)


def same_pairs_and_centres(found, i, pairs, centres, *, within):
    pairs = pairs[pairs[:, 4] > -1]
    ours = np.column_stack([found.boxes[i], found.scores[i], found.extra["corner_scores"][i], found.classes[i]])
    ours = ours[ours[:, 4] > -1]
    assert len(ours) == len(pairs)
    off = np.abs(ours[:, None] - pairs).max(-1)
    np.testing.assert_allclose([off.min(0).max(), off.min(1).max()], 0, atol=within)
    ours = np.column_stack([found.boxes[i, -70:, :2], found.classes[i, -70:], found.extra["centre_scores"][i, -70:]])
    off = np.abs(ours[:, None] - centres).max(-1)
    np.testing.assert_allclose([off.min(0).max(), off.min(1).max()], 0, atol=within)


class Recorded(CenterNetTriplets):
    """Answers with recorded pairs and centres, in cells."""

    def __init__(self, pairs, centres):
        self.rows = [jnp.asarray(pairs), jnp.asarray(centres)]

    def decode(self, outputs, config):
        pairs, centres = self.rows
        none, nowhere = jnp.full(centres.shape[:2], -1.0), jnp.full(pairs.shape[:2], -1.0)
        rows = Candidates(
            pairs[..., :4],
            pairs[..., 4],
            pairs[..., 7].astype(jnp.int32),
            {"corner_scores": pairs[..., 5:7], "centre_scores": nowhere},
        )
        points = Candidates(
            jnp.tile(centres[..., :2], 2),
            none,
            centres[..., 2].astype(jnp.int32),
            {"corner_scores": jnp.stack([none, none], -1), "centre_scores": centres[..., 3]},
        )
        return jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), rows, points)


@pytest.mark.parametrize(
    ("file", "test", "top"),
    [
        ("centernet_triplet", {}, "top"),
        ("centernet_triplet_multi_scale", {"merge": True}, "top"),
        ("centernet_triplet_multi_scale", {}, "top_no_merge"),
    ],
    ids=["one scale", "merged", "not merged"],
)
def test_the_test_function_gives_the_same_boxes(golden, file, test, top):
    """From prescribed pairs and centres of each scale and its mirror image to the best hundred."""
    recorded = golden(f"post/{file}.npz")
    scales = tuple(recorded.get("scales_f64", np.ones(1)).tolist())
    places = [f".{i}" for i in range(len(scales))] if "raw.0" in recorded else [""]
    config = replaced(apply_preset(TripletConfig(), "released"), {"test": {"scales": scales, **test}})
    answers = [Recorded(recorded[f"raw{place}"], recorded[f"center{place}"]) for place in places]
    ours, expected = boxes_of(answers, config, recorded["image"]), recorded[top]
    assert ours.shape == expected.shape
    off = np.abs(ours[:, None] - expected).max(-1)
    np.testing.assert_allclose([off.min(0).max(), off.min(1).max()], 0, atol=2e-3)


def pair(box, score=0.6, label=0):
    one = np.float32
    return Candidates(
        np.array([[box]], one),
        np.array([[score]], one),
        np.array([[label]]),
        {"corner_scores": np.ones((1, 1, 2), one)},
    )


def centres(*points, labels=None):
    """points: x, y, score."""
    x, y, scores = np.array(points, np.float32).T
    boxes = np.tile(np.stack([x, y], 1), 2)[None]
    classes = np.array([labels or [0] * len(points)])
    return Candidates(boxes, np.full((1, len(points)), -1, np.float32), classes, {"centre_scores": scores[None]})


def score(box, *points, first=False, labels=None):
    return float(confirmed(pair(box), centres(*points, labels=labels), third_px=22_500.0, first=first)[0, 0])


def test_a_centre_confirms_a_box_in_its_middle_third_and_of_large_ones_in_the_middle_fifth():
    small, large = (0, 0, 150, 150), (0, 0, 151, 150)
    assert score(small, (51, 99, 0.9)) == pytest.approx((2 * 0.6 + 0.9) / 3)
    assert score(small, (49, 75, 0.9)) == score(small, (75, 101, 0.9)) == -1
    assert score(small, (50, 75, 0.9)) == -1  # the border is outside
    assert score(large, (61, 75, 0.9)) == pytest.approx((2 * 0.6 + 0.9) / 3)
    assert score(large, (59, 75, 0.9)) == -1


def test_of_several_centres_the_best_counts_or_the_first():
    middle = (0, 0, 30, 30), (15, 15, 0.3), (16, 14, 0.9)
    assert score(*middle) == pytest.approx((2 * 0.6 + 0.9) / 3)
    assert score(*middle, first=True) == pytest.approx((2 * 0.6 + 0.3) / 3)
    assert score(*middle, labels=[0, 1]) == pytest.approx((2 * 0.6 + 0.3) / 3)
    assert score(*middle, labels=[1, 1]) == -1
    assert score((0, 0, 30, 30), (15, 15, -1)) == -1


def test_boxes_that_reach_five_pixels_beyond_the_resized_image_are_dropped():
    ratios, sizes = np.array([[0.5, 0.5]], np.float32), np.array([[100.0, 60.0]], np.float32)
    view = View(0.5, False, np.zeros((1, 2), np.float32), ratios, sizes)
    kept = [(-9.9, 0, 50, 50), (0, 0, 109.9, 69.9)]
    dropped = [(-10, 0, 50, 50), (0, -10, 50, 50), (0, 0, 110, 50), (0, 0, 50, 70)]
    assert [float(drop_outside(pair(box), view).scores[0, 0]) for box in kept] == pytest.approx([0.6] * 2)
    assert [float(drop_outside(pair(box), view).scores[0, 0]) for box in dropped] == [-1] * 4


def test_boxes_go_back_into_the_image_and_are_dropped_as_by_the_original(golden):
    recorded = golden("decode/centernet_triplet.npz")
    (height, width), (top, _, left, _) = recorded["resc_sizes"][0].tolist(), recorded["resc_borders"][0]
    size = TRIPLETS.input_size(int(height), int(width), CONFIG.model)
    np.testing.assert_allclose(1 / recorded["resc_ratios"], [cell_px(size, 4)[::-1]], rtol=1e-6)
    borders, ratios, sizes = jnp.array([[left, top]]), jnp.ones((1, 2)), jnp.array([[width, height]])
    view, images = View(1.0, False, borders, ratios, sizes), jnp.zeros((1, *size, 3), jnp.uint8)
    nothing = np.zeros((1, 0, 4), np.float32)
    config = replaced(CONFIG, {"test.flip": False})
    (found,) = decode(Recorded(recorded["resc_in"], nothing), config, [{}], images, borders, ratios, sizes)
    found = clip_to_images(drop_outside(found, view), sizes, drop_empty=False)
    assert 10 < (recorded["resc_out"][0, :, 4] == -1).sum() < 30
    ours = np.column_stack([found.boxes[0], found.scores[0], found.extra["corner_scores"][0]])
    np.testing.assert_allclose(ours, recorded["resc_out"][0, :, :7], atol=1e-4)


def test_without_a_scale_of_1_the_nearest_gives_the_centres():
    config, box = replaced(TripletConfig(), {"test": {"scales": (0.5, 0.75), "top_k": 1}}), (0, 0, 30, 30)

    def rows(point):
        one, other = pair(box), centres(point)
        one.extra["centre_scores"] = np.full((1, 1), -1, np.float32)
        other.extra["corner_scores"] = np.zeros((1, 1, 2), np.float32)
        return jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), one, other)

    sizes = np.array([[100.0, 100.0]], np.float32)
    views = [View(scale, False, np.zeros((1, 2)), np.ones((1, 2)), sizes) for scale in (0.5, 0.75)]
    far, near = rows((15, 15, 0.1)), rows((15, 15, 0.9))
    found = TRIPLETS.combine([far, near], views, config)
    np.testing.assert_allclose(found.scores, [[0.7, 0.7]], rtol=1e-6)
    assert "centre_scores" not in found.extra


def test_centre_gaussians_are_wider(golden):
    recorded = golden("targets/draw_gaussian_delte5.npz")
    x, y, radii = recorded["cxyr"].astype(np.int32).T
    n, map_size = len(radii), recorded["delte5_map0"].shape
    drawn = draw_gaussians(
        np.stack([x, y], 1),
        radii,
        np.arange(n),
        np.ones(n, bool),
        num_classes=n,
        map_size=map_size,
        xp=np,
        sigma=CENTRE.sigma,
    )
    for i in range(n):
        np.testing.assert_allclose(drawn[..., i], recorded[f"delte5_map{i}"], atol=1e-6)


@pytest.mark.parametrize("i", [0, 1])
def test_targets_of_whole_images_match_the_original(golden, i):
    """Which are padded to a square there; from boxes in float32, so computed in float32 there, too."""
    recorded = golden("targets/centernet_triplet.npz")
    picture, boxes = recorded[f"image{i}"], recorded[f"boxes{i}"]
    height, width = picture.shape[:2]
    square, centre = (max(height, width),) * 2, (width // 2, height // 2)
    picture, cut = random_crop(picture, scale=1.0, centre=centre, crop_px=square, lost_odd_side=True)
    picture, stretched = stretch(picture, (511, 511))
    apart = picture[::4, ::4].transpose(2, 0, 1).astype(int) - recorded["xs_uint8"][i]
    assert np.abs(apart).max() <= 1  # another version of OpenCV rounds otherwise
    objects = {"boxes": boxes[:, :4], "classes": boxes[:, 4].astype(np.int32) - 1}
    objects = clipped(moved(moved(objects, cut), stretched), (511, 511), to_last_pixel=True)
    same_targets(TRIPLETS, objects, recorded, i, CONFIG)


@pytest.mark.parametrize("i", [0, 1, 2])
def test_random_crops_and_their_targets_match_the_original(golden, i):
    recorded = golden("targets/centernet_triplet_crop.npz")
    picture, objects, config = cropped(TRIPLETS, recorded, i, CONFIG, recorded[f"boxes{i}_f64"])
    same_crop(picture, recorded, i)
    same_targets(TRIPLETS, objects, recorded, i, config)


@pytest.mark.parametrize("case", ["normal", "one_object", "no_object", "one_image_empty"])
def test_losses_and_their_gradients_match_the_original(golden, case):
    recorded = case_of(golden("losses/centernet_triplet.npz"), case, "focal|pull|push|off")
    config = replaced(CONFIG, {"loss.group": float(len(recorded["gt_tag_mask"])), "legacy.push_itself": True})
    parts = gathered_loss(TRIPLETS, config, recorded)
    for ours, theirs in (("focal", "focal"), ("pull", "pull"), ("push", "push"), ("offset", "off")):
        np.testing.assert_allclose(parts[ours], recorded[f"{theirs}_term"][0], rtol=1e-5, atol=1e-7)
