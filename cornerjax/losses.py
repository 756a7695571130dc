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


def focal(
    logits: Float[Array, "b h w c"],
    heat: Float[Array, "b h w c"],
    *,
    alpha: int = 2,
    beta: int = 4,
    clamp: float = 1e-4,
) -> Float[Array, ""]:
    """Focal loss of a heat map, divided by the number of corners in the batch.

    Args:
        heat: target in [0, 1]; cells that are exactly 1 are corners.
        alpha: the larger, the less do cells count that are nearly right.
        beta: the larger, the less do cells count that lie close to a corner.
        clamp: scores closer than this to 0 or 1 are moved there and get no gradient.
    Returns: the loss; with no corner in the batch the undivided sum.
    Source: CornerNet (Law and Deng 2018), section 3.2; CornerNet-Lite, core/models/py_utils/losses.py.
    """
    p = jnp.clip(jax.nn.sigmoid(logits.astype(jnp.float32)), clamp, 1 - clamp)
    corner = heat == 1
    here = jnp.log(p) * (1 - p) ** alpha
    elsewhere = jnp.log(1 - p) * p**alpha * (1 - heat) ** beta
    return -jnp.where(corner, here, elsewhere).sum() / jnp.maximum(corner.sum(), 1).astype(jnp.float32)


def pull_push(
    tl_tags: Float[Array, "b n"], br_tags: Float[Array, "b n"], valid: Bool[Array, "b n"], *, legacy: bool = False
) -> tuple[Float[Array, "b"], Float[Array, "b"]]:
    """How far the two tags of an object differ, and how close the mean tags of different objects are, for each image.

    Args:
        valid: which of the n places hold an object.
        legacy: the original's form. It adds 1e-4 to the number of objects and of pairs, and compares each object with
            itself too, taking off 1 / objects everywhere instead: a constant remains, 1.0002 for a single object.
    Returns: pull, the squared distance to the mean, over objects; push, max(0, 1 - difference), over ordered pairs.
        Both are 0 for an image without objects, push for one with a single object too.
    Source: CornerNet (Law and Deng 2018), section 3.3; CornerNet-Lite, core/models/py_utils/losses.py, _ae_loss.
    """
    tl_tags, br_tags = tl_tags.astype(jnp.float32), br_tags.astype(jnp.float32)
    objects = valid.sum(1).astype(jnp.float32)
    pairs = objects * (objects - 1)
    # Differs from CornerNet: exact counts and no diagonal, unless legacy.
    objects, pairs = (objects + 1e-4, pairs + 1e-4) if legacy else (jnp.maximum(objects, 1), jnp.maximum(pairs, 1))

    mean = (tl_tags + br_tags) / 2
    distance = (tl_tags - mean) ** 2 + (br_tags - mean) ** 2
    pull = jnp.where(valid, distance, 0).sum(1) / objects

    closeness = jax.nn.relu(1 - jnp.abs(mean[:, :, None] - mean[:, None]))
    both = valid[:, :, None] & valid[:, None]
    if legacy:
        closeness = closeness - (1 / objects)[:, None, None]
    else:
        both &= ~jnp.eye(valid.shape[1], dtype=bool)
    push = jnp.where(both, closeness, 0).sum((1, 2)) / pairs
    return pull, push


def offset(pred: Float[Array, "b n 2"], target: Float[Array, "b n 2"], valid: Bool[Array, "b n"]) -> Float[Array, ""]:
    """Smooth L1 loss, summed over x and y, divided by the number of objects in the batch (+ 1e-4, as in the original).

    Source: CornerNet (Law and Deng 2018), section 3.2; CornerNet-Lite, core/models/py_utils/losses.py, _off_loss.
    """
    off = jnp.abs(pred.astype(jnp.float32) - target)
    smooth = jnp.where(off < 1, off**2 / 2, off - 0.5)
    return jnp.where(valid[:, :, None], smooth, 0).sum() / (valid.sum().astype(jnp.float32) + 1e-4)


def corner_loss(
    outputs: list[dict[str, Any]],
    targets: dict[str, Any],
    *,
    pull_weight: float = 0.1,
    push_weight: float = 0.1,
    offset_weight: float = 1.0,
    group: float = 1.0,
    legacy: bool = False,
) -> dict[str, Float[Array, ""]]:
    """The loss of CornerNet, the mean over the stacks, both corners together.

    Args:
        outputs: for each stack "tl_heat", "br_heat" (b, h, w, c) logits, "tl_tag", "br_tag" (b, h, w, 1), "tl_off",
            "br_off" (b, h, w, 2).
        targets: "tl_heat", "br_heat" (b, h, w, c); "tl_cells", "br_cells" (b, n, 2) as x, y; "tl_off", "br_off"
            (b, n, 2); "valid" (b, n). Other names are ignored.
        group: factor of the means over images of pull and push. The originals sum them over the images of one GPU: the
            batch size there gives the same.
        legacy: of pull_push.
    Returns: "focal", "pull", "push", "offset" as they enter the sum, weighted, and "total", their sum.
    Source: CornerNet-Lite, core/models/py_utils/losses.py, CornerNet_Loss.
    """
    stacks = [_one_stack(maps, targets, legacy) for maps in outputs]
    weights = {"focal": 1.0, "pull": pull_weight * group, "push": push_weight * group, "offset": offset_weight}
    parts = {name: weight * sum_of([stack[name] for stack in stacks]) / len(stacks) for name, weight in weights.items()}
    return {"total": sum_of(parts.values()), **parts}


def sum_of(parts: Iterable[Array]) -> Array:
    """The sum of at least one array, without the 0 that the built-in starts from."""
    return functools.reduce(operator.add, parts)


def _one_stack(maps: dict[str, Any], targets: dict[str, Any], legacy: bool) -> dict[str, Array]:
    valid, sides = targets["valid"], ("tl", "br")
    tags, offsets = (
        [gather_cells(maps[f"{side}_{name}"], targets[f"{side}_cells"]) for side in sides] for name in ("tag", "off")
    )
    pull, push = pull_push(tags[0][..., 0], tags[1][..., 0], valid, legacy=legacy)
    return {
        "focal": sum_of(focal(maps[f"{side}_heat"], targets[f"{side}_heat"]) for side in sides),
        "pull": pull.mean(),
        "push": push.mean(),
        "offset": sum_of(
            offset(pred, targets[f"{side}_off"], valid) for pred, side in zip(offsets, sides, strict=True)
        ),
    }
