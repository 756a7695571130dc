"""Recorded training crops, and losses that were recorded from values gathered at the cells of the objects."""

import re

import jax
import jax.numpy as jnp
import numpy as np
from recorded import near, nhwc

from cornerjax.data.crop import Draws
from cornerjax.data.geometry import mirrored
from cornerjax.ops.pixels import STD, normalise
from cornerjax.validation import replaced


def cropped(detector, recorded, i, config, boxes, **points):
    """The network's input that a recorded image becomes, and its objects in it: cropped and mirrored as was drawn.

    Args:
        recorded: a file of targets/.
        i: of the image.
        boxes: with classes from 1 behind.
        points: of the objects.
    Returns: pixels, objects, and the configuration with the crop's size.
    """
    scale, x, y, flip = recorded["draws_value_f64"][4 * i : 4 * i + 4].tolist()
    size = tuple(recorded["cfg_input_size"].tolist())
    config = replaced(config, {"data.crop_px": size, "legacy": {"lost_odd_side": True, "clip_to_last_pixel": True}})
    order, none = np.arange(3, dtype=np.int32), np.zeros(3, np.float32)
    draws = Draws(scale, (int(x), int(y)), flip > 0.5, order, none, none, np.zeros(9))
    objects = {"boxes": boxes[:, :4], "classes": boxes[:, 4].astype(np.int32) - 1, **points}
    picture, objects, *_ = detector.crop(recorded[f"image{i}"], objects, draws, config)
    if draws.flip:
        picture, objects = picture[:, ::-1], mirrored(objects, size[1], minus_one=True)
    return picture, objects, config


def same_pixels(picture, expected):
    """A training crop and some of the normalised pixels that were recorded of it; returns all of its own, normalised.

    Args:
        expected: (3, h, w), of every few rows and columns.
    """
    ours = np.asarray(normalise(picture.astype(np.float32) / 255)).transpose(2, 0, 1)
    rows, columns = (-(-whole // part) for whole, part in zip(ours.shape[1:], expected.shape[1:], strict=True))
    grey = np.abs(ours[:, ::rows, ::columns] - expected) * STD[:, None, None] * 255
    assert grey.max() < 1.01  # another version of OpenCV rounds otherwise
    return ours


def same_crop(picture, recorded, i):
    """One of the recorded training crops: every eighth pixel, and the sum of all."""
    ours = same_pixels(picture, recorded["xs_sub"][i])
    if "xs_sum_f64" in recorded:
        apart = abs(ours.sum(dtype=np.float64) - recorded["xs_sum_f64"][i]) / ours.size
        assert apart * STD.mean() * 255 < 0.05  # grey levels


def same_targets(detector, objects, recorded, i, config, *, within=1e-7):
    """The training targets of one of the recorded images.

    Args:
        within: how near offsets are.
    """
    encoded = detector.encode(objects, config)
    heats, (_, w) = detector.render(encoded, config, np), detector.map_size(config)
    np.testing.assert_array_equal(encoded["valid"], recorded["tag_mask"][i])
    for keypoint in detector.keypoints:
        point = keypoint.name
        cells = encoded[f"{point}_cells"]
        np.testing.assert_array_equal(cells[:, 1] * w + cells[:, 0], recorded[f"{point}_ind"][i])
        if keypoint.offset:
            near(encoded[f"{point}_off"], recorded[f"{point}_off"][i], rtol=0, atol=within)
        want = np.zeros(recorded[f"{point}_heat__shape"], np.float32)
        want.flat[recorded[f"{point}_heat__idx"]] = recorded[f"{point}_heat__val"]
        near(heats[f"{point}_heat"].transpose(2, 0, 1), want[i], atol=1e-6)


def gathered_loss(detector, config, recorded):
    """The parts of a loss of recorded values, whose gradients are compared here.

    Tags and offsets were recorded as they are gathered; maps are made here that have them in their cells.

    Args:
        recorded: of a case in a file of losses/, without its name.
    """
    stacks, mask = int(recorded["stacks"]), recorded["gt_tag_mask"].astype(bool)
    b, n = mask.shape
    cells = np.stack(np.meshgrid(np.arange(n), np.arange(1)), -1).reshape(1, n, 2).repeat(b, 0).astype(np.int32)
    targets = {"valid": mask}
    for keypoint in detector.keypoints:
        name = keypoint.name
        targets |= {f"{name}_heat": nhwc(recorded[f"gt_{name}_heat"]), f"{name}_cells": cells}
        if keypoint.offset:
            targets[f"{name}_off"] = recorded[f"gt_{name}_off"]
        h, w = targets[f"{name}_heat"].shape[1:3]

    def spread(values):  # one object a cell, in the first row
        return jnp.zeros((b, h, w, values.shape[2])).at[:, 0, :n].set(values)

    gathered = [
        {
            key.rpartition(".")[0].removeprefix("out_"): value
            for key, value in recorded.items()
            if key.startswith("out_") and key.endswith(f".{i}")
        }
        for i in range(stacks)
    ]
    targets = jax.tree.map(jnp.asarray, targets)

    @jax.jit
    def losses(gathered):
        outputs = [
            {
                name: jnp.moveaxis(value, 1, 3) if name.endswith("heat") else spread(value)
                for name, value in maps.items()
            }
            for maps in gathered
        ]
        parts = detector.loss(outputs, targets, config)
        return parts["total"], parts

    (total, parts), slopes = jax.value_and_grad(losses, has_aux=True)(jax.tree.map(jnp.asarray, gathered))
    near(total, recorded["total"][0], rtol=1e-5)
    for i, maps in enumerate(slopes):
        for name, slope in maps.items():
            near(slope, recorded[f"grad_{name}.{i}"], rtol=1e-5, atol=1e-7, err_msg=f"{name} {i}")
    return parts


def case_of(recorded, case, terms):
    """What a file of losses/ has of a case.

    Args:
        terms: a pattern, of the terms that are wanted.
    """
    return {
        key.removeprefix(f"{case}_"): value
        for key, value in recorded.items()
        if re.match(rf"{case}_(gt|out|grad|total|stacks|{terms})", key)
    }
