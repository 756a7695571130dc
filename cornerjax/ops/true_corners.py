"""The maps of corners as a network without mistakes would give them."""

from typing import Any

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float, Int


def true_heat(rendered: Float[Array, "*b h w c"]) -> Float[Array, "*b h w c"]:
    """Logits that are sure of the peaks of a rendered heat map and of nothing else.

    The gaussians round the peaks are left out: the focal loss has its least value with nothing there, they are only
    where it forgives more. Decoding would find no other peak in them, but for a window of one cell.
    """
    return jnp.where(rendered == 1, jnp.inf, -jnp.inf)


def true_tags_and_offsets(
    encoded: dict[str, Any], maps: dict[str, Float[Array, "h w _"]], *, tag_distance: float
) -> dict[str, Float[Array, "h w _"]]:
    """The tags and offsets of one image, true round the true corners, as predicted elsewhere.

    A corner that the heat maps find beside its true cell is still that object's: where a gaussian reaches, and at least
    in the next cell, a cell belongs to the object whose corner is nearest. There
    - a tag is a number of the object, farther from all others and from all that are predicted than pairs may be.
      Elsewhere tags stay as they are: that there is no corner at all is for the heat maps to say. Objects that share a
      cell share the number, which is where pulling both tags of each together ends.
    - an offset is the one in [0, 1] that comes nearest to the true corner: the place in its cell, no repair of a wrong
      cell. Of objects that share a cell it is the first one's.

    Args:
        encoded: of targets.encode_corners.
        maps: as predicted, "tl_tag", "br_tag" (h, w, 1) and "tl_off", "br_off" (h, w, 2) as x, y in cells.
        tag_distance: largest difference of the tags of a pair.
    Returns: those of maps.
    """
    largest = jnp.maximum(abs(maps["tl_tag"]).max(), abs(maps["br_tag"]).max())
    numbers = largest + (2 * tag_distance + 1) * (1 + _joined(encoded))
    true = {}
    for corner in ("tl", "br"):
        cells, offsets, predicted = encoded[f"{corner}_cells"], encoded[f"{corner}_off"], maps[f"{corner}_off"]
        h, w = predicted.shape[:2]
        owner, near = _owners(cells, jnp.maximum(encoded["radii"], 1), encoded["valid"], h, w)
        x, y = jnp.meshgrid(jnp.arange(w, dtype=cells.dtype), jnp.arange(h, dtype=cells.dtype))
        apart = (cells[owner] - jnp.stack([x, y], -1)).astype(offsets.dtype)
        true[f"{corner}_off"] = jnp.where(near[..., None], jnp.clip(apart + offsets[owner], 0, 1), predicted)
        true[f"{corner}_tag"] = jnp.where(near[..., None], numbers[owner][..., None], maps[f"{corner}_tag"])
    return true


def _joined(encoded: dict[str, Any]) -> Float[Array, "n"]:
    """A number for each object, the same for those that are joined by cells they share."""
    valid, n = encoded["valid"], len(encoded["valid"])
    joined = jnp.eye(n, dtype=bool)
    for corner in ("tl", "br"):
        cells = encoded[f"{corner}_cells"]
        joined |= (cells[:, None] == cells).all(-1) & valid[:, None] & valid
    numbers = jnp.arange(n, dtype=jnp.float32)
    return lax.fori_loop(0, n, lambda _, least: jnp.where(joined, least, jnp.inf).min(1), numbers)


def _owners(
    cells: Int[Array, "n 2"], reach: Int[Array, "n"], valid: Bool[Array, "n"], h: int, w: int
) -> tuple[Int[Array, "h w"], Bool[Array, "h w"]]:
    """The object whose corner is nearest to each cell, and whether it is within reach, in x and in y."""
    x = abs(jnp.arange(w, dtype=cells.dtype)[:, None] - cells[:, 0])
    y = abs(jnp.arange(h, dtype=cells.dtype)[:, None] - cells[:, 1])
    within = (x <= reach)[None] & (y <= reach)[:, None] & valid
    square = jnp.where(within, (x**2)[None] + (y**2)[:, None], jnp.iinfo(cells.dtype).max)
    return square.argmin(-1), within.any(-1)
