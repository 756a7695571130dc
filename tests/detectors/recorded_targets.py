"""Recorded training crops, and losses that were recorded from values gathered at the cells of the objects."""

import re

import jax
import jax.numpy as jnp
import numpy as np
from recorded import near, nhwc

from cornerjax.data.crop import random_crop, stretch
from cornerjax.data.geometry import clipped, mirrored, moved


def cropped(recorded, i, boxes, **points):
    """The objects of a recorded image in the network's input, and its size: cropped, stretched, mirrored as was drawn.

    Args:
        recorded: a file of targets/.
        i: of the image.
        boxes: with classes from 1 behind.
        points: of the objects.
    """
    scale, x, y, flip = recorded["draws_value_f64"][4 * i : 4 * i + 4].tolist()
    size = tuple(recorded["cfg_input_size"].tolist()) if "cfg_input_size" in recorded else (511, 511)
    picture, cut = random_crop(
        recorded[f"image{i}"], scale=scale, centre=(int(x), int(y)), crop_px=size, lost_odd_side=True
    )
    _, stretched = stretch(picture, size)
    objects = {"boxes": boxes[:, :4], "classes": boxes[:, 4].astype(np.int32) - 1, **points}
    objects = clipped(moved(moved(objects, cut), stretched), size, to_last_pixel=True)
    return mirrored(objects, size[1], minus_one=True) if flip > 0.5 else objects, size


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
