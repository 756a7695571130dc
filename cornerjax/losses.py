"""The losses of the corner detectors, over a whole batch."""

import functools
import operator
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from cornerjax.ops.gather import gather_cells
from cornerjax.ops.precision import precise

SIDES = ("tl", "br")


def focal(
    logits: Float[Array, "b h w c"],
    heat: Float[Array, "b h w c"],
    *,
    weight: Float[Array, "b h w c"] | None = None,
    corners: Float[Array, ""] | None = None,
    alpha: int = 2,
    beta: int = 4,
    clamp: float = 1e-4,
) -> Float[Array, ""]:
    """Focal loss of a heat map, divided by a number of corners.

    Args:
        heat: target in [0, 1]; cells that are exactly 1 are corners.
        weight: of each cell, 0 where it is ignored; without it all cells count.
        corners: those in the batch, of which these images may be a part; None: count_corners of these.
        alpha: the larger, the less do cells count that are nearly right.
        beta: the larger, the less do cells count that lie close to a corner.
        clamp: scores closer than this to 0 or 1 are moved there and get no gradient.
    Returns: the loss; with no corner in the batch the undivided sum.
    Source: CornerNet (Law and Deng 2018), section 3.2; CornerNet-Lite, core/models/py_utils/losses.py.
    """
    p = jnp.clip(jax.nn.sigmoid(precise(logits)), clamp, 1 - clamp)
    here = jnp.log(p) * (1 - p) ** alpha
    elsewhere = jnp.log(1 - p) * p**alpha * (1 - heat) ** beta
    terms = jnp.where(heat == 1, here, elsewhere)
    if weight is not None:
        terms = terms * weight
    return -terms.sum() / jnp.maximum(count_corners(heat, weight) if corners is None else corners, 1)


def count_corners(
    heat: Float[Array, "b h w c"], weight: Float[Array, "b h w c"] | None = None, *, count_ignored: bool = False
) -> Float[Array, ""]:
    """What the focal loss is divided by: the cells of a target that are exactly 1.

    Args:
        weight: of focal; ignored cells do not count.
        count_ignored: the original's form: they do.
    """
    corner = heat == 1
    if weight is not None:
        corner &= (weight > 0) | count_ignored  # Differs from CornerNet-Saccade, unless count_ignored.
    return corner.sum().astype(jnp.float32)


def pull_push(
    tl_tags: Float[Array, "b n"], br_tags: Float[Array, "b n"], valid: Bool[Array, "b n"], *, push_itself: bool = False
) -> tuple[Float[Array, "b"], Float[Array, "b"]]:
    """How far the two tags of an object differ, and how close the mean tags of different objects are, for each image.

    Args:
        valid: which of the n places hold an object.
        push_itself: the original's form. It adds 1e-4 to the number of objects and of pairs, and compares each object
            with itself too, taking off 1 / objects everywhere instead: a constant remains, 1.0002 for a single object.
    Returns: pull, the squared distance to the mean, over objects; push, max(0, 1 - difference), over ordered pairs.
        Both are 0 for an image without objects, push for one with a single object too.
    Source: CornerNet (Law and Deng 2018), section 3.3; CornerNet-Lite, core/models/py_utils/losses.py, _ae_loss.
    """
    tl_tags, br_tags = precise(tl_tags), precise(br_tags)
    objects = valid.sum(1).astype(jnp.float32)
    pairs = objects * (objects - 1)
    # Differs from CornerNet: exact counts and no diagonal, unless push_itself.
    objects, pairs = (objects + 1e-4, pairs + 1e-4) if push_itself else (jnp.maximum(objects, 1), jnp.maximum(pairs, 1))

    mean = (tl_tags + br_tags) / 2
    distance = (tl_tags - mean) ** 2 + (br_tags - mean) ** 2
    pull = jnp.where(valid, distance, 0).sum(1) / objects

    closeness = jax.nn.relu(1 - jnp.abs(mean[:, :, None] - mean[:, None]))
    both = valid[:, :, None] & valid[:, None]
    if push_itself:
        closeness = closeness - (1 / objects)[:, None, None]
    else:
        both &= ~jnp.eye(valid.shape[1], dtype=bool)
    push = jnp.where(both, closeness, 0).sum((1, 2)) / pairs
    return pull, push


def offset(
    pred: Float[Array, "b n 2"],
    target: Float[Array, "b n 2"],
    valid: Bool[Array, "b n"],
    *,
    objects: Float[Array, ""] | None = None,
) -> Float[Array, ""]:
    """Smooth L1 loss, summed over x and y, divided by a number of objects (+ 1e-4, as in the original).

    Args:
        objects: those in the batch, of which these images may be a part; None: those of these.
    Source: CornerNet (Law and Deng 2018), section 3.2; CornerNet-Lite, core/models/py_utils/losses.py, _off_loss.
    """
    off = jnp.abs(precise(pred) - target)
    smooth = jnp.where(off < 1, off**2 / 2, off - 0.5)
    objects = valid.sum().astype(jnp.float32) if objects is None else objects
    return jnp.where(valid[:, :, None], smooth, 0).sum() / (objects + 1e-4)


def batch_counts(targets: dict[str, Any], *, count_ignored: bool = False) -> dict[str, Float[Array, ""]]:
    """All that the losses below are divided by. It adds up over the parts of a batch: with the counts of the whole one,
    the losses of its parts add up to that of the whole.

    Args:
        targets: of corner_loss or saccade_loss.
        count_ignored: of count_corners.
    """
    maps = {side: f"{side}_heat" for side in SIDES} | {name: name for name in targets if name.startswith("attention_")}
    counts = {
        name: count_corners(targets[key], targets.get(f"{name}_valid"), count_ignored=count_ignored)
        for name, key in maps.items()
    }
    valid = targets["valid"]
    return counts | {"objects": valid.sum().astype(jnp.float32), "images": jnp.asarray(float(len(valid)), jnp.float32)}


def corner_loss(
    outputs: list[dict[str, Any]],
    targets: dict[str, Any],
    *,
    pull_weight: float = 0.1,
    push_weight: float = 0.1,
    offset_weight: float = 1.0,
    group: float = 1.0,
    push_itself: bool = False,
    counts: dict[str, Float[Array, ""]] | None = None,
) -> dict[str, Float[Array, ""]]:
    """The loss of CornerNet, the mean over the stacks, both corners together.

    Args:
        outputs: for each stack "tl_heat", "br_heat" (b, h, w, c) logits, "tl_tag", "br_tag" (b, h, w, 1), "tl_off",
            "br_off" (b, h, w, 2).
        targets: "tl_heat", "br_heat" (b, h, w, c); "tl_cells", "br_cells" (b, n, 2) as x, y; "tl_off", "br_off"
            (b, n, 2); "valid" (b, n). Other names are ignored.
        group: factor of the means over images of pull and push. The originals sum them over the images of one GPU: the
            batch size there gives the same.
        push_itself: of pull_push.
        counts: batch_counts of the whole batch, where these images are a part of one.
    Returns: "focal", "pull", "push", "offset" as they enter the sum, weighted, and "total", their sum.
    Source: CornerNet-Lite, core/models/py_utils/losses.py, CornerNet_Loss.
    """
    counts = counts or batch_counts(targets)
    stacks = [
        {"focal": _corner_focal(maps, targets, counts)} | _pair_parts(maps, targets, counts, push_itself)
        for maps in outputs
    ]
    weights = {"focal": 1.0, "pull": pull_weight * group, "push": push_weight * group, "offset": offset_weight}
    return _weighted_mean(stacks, weights)


def saccade_loss(
    outputs: list[dict[str, Any]],
    targets: dict[str, Any],
    *,
    pull_weight: float = 0.1,
    push_weight: float = 0.1,
    offset_weight: float = 1.0,
    attention_weight: float = 1.0,
    group: float = 1.0,
    push_itself: bool = False,
    count_ignored: bool = False,
    counts: dict[str, Float[Array, ""]] | None = None,
) -> dict[str, Float[Array, ""]]:
    """The loss of CornerNet-Saccade: that of CornerNet, which here ignores some objects, and that of attention.

    Args:
        outputs: as in corner_loss, and "attention", a list of logits (b, h_i, w_i, 1), for each stack.
        targets: as in corner_loss, and "tl_valid", "br_valid" (b, h, w, c), 0 where the focal loss ignores a cell, 1
            elsewhere; in the order of the logits "attention_0" and so on (b, h_i, w_i, 1), 1 at the centres of objects.
        attention_weight: of the focal losses of the attention maps; 1 / stacks is the original's.
        group, push_itself, counts: of corner_loss.
        count_ignored: of count_corners.
    Returns: those of corner_loss and "attention", all as they enter the sum, weighted, and "total", their sum.
    Source: CornerNet-Lite, core/models/py_utils/losses.py, CornerNet_Saccade_Loss.
    """
    counts = counts or batch_counts(targets, count_ignored=count_ignored)
    stacks = [
        {
            "focal": _corner_focal(maps, targets, counts),
            "attention": sum_of(
                focal(logits, targets[f"attention_{i}"], corners=counts[f"attention_{i}"])
                for i, logits in enumerate(maps["attention"])
            ),
        }
        | _pair_parts(maps, targets, counts, push_itself)
        for maps in outputs
    ]
    weights = {
        "focal": 1.0,
        "attention": attention_weight,
        "pull": pull_weight * group,
        "push": push_weight * group,
        "offset": offset_weight,
    }
    return _weighted_mean(stacks, weights)


def sum_of(parts: Iterable[Array]) -> Array:
    """The sum of at least one array, without the 0 that the built-in starts from."""
    return functools.reduce(operator.add, parts)


def _corner_focal(maps: dict[str, Any], targets: dict[str, Any], counts: dict[str, Array]) -> Array:
    return sum_of(
        focal(maps[f"{side}_heat"], targets[f"{side}_heat"], weight=targets.get(f"{side}_valid"), corners=counts[side])
        for side in SIDES
    )


def _pair_parts(
    maps: dict[str, Any], targets: dict[str, Any], counts: dict[str, Array], push_itself: bool
) -> dict[str, Array]:
    """What is computed from the values at the corners of each object."""
    valid = targets["valid"]
    tags, offsets = (
        [gather_cells(maps[f"{side}_{name}"], targets[f"{side}_cells"]) for side in SIDES] for name in ("tag", "off")
    )
    pull, push = pull_push(tags[0][..., 0], tags[1][..., 0], valid, push_itself=push_itself)
    off = sum_of(
        offset(pred, targets[f"{side}_off"], valid, objects=counts["objects"])
        for pred, side in zip(offsets, SIDES, strict=True)
    )
    return {"pull": pull.sum() / counts["images"], "push": push.sum() / counts["images"], "offset": off}


def _weighted_mean(stacks: list[dict[str, Array]], weights: dict[str, float]) -> dict[str, Array]:
    """The mean of each part over the stacks, times its weight, and their sum "total"."""
    parts = {name: weight * sum_of([stack[name] for stack in stacks]) / len(stacks) for name, weight in weights.items()}
    return {"total": sum_of(parts.values()), **parts}
