"""The losses of heat maps and offsets, over a whole batch; a detector's keypoints say of which maps."""

import functools
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from cornerjax.keypoints import Keypoint
from cornerjax.ops.gather import gather_cells
from cornerjax.ops.precision import precise

Maps = Mapping[str, Any]  # outputs of one stack; a detector may have lists of maps among them
Losses = dict[str, Float[Array, ""]]


def focal(
    logits: Float[Array, "b h w c"],
    heat: Float[Array, "b h w c"],
    *,
    weight: Float[Array, "b h w c"] | None = None,
    peaks: Float[Array, ""] | None = None,
    alpha: int = 2,
    beta: int = 4,
    clamp: float = 1e-4,
) -> Float[Array, ""]:
    """Focal loss of a heat map, divided by a number of peaks.

    Args:
        heat: target in [0, 1]; cells that are exactly 1 are peaks, the cells of keypoints.
        weight: of each cell, 0 where it is ignored; without it all cells count.
        peaks: those in the batch, of which these images may be a part; None: count_peaks of these.
        alpha: the larger, the less do cells count that are nearly right.
        beta: the larger, the less do cells count that lie close to a peak.
        clamp: scores closer than this to 0 or 1 are moved there and get no gradient.
    Returns: the loss; with no peak in the batch the undivided sum.
    Source: CornerNet (Law and Deng 2018), section 3.2; CornerNet-Lite, core/models/py_utils/losses.py.
    """
    p = jnp.clip(jax.nn.sigmoid(precise(logits)), clamp, 1 - clamp)
    here = jnp.log(p) * (1 - p) ** alpha
    elsewhere = jnp.log(1 - p) * p**alpha * (1 - heat) ** beta
    terms = jnp.where(heat == 1, here, elsewhere)
    if weight is not None:
        terms = terms * weight
    return -terms.sum() / jnp.maximum(count_peaks(heat, weight) if peaks is None else peaks, 1)


def count_peaks(
    heat: Float[Array, "b h w c"], weight: Float[Array, "b h w c"] | None = None, *, count_ignored: bool = False
) -> Float[Array, ""]:
    """What the focal loss is divided by: the cells of a target that are exactly 1.

    Args:
        weight: of focal; ignored cells do not count.
        count_ignored: the original's form: they do.
    """
    peak = heat == 1
    if weight is not None:
        peak &= (weight > 0) | count_ignored  # Differs from CornerNet-Saccade, unless count_ignored.
    return peak.sum().astype(jnp.float32)


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


def batch_counts(targets: Mapping[str, Array], keypoints: Sequence[Keypoint], *, count_ignored: bool = False) -> Losses:
    """What the losses below are divided by. It adds up over the parts of a batch: with the counts of the whole one, the
    losses of its parts add up to that of the whole.

    Args:
        targets: of heat_loss and offset_loss.
        count_ignored: of count_peaks.
    Returns: the peaks of each keypoint by its name, and "objects" and "images".
    """
    counts = {
        name: count_peaks(targets[f"{name}_heat"], targets.get(f"{name}_valid"), count_ignored=count_ignored)
        for name, *_ in keypoints
    }
    valid = targets["valid"]
    return counts | {"objects": valid.sum().astype(jnp.float32), "images": jnp.asarray(float(len(valid)), jnp.float32)}


def heat_loss(
    maps: Maps, targets: Mapping[str, Array], keypoints: Sequence[Keypoint], counts: Losses
) -> Float[Array, ""]:
    """The focal losses of the heat maps of all keypoints, added up.

    Args:
        maps: "NAME_heat" (b, h, w, c), logits, of one stack.
        targets: "NAME_heat" (b, h, w, c); "NAME_valid", if there, 0 in cells that do not count.
        counts: of batch_counts.
    """
    return sum_of(
        focal(
            maps[f"{name}_heat"],
            targets[f"{name}_heat"],
            weight=targets.get(f"{name}_valid"),
            peaks=counts[name],
        )
        for name, *_ in keypoints
    )


def offset_loss(
    maps: Maps, targets: Mapping[str, Array], keypoints: Sequence[Keypoint], counts: Losses
) -> Float[Array, ""]:
    """The offset losses of all keypoints that have offsets, added up.

    Args:
        maps: "NAME_off" (b, h, w, 2) as x, y, of one stack.
        targets: "NAME_cells" (b, n, 2) as x, y; "NAME_off" (b, n, 2); "valid" (b, n).
        counts: of batch_counts.
    """
    return sum_of(
        offset(
            gather_cells(maps[f"{point.name}_off"], targets[f"{point.name}_cells"]),
            targets[f"{point.name}_off"],
            targets["valid"],
            objects=counts["objects"],
        )
        for point in keypoints
        if point.offset
    )


def sum_of(parts: Iterable[Array]) -> Array:
    """The sum of at least one array, without the 0 that the built-in starts from."""
    return functools.reduce(operator.add, parts)


def weighted_mean(stacks: Sequence[Losses], weights: Mapping[str, float]) -> Losses:
    """The mean of each part over the stacks, times its weight, and their sum "total"."""
    parts = {name: weight * sum_of([stack[name] for stack in stacks]) / len(stacks) for name, weight in weights.items()}
    return {"total": sum_of(parts.values()), **parts}
