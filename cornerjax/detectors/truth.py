"""The truth in place of a network's maps: the objects of test images, encoded as for training, and their true maps."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from cornerjax.config import Config
from cornerjax.data.geometry import Affine, clipped, moved, overlap
from cornerjax.detectors.base import Array, Detector, Outputs, Targets
from cornerjax.keypoints import Keypoint, Objects


def place(
    objects: Objects,
    affine: Affine,
    size_px: Sequence[int],
    *,
    first_px: Sequence[int] = (0, 0),
    to_last_pixel: bool = False,
) -> Objects:
    """Move the objects of an image to where a network's input shows it.

    Args:
        objects: in pixels of the image.
        affine: from the image to the input.
        size_px: height and width of the part of the input that shows the image.
        first_px: y, x of the first pixel of this part.
        to_last_pixel: of geometry.clipped.
    Returns: the objects of which something is shown, clipped to the part as in training, with "overlap", the part of
        the area of each that is left.
    """
    (height, width), (y, x) = size_px, first_px
    placed = moved(objects, affine)
    placed["whole"] = placed["boxes"]
    shown = clipped(placed, (height, width), first_px=(y, x), to_last_pixel=to_last_pixel)
    whole = shown.pop("whole")
    return shown | {"overlap": overlap(shown["boxes"], whole)}


def at_size(config: Config, size_px: tuple[int, ...]) -> Config:
    """The configuration of a network whose inputs have this height and width."""
    height, width = size_px
    return dataclasses.replace(config, data=dataclasses.replace(config.data, crop_px=(height, width)))


def make_targets(
    detector: Detector, config: Config, objects: Sequence[Objects], parts: Sequence[Collection[str]], *, rows: int
) -> Targets:
    """Encode the objects of a batch of network inputs.

    Args:
        config: data.crop_px is the size of the inputs; data.max_objects the most that one of them shows.
        objects: of place, for each input.
        parts: which of the detector's parts are replaced in each.
        rows: b; there may be fewer inputs, nothing is replaced in the rows left over.
    Raises: ValueError: the detector has no such part.
    """
    if unknown := set().union(*parts) - set(detector.parts):
        raise ValueError(f"no part {min(unknown)!r}; there are: {', '.join(detector.parts)}")
    encoded = [detector.encode(of_input, config) for of_input in objects]
    filled = encoded + [encoded[0]] * (rows - len(encoded))
    replaced = {name: np.array([name in of_input for of_input in parts]) for name in detector.parts}
    return Targets(
        {name: np.stack([of_input[name] for of_input in filled]) for name in encoded[0]},
        {name: np.pad(values, (0, rows - len(values))) for name, values in replaced.items()},
    )


def with_true_keypoints(detector: Detector, outputs: Outputs, targets: Targets, config: Config) -> Outputs:
    """The shared `with_truth`: heat maps and offsets of all keypoints, where `targets` says that they are replaced."""
    rendered = jax.vmap(lambda of_image: detector.render(of_image, config, jnp))(targets.encoded)
    maps, true = outputs[-1], {}
    for keypoint in detector.keypoints:
        heat, off = f"{keypoint.name}_heat", f"{keypoint.name}_off"
        true[heat] = replaced(maps[heat], true_heat(rendered[heat]), targets.replaced["heat maps"])
        if keypoint.offset:
            offsets = jax.vmap(partial(true_offsets, keypoint))(targets.encoded, maps[off])
            true[off] = replaced(maps[off], offsets, targets.replaced["offsets"])
    return [*outputs[:-1], maps | true]


def replaced(
    maps: Float[Array, "b h w c"], true: Float[Array, "b h w c"], where: Bool[Array, "b"]
) -> Float[Array, "b h w c"]:
    """The true maps of those images where they take the place of the predicted ones."""
    return jnp.where(jnp.asarray(where)[:, None, None, None], true, maps)


def true_heat(rendered: Float[Array, "*b h w c"]) -> Float[Array, "*b h w c"]:
    """Logits that are sure of the peaks of a rendered heat map and of nothing else.

    The gaussians round the peaks are left out: the focal loss has its least value with nothing there, they are only
    where it forgives more. Decoding would find no other peak in them, but for a window of one cell.
    """
    return jnp.where(rendered == 1, jnp.inf, -jnp.inf)


def true_offsets(
    keypoint: Keypoint, encoded: Mapping[str, Array], predicted: Float[Array, "h w 2"]
) -> Float[Array, "h w 2"]:
    """The offsets of one image, true round the true keypoints, as predicted elsewhere.

    A keypoint that the heat maps find beside its true cell is still that object's: see owners. There the offset is the
    one in [0, 1] that comes nearest to the true point: the place in its cell, no repair of a wrong cell. Of objects
    that share a cell it is the first one's.

    Args:
        encoded: of targets.encode_keypoints.
        predicted: x, y in cells.
    """
    cells, offsets = encoded[f"{keypoint.name}_cells"], encoded[f"{keypoint.name}_off"]
    h, w = predicted.shape[:2]
    owner, near = owners(keypoint, encoded, h, w)
    x, y = jnp.meshgrid(jnp.arange(w, dtype=cells.dtype), jnp.arange(h, dtype=cells.dtype))
    apart = (cells[owner] - jnp.stack([x, y], -1)).astype(offsets.dtype)
    return jnp.where(near[..., None], jnp.clip(apart + offsets[owner], 0, 1), predicted)


def owners(
    keypoint: Keypoint, encoded: Mapping[str, Array], h: int, w: int
) -> tuple[Int[Array, "h w"], Bool[Array, "h w"]]:
    """The object whose keypoint is nearest to each cell, and whether it is near: where its gaussian reaches, and at
    least in the next cell, in x and in y."""
    cells, valid = encoded[f"{keypoint.name}_cells"], encoded["valid"]
    reach = jnp.maximum(encoded["radii"], 1)
    x = abs(jnp.arange(w, dtype=cells.dtype)[:, None] - cells[:, 0])
    y = abs(jnp.arange(h, dtype=cells.dtype)[:, None] - cells[:, 1])
    within = (x <= reach)[None] & (y <= reach)[:, None] & valid
    square = jnp.where(within, (x**2)[None] + (y**2)[:, None], jnp.iinfo(cells.dtype).max)
    return square.argmin(-1), within.any(-1)
