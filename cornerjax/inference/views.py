"""The test procedure of detectors that have none of their own: whole images, at several scales, mirrored as well."""

import copy
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from cornerjax.config import Config, Test
from cornerjax.detectors.base import Candidates, Detector, Found, Outputs, Targets, Truth
from cornerjax.detectors.selection import select
from cornerjax.detectors.truth import at_size, make_targets, mirror, place
from cornerjax.devices import over_devices
from cornerjax.errors import InputError
from cornerjax.legacy import Legacy
from cornerjax.ops.pixels import normalise

LARGE_PX = 767 * 767  # COCO's largest bucket; of larger images fewer are taken at a time
Sizes = tuple[tuple[int, int], ...]  # height and width that an image is padded to, at each scale


class Prepared(NamedTuple):
    """An image at every scale, and the size it had."""

    images: list[UInt8[np.ndarray, "_ _ 3"]]
    height: int
    width: int
    truth: Truth | None


class Views:
    """Finds boxes in whole images; base.Finder says what each method is.

    Args:
        apply: of `nn.functional`, for the network of `config.model`.
        config: `model`, `test` and `legacy` are used.
    Source: CornerNet-Lite, test/cornernet.py, cornernet_inference.
    """

    def __init__(self, detector: Detector, apply: Callable, config: Config):
        self._detector, self._apply, self._config = detector, apply, config
        self.look: Callable[..., Candidates] = over_devices(partial(look, detector, apply, config), whole=2)
        self.select: Callable[..., Found] = over_devices(
            partial(_select_from, test=config.test, legacy=config.legacy), whole=0
        )

    def bucket(self, height: int, width: int) -> Sizes:
        """The size that an image is padded to at each scale.

        Raises: InputError: the image is smaller than one cell of the network's map.
        """
        stride, scales = self._detector.stride(self._config.model), self._config.test.scales
        if scaled(min(height, width), min(scales)) < stride:
            least = math.ceil(stride / min(scales))
            raise InputError(
                f"image of {width}x{height} pixels: both sides must be at least {least}, one cell of the network's map"
            )
        return tuple(
            self._detector.input_size(scaled(height, scale), scaled(width, scale), self._config.model)
            for scale in scales
        )

    def rows(self, bucket: Sizes, largest: int) -> int:
        pixels = max(height * width for height, width in bucket) * (1 + self._config.test.flip)
        return max(1, min(largest, largest * LARGE_PX // pixels))

    def prepare(self, image: UInt8[np.ndarray, "H W 3"], truth: Truth | None = None) -> Prepared:
        height, width = image.shape[:2]
        images = [
            image if scale == 1 else cv2.resize(image, (scaled(width, scale), scaled(height, scale)))
            for scale in self._config.test.scales
        ]
        return Prepared(images, height, width, truth)

    def __call__(self, params: dict, model_state: dict, images: Sequence[Prepared], bucket: Sizes, rows: int) -> Found:
        originals = [(image.height, image.width) for image in images]
        candidates = []
        for i, (scale, size) in enumerate(zip(self._config.test.scales, bucket, strict=True)):
            at_scale = [image.images[i] for image in images]
            arrays = assemble(at_scale, originals, size, rows, scale=scale, legacy=self._config.legacy)
            truth = self._truth([image.truth for image in images], *arrays)
            candidates.append(self.look(params, model_state, *arrays, truth))
        return self.select(candidates)

    def in_phases(self, phase: Callable[[str, Callable], Callable]) -> "Views":
        network = phase("network", over_devices(partial(see, self._apply, self._config), whole=2))
        decode = phase("decode", over_devices(partial(read, self._detector, self._config), whole=0))
        other = copy.copy(self)
        other.look = lambda params, state, images, *rest: decode(network(params, state, images), images, *rest)
        other.select = phase("NMS", self.select)
        return other

    def _truth(
        self,
        truths: Sequence[Truth | None],
        images: UInt8[np.ndarray, "b H W 3"],
        borders: Float[np.ndarray, "b 2"],
        factors: Float[np.ndarray, "b 2"],
        sizes: Float[np.ndarray, "b 2"],
    ) -> tuple[Targets, ...]:
        """What is known of a batch that assemble made, and with `test.flip` of the mirrored one."""
        known = [truth for truth in truths if truth]
        size = (images.shape[1], images.shape[2])
        placed = [
            place(truth.objects, 1 / factor, border, size)
            for truth, factor, border in zip(known, factors, borders, strict=False)
        ]
        views = [placed, [mirror(objects, size) for objects in placed]][: 1 + self._config.test.flip]
        config, parts = at_size(self._config, size), [truth.parts for truth in known]
        return tuple(make_targets(self._detector, config, view, parts, rows=len(images)) for view in views if known)


def look(
    detector: Detector,
    apply: Callable,
    config: Config,
    params: dict[str, Any],
    model_state: dict[str, Any],
    images: UInt8[jax.Array, "b H W 3"],
    borders: Float[jax.Array, "b 2"],
    factors: Float[jax.Array, "b 2"],
    sizes: Float[jax.Array, "b 2"],
    truth: tuple[Targets, ...] = (),
) -> Candidates:
    """Normalise, network, decode, cells to pixels; with `test.flip` the mirrored images too.

    Args:
        images: BGR, padded with zeros before normalisation, so that a pad pixel becomes -mean / std.
        borders: x, y of the image's first pixel in its padded image.
        factors: x, y pixels of the original image for one of the resized image.
        sizes: width, height of the original image; 0 in rows without an image.
        truth: what takes the place of the network's outputs, if anything; with `test.flip` of the mirrored images too.
    """
    outputs = see(apply, config, params, model_state, images)
    return read(detector, config, outputs, images, borders, factors, sizes, truth)


def see(
    apply: Callable,
    config: Config,
    params: dict[str, Any],
    model_state: dict[str, Any],
    images: UInt8[jax.Array, "b H W 3"],
) -> Outputs:
    """The first half of look: the network's outputs; with `test.flip` those of the mirrored images behind them."""
    if config.test.flip:
        images = jnp.concatenate([images, images[:, :, ::-1]])
    return apply(params, model_state, normalise(images.astype(jnp.float32) / 255), train=False)[0]


def read(
    detector: Detector,
    config: Config,
    outputs: Outputs,
    images: UInt8[jax.Array, "b H W 3"],
    borders: Float[jax.Array, "b 2"],
    factors: Float[jax.Array, "b 2"],
    sizes: Float[jax.Array, "b 2"],
    truth: tuple[Targets, ...] = (),
) -> Candidates:
    """The second half of look; of the images only the shape counts."""
    if truth:
        targets = jax.tree.map(lambda *views: jnp.concatenate(views), *truth)
        outputs = detector.with_truth(outputs, targets, at_size(config, images.shape[1:3]))
    found = detector.decode(outputs, config)
    stride = detector.stride(config.model)
    cells = [-(-side // stride) for side in images.shape[2:0:-1]]
    if config.test.flip:
        found = _with_mirrored(found, cells[0])
    # Pixels a cell: 511 px make 128 cells, so this is a little less than the stride.
    cell = np.array([side / n for side, n in zip(images.shape[2:0:-1], cells, strict=True)], np.float32)
    border, factor, size = (jnp.tile(xy, 2)[:, None] for xy in (borders, factors, sizes))
    boxes = jnp.clip((found.boxes * np.tile(cell, 2) - border) * factor, 0, size)
    scores = found.scores
    if not config.legacy.padding_boxes:
        # Differs from CornerNet: boxes that lie in the padding altogether are dropped, there they stay as lines.
        scores = jnp.where((boxes[..., 2:] <= boxes[..., :2]).any(-1), -1, scores)
    return found._replace(boxes=boxes, scores=scores)


def _with_mirrored(found: Candidates, width: int) -> Candidates:
    """Put the candidates of the second half of a batch, the mirrored images, behind those of the first."""
    b = len(found.scores) // 2
    x1, y1, x2, y2 = jnp.unstack(found.boxes[b:], axis=-1)
    mirrored = found._replace(boxes=found.boxes.at[b:].set(jnp.stack([width - x2, y1, width - x1, y2], -1)))
    return Candidates(*(jnp.concatenate([part[:b], part[b:]], axis=1) for part in mirrored))


def _select_from(candidates: list[Candidates], *, test: Test, legacy: Legacy) -> Found:
    together = Candidates(*(jnp.concatenate(parts, axis=1) for parts in zip(*candidates, strict=True)))
    return select(together, test=test, legacy=legacy)


def scaled(side: int, scale: float) -> int:
    """The pixels of a side after resizing."""
    return int(side * scale)


def assemble(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    originals: Sequence[tuple[int, int]],
    size: tuple[int, int],
    rows: int,
    *,
    scale: float,
    legacy: Legacy,
) -> tuple[UInt8[np.ndarray, "b H W 3"], Float[np.ndarray, "b 2"], Float[np.ndarray, "b 2"], Float[np.ndarray, "b 2"]]:
    """Put each image into the middle of a black one: the last four arguments of look.

    Args:
        images: resized.
        originals: height and width of each before.
        size: height and width of the black ones.
        rows: b; there may be fewer images.
        scale: by which they were resized, but for the rounding to whole pixels.
    Source: CornerNet, utils/image.py, crop_image.
    """
    padded = np.zeros((rows, *size, 3), np.uint8)
    borders, factors, sizes = np.zeros((3, rows, 2), np.float32)
    for row, (image, original) in enumerate(zip(images, originals, strict=True)):
        height, width = image.shape[:2]
        y, x = (size[0] - height) // 2, (size[1] - width) // 2
        # Differs from CornerNet: an image that fills a side is placed whole; there, its last row or column is lost.
        cut = image[: size[0] - 1, : size[1] - 1] if legacy.cut_last else image
        padded[row, y : y + cut.shape[0], x : x + cut.shape[1]] = cut
        # Differs from CornerNet: an axis has the factor that whole pixels gave it; there, both have the scale.
        factors[row] = 1 / scale if legacy.nominal_scale else np.array(original[::-1]) / (width, height)
        borders[row], sizes[row] = (x, y), factors[row] * (width, height)
    return padded, borders, factors, sizes
