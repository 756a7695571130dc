"""Training crops, targets and losses of CenterNet points against recordings of the original."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recorded import nhwc
from recorded_targets import same_pixels

from cornerjax.data.crop import Draws
from cornerjax.detectors.centernet_points.detector import CenterNetPoints
from cornerjax.detectors.centernet_points.options import PointConfig
from cornerjax.validation import replaced

POINTS = CenterNetPoints()
RELEASED = {
    "mirror_minus_one": True,
    "clip_to_last_pixel": True,
    "clip_to_last_cell": True,
    "lost_odd_side": True,
    "first_objects": True,
}  # of the switches those that targets depend on


@pytest.mark.parametrize("case", ["normal", "one_object", "no_object", "batch1"])
def test_losses_and_their_gradients_match_the_original(golden, case):
    recorded = {
        key.removeprefix(f"{case}_"): value
        for key, value in golden("losses/centernet_z_ctdet.npz").items()
        if key.startswith(f"{case}_")
    }
    names = {"ct_heat": "hm", "ct_size": "wh", "ct_off": "reg"}
    stacks = sum(key.startswith("out_hm.") for key in recorded)
    outputs = [{ours: nhwc(recorded[f"out_{theirs}.{i}"]) for ours, theirs in names.items()} for i in range(stacks)]
    width = recorded["gt_hm"].shape[3]
    y, x = np.divmod(recorded["gt_ind"].astype(np.int32), np.int32(width))
    targets = {
        "valid": recorded["gt_reg_mask"].astype(bool),
        "ct_heat": nhwc(recorded["gt_hm"]),
        "ct_cells": np.stack([x, y], -1),
        "ct_off": recorded["gt_reg"],
        "sizes": recorded["gt_wh"],
    }

    targets = jax.tree.map(jnp.asarray, targets)

    @jax.jit
    def losses(outputs):
        parts = POINTS.loss(outputs, targets, PointConfig())
        return parts["total"], parts

    (total, parts), slopes = jax.value_and_grad(losses, has_aux=True)(outputs)
    np.testing.assert_allclose(total, recorded["total"], rtol=1e-5)
    for ours, theirs, weight in (("focal", "hm", 1), ("size", "wh", 0.1), ("offset", "off", 1)):
        np.testing.assert_allclose(parts[ours], weight * recorded[f"{theirs}_loss"], rtol=1e-5)
    for i, of_stack in enumerate(slopes):
        for ours, theirs in names.items():
            near = recorded[f"grad_{theirs}.{i}"]
            np.testing.assert_allclose(of_stack[ours], nhwc(near), rtol=1e-5, atol=1e-7, err_msg=f"{ours} {i}")


def test_losses_per_object_count_sizes_and_offsets_twice():
    rng = np.random.default_rng(0)
    outputs = [{f"ct_{kind}": rng.standard_normal((1, 4, 4, 2)).astype(np.float32) for kind in ("heat", "size", "off")}]
    targets = {
        "valid": np.array([[True, False]]),
        "ct_heat": np.zeros((1, 4, 4, 2), np.float32),
        "ct_cells": np.ones((1, 2, 2), np.int32),
        "ct_off": np.zeros((1, 2, 2), np.float32),
        "sizes": np.full((1, 2, 2), 3, np.float32),
    }
    outputs, targets = jax.tree.map(jnp.asarray, (outputs, targets))
    by_coordinate, by_object = (
        POINTS.loss(outputs, targets, replaced(PointConfig(), {"loss.mean_of": mean}))
        for mean in ("coordinates", "objects")
    )
    for part in ("size", "offset"):
        np.testing.assert_allclose(by_object[part], 2 * by_coordinate[part], rtol=1e-3)
    assert by_object["focal"] == by_coordinate["focal"]


COCO = [*range(1, 12), *range(13, 26), 27, 28, *range(31, 45), *range(46, 66), 67, 70, *range(72, 83), *range(84, 91)]


def objects_of(annotations):
    """x, y, w, h, COCO category -> objects, as the original reads them."""
    x, y, w, h, category = annotations.astype(np.float64).T
    boxes = np.stack([x, y, x + w, y + h], 1)
    return {"boxes": boxes, "classes": np.array([COCO.index(int(c)) for c in category], np.int32)}


@pytest.mark.parametrize(
    ("file", "case"),
    [
        *(("centernet_z_ctdet", case) for case in ("val0", "val1", "train0", "train1")),
        *(("centernet_z_ctdet_aug", case) for case in ("flip", "flip_beyond", "beyond", "many", "rect")),
    ],
)
def test_training_crops_and_targets_match_the_original(golden, file, case):
    """From a whole image and its annotations, by the recorded draws. Crops of the original's other kind, "shift", and
    sizes for each class, "catspec", were recorded too; there are none here."""
    recorded = golden(f"targets/{file}.npz")
    index = int(recorded.get(f"{case}_image_index", case[-1:] if case[-1:].isdigit() else 0))
    picture = recorded[f"image{index}"]
    annotations = recorded.get(f"anns{index}_f64", recorded.get(f"anns{index}"))
    _, *size = (int(side) for side in recorded[f"{case}_input_shape"])
    random = not case.startswith("val")
    values = dict(zip(recorded[f"{case}_draw_names"].tolist(), recorded[f"{case}_draws_f64"].tolist(), strict=False))
    flip = values.get("random", 1.0) < 0.5
    if f"{case}_c" in recorded:
        (x, y), scale = recorded[f"{case}_c"].tolist(), float(recorded[f"{case}_s"]) / max(picture.shape[:2])
    else:
        scale, x, y, _ = recorded[f"{case}_draws_f64"].tolist()
        x = picture.shape[1] - x - 1 if flip else x
    draws = Draws(
        scale=scale,
        centre=(int(picture.shape[1] - x - 1 if flip else x), int(y)),  # recorded after the flip
        flip=flip,
        jitter_order=np.arange(3, dtype=np.int32),
        jitter=np.zeros(3, np.float32),
        lighting=np.zeros(3, np.float32),
        own=np.zeros(9),
    )
    config = replaced(
        PointConfig(),
        {"model.num_classes": 80, "data.crop_px": tuple(size), "data.random_crop": random, "legacy": RELEASED},
    )
    crop = POINTS.crop(picture, objects_of(annotations), draws, config)
    same_pixels(crop.image, recorded[f"{case}_input_sub"])

    encoded = POINTS.encode(crop.objects, config)
    h, w = POINTS.map_size(config)
    kept = recorded[f"{case}_reg_mask"].astype(bool)  # the original leaves the places of others empty
    n = kept.sum()
    assert encoded["valid"].sum() == n
    flat = encoded["ct_cells"][:, 1] * w + encoded["ct_cells"][:, 0]
    np.testing.assert_array_equal(flat[:n], recorded[f"{case}_ind"][kept])
    within = 1e-7 if f"anns{index}_f64" in recorded else 1e-5  # annotations that were recorded in float32 are rounded
    np.testing.assert_allclose(encoded["sizes"][:n], recorded[f"{case}_wh"][kept], rtol=0, atol=within)
    np.testing.assert_allclose(encoded["ct_off"][:n], recorded[f"{case}_reg"][kept], rtol=0, atol=within)
    heat = POINTS.render(encoded, config, np)["ct_heat"].transpose(2, 0, 1)
    want = np.zeros((80, h, w), np.float32)
    want.flat[recorded[f"{case}_hm__idx"]] = recorded[f"{case}_hm__val"]
    np.testing.assert_allclose(heat, want, atol=1e-6)
