"""The targets of test images: their objects where the network's input shows them, encoded as for training."""

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np
from jaxtyping import Float

from cornerjax.config import Config
from cornerjax.data.crop import Objects, clip_objects
from cornerjax.data.reference_crop import overlap
from cornerjax.detectors.base import Detector, Targets


def place(
    objects: Objects,
    scale: Float[np.ndarray, "2"],
    shift: Float[np.ndarray, "2"],
    size_px: Sequence[int],
    *,
    first_px: Sequence[int] = (0, 0),
) -> Objects:
    """Move the objects of an image to where a network's input shows it.

    Args:
        objects: "boxes" in pixels of the image, and other fields.
        scale: x, y pixels of the input for one of the image.
        shift: x, y of the image's corner in the input.
        size_px: height and width of the part of the input that shows the image.
        first_px: y, x of the first pixel of this part.
    Returns: the objects of which something is shown, clipped to the part's first and last pixel as in training, with
        "overlap", the part of the area of each that is left.
    """
    (height, width), (y, x) = size_px, first_px
    boxes = (objects["boxes"] * np.tile(scale, 2) + np.tile(shift, 2)).astype(np.float32)
    shown = clip_objects(objects | {"boxes": boxes, "whole": boxes}, (height, width), first_px=(y, x))
    whole = shown.pop("whole")
    return shown | {"overlap": overlap(shown["boxes"], whole)}


def mirror(objects: Objects, size_px: tuple[int, int]) -> Objects:
    """The objects of place in the mirrored input; its last pixel is the last of the boxes, as in place."""
    x1, y1, x2, y2 = objects["boxes"].T
    width = size_px[1]
    return clip_objects(objects | {"boxes": np.stack([width - x2, y1, width - x1, y2], axis=1)}, size_px)


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
