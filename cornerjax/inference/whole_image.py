"""The test procedure of detectors that have none of their own: whole images, at several scales, mirrored as well.

Each image is placed in an array of a legal size, goes through the network, and its maps are decoded; boxes go back to
pixels of the image, those of all scales and of the mirrored image are combined, suppressed and finished.
"""

import copy
import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from cornerjax.config import Config
from cornerjax.data.geometry import MIRRORED_ORDER, Affine, is_points, mirrored
from cornerjax.data.images import MOST_PIXELS
from cornerjax.detectors.base import Detector, Image, InputMaps, Inspection, Outputs, Targets, Truth, View
from cornerjax.detectors.rows import Candidates, Extra, Found
from cornerjax.detectors.selection import clip_to_images, select
from cornerjax.detectors.truth import at_size, make_targets, place
from cornerjax.devices import over_devices
from cornerjax.errors import InputError
from cornerjax.inference.placing import Placed, fit_images, pad_images, resized, scaled
from cornerjax.nn.functional import Tree
from cornerjax.ops.pixels import normalise

MOST_PX = 2**26  # of an image in the network, which may need some hundred bytes for each
LARGE_PX = 767 * 767  # COCO's largest bucket; of larger images fewer are taken at a time
Sizes = tuple[tuple[int, int], ...]  # height and width of the array that an image lies in, at each scale
Images = UInt8[jax.Array, "b H W 3"]  # BGR; pads are 0 before normalisation, so that they become -mean / std


class Preprocessed(NamedTuple):
    """An image at every scale, and the size it had."""

    images: list[Image]
    height: int
    width: int
    truth: Truth | None


class WholeImage:
    """Finds boxes in whole images; base.TestProcedure says what each method is.

    Args:
        apply: of `nn.functional`, for the network of `config.model`.
        config: `model`, `test` and `legacy` are used.
    Source: CornerNet-Lite, test/cornernet.py, cornernet_inference.
    """

    def __init__(self, detector: Detector, apply: Callable, config: Config):
        self._detector, self._apply, self._config = detector, apply, config
        self._forward: Callable[..., Outputs] = partial(forward, apply, config)
        self._decode: Callable[..., list[Candidates]] = partial(decode, detector, config)
        self.find: Callable[..., list[Candidates]] = over_devices(self._find, whole=2)
        self.select: Callable[..., Found] = over_devices(partial(combine_and_select, detector, config), whole=0)
        plain = dataclasses.replace(config, test=dataclasses.replace(config.test, flip=False))
        self._maps: Callable[..., Outputs] = jax.jit(partial(forward, apply, plain))

    def bucket(self, height: int, width: int) -> Sizes:
        """The size of the array that an image lies in, at each scale.

        Raises: InputError: the image is smaller than one cell of the network's map, or it or its input are too large.
        """
        model, scales = self._config.model, self._config.test.scales
        stride = self._detector.stride(model)
        if scaled(min(height, width), min(scales)) < stride:
            least = math.ceil(stride / min(scales))
            raise InputError(
                f"image of {width}x{height} pixels: both sides must be at least {least}, one cell of the network's map"
            )
        if fixed := self._detector.fixed_size(self._config):
            self._check_fixed(fixed, scaled(height, max(scales)) * scaled(width, max(scales)), (height, width))
            return (fixed,) * len(scales)
        sizes = tuple(self._detector.input_size(scaled(height, scale), scaled(width, scale), model) for scale in scales)
        if (most := max(rows * columns for rows, columns in sizes)) > MOST_PX:
            raise InputError(
                f"image of {width}x{height} pixels is {most:,} pixels for the network at scale {max(scales):g}; "
                f"accepted are up to {MOST_PX:,}: reduce it, as --max-side of cornerjax predict does, or the scale"
            )
        return sizes

    def _check_fixed(self, fixed: tuple[int, int], resized_px: int, size: tuple[int, int]) -> None:
        """Refuse an input of the network, or an image on its way into it, that would take gigabytes."""
        if fixed[0] * fixed[1] > MOST_PX:
            raise InputError(
                f"test.fixed_px is {fixed}, {fixed[0] * fixed[1]:,} pixels for the network; "
                f"accepted are up to {MOST_PX:,}"
            )
        largest = max(self._config.test.scales)
        if largest > 1 and resized_px > MOST_PIXELS:
            raise InputError(
                f"image of {size[1]}x{size[0]} pixels is {resized_px:,} pixels at scale {largest:g}; "
                f"accepted are up to {MOST_PIXELS:,}: reduce it, as --max-side of cornerjax predict does, or the scale"
            )

    def rows(self, bucket: Sizes, largest: int) -> int:
        pixels = max(height * width for height, width in bucket) * (1 + self._config.test.flip)
        return max(1, min(largest, largest * LARGE_PX // pixels))

    def preprocess(self, image: Image, truth: Truth | None = None) -> Preprocessed:
        height, width = image.shape[:2]
        images = [resized(image, scale) for scale in self._config.test.scales]
        return Preprocessed(images, height, width, truth)

    def __call__(
        self, params: dict, model_state: dict, images: Sequence[Preprocessed], bucket: Sizes, rows: int
    ) -> Found:
        originals = [(image.height, image.width) for image in images]
        candidates, placements = [], []
        for i, (scale, size) in enumerate(zip(self._config.test.scales, bucket, strict=True)):
            at_scale = [image.images[i] for image in images]
            placed = self.place(at_scale, originals, size, rows, scale=scale)
            truth = self._truth([image.truth for image in images], placed)
            candidates.append(self.find(params, model_state, *placed, truth))
            placements.append(placed[1:])
        return self.select(candidates, placements)

    def in_phases(self, phase: Callable[[str, Callable], Callable]) -> "WholeImage":
        network = phase("network", over_devices(self._forward, whole=2))
        decoded = phase("decode", over_devices(self._decode, whole=0))
        other = copy.copy(self)
        other.find = lambda params, state, images, *rest: decoded(network(params, state, images), images, *rest)
        other.select = phase("NMS", self.select)
        return other

    def inspect(self, params: dict, model_state: dict, image: Image) -> Inspection:
        """The maps at scale 1, or the first of several scales; mirrored images are left out."""
        scales, (height, width) = self._config.test.scales, image.shape[:2]
        at = scales.index(1.0) if 1.0 in scales else 0
        size = self.bucket(height, width)[at]
        placed = self.place([resized(image, scales[at])], [(height, width)], size, 1, scale=scales[at])
        maps = self._maps(params, model_state, jnp.asarray(placed.images))[-1]
        stride = self._detector.stride(self._config.model)
        cell = cell_px(size, stride) / placed.ratios[0]
        start = -placed.borders[0] / placed.ratios[0]
        return Inspection([InputMaps(maps, cell, start)], {}, np.zeros((0, 4), np.float32))

    def place(self, *images: Any, scale: float) -> Placed:
        """Images, their sizes before, and what else pad_images takes -> how they lie in the network's input."""
        place = fit_images if self._detector.fixed_size(self._config) else pad_images
        return place(*images, scale=scale, legacy=self._config.legacy)

    def _find(self, params: Tree, model_state: Tree, images: Images, *rest: Any) -> list[Candidates]:
        return self._decode(self._forward(params, model_state, images), images, *rest)

    def _truth(self, truths: Sequence[Truth | None], placed: Placed) -> tuple[Targets, ...]:
        """What is true of a batch, and with `test.flip` of the mirrored one."""
        known = [truth for truth in truths if truth]
        size, last = (placed.images.shape[1], placed.images.shape[2]), self._config.legacy.clip_to_last_pixel
        objects = [
            place(truth.objects, Affine(ratio, border), size, to_last_pixel=last)
            for truth, ratio, border in zip(known, placed.ratios, placed.borders, strict=False)
        ]
        views = [objects, [mirrored(of_image, size[1]) for of_image in objects]][: 1 + self._config.test.flip]
        config, parts = at_size(self._config, size), [truth.parts for truth in known]
        rows = len(placed.images)
        return tuple(make_targets(self._detector, config, view, parts, rows=rows) for view in views if known)


def forward(apply: Callable, config: Config, params: Tree, model_state: Tree, images: Images) -> Outputs:
    """The network's outputs; with `test.flip` those of the mirrored images behind them."""
    if config.test.flip:
        images = jnp.concatenate([images, images[:, :, ::-1]])
    return apply(params, model_state, normalise(images.astype(jnp.float32) / 255), train=False)[0]


def decode(
    detector: Detector,
    config: Config,
    outputs: Outputs,
    images: Images,
    borders: Float[jax.Array, "b 2"],
    ratios: Float[jax.Array, "b 2"],
    sizes: Float[jax.Array, "b 2"],
    truth: tuple[Targets, ...] = (),
) -> list[Candidates]:
    """From outputs to candidates in pixels of the images, one for each view: the images and, with `test.flip`, the
    mirrored ones, unless the detector averages the maps of both.

    Args:
        outputs: of forward.
        images: of them only the shape counts.
        borders, ratios, sizes: see base.View.
        truth: what takes the place of the outputs, if anything; with `test.flip` of the mirrored images too.
    """
    if truth:
        targets = jax.tree.map(lambda *views: jnp.concatenate(views), *truth)
        outputs = detector.with_truth(outputs, targets, at_size(config, images.shape[1:3]))
    flips = [False, True] if config.test.flip else [False]
    if config.test.flip and detector.average_mirrored:
        plain, mirror = (jax.tree.map(lambda x, i=i: jnp.split(x, 2)[i], outputs) for i in (0, 1))
        outputs, flips = detector.average_mirrored(plain, mirror, config), [False]
    found = detector.decode(outputs, config)
    size = (images.shape[1], images.shape[2])
    stride = detector.stride(config.model)
    cell = cell_px(size, stride)
    views = []
    for i, flip in enumerate(flips):
        view = jax.tree.map(lambda values, i=i: jnp.split(values, len(flips))[i], found)
        if flip:
            view = _mirrored(view, -(-size[1] // stride))
        views.append(_moved(view, lambda xy: (xy * cell - borders[:, None]) / ratios[:, None]))
    return views


def combine_and_select(
    detector: Detector,
    config: Config,
    candidates: list[list[Candidates]],
    placements: list[tuple[jax.Array, jax.Array, jax.Array]],
) -> Found:
    """The candidates of all scales and mirrored images become the boxes of each image.

    Args:
        candidates: of decode, for each scale.
        placements: the borders, ratios and sizes of each scale.
    """
    found, views = [], []
    for scale, at_scale, placed in zip(config.test.scales, candidates, placements, strict=True):
        found += at_scale
        views += [View(scale, bool(i), *placed) for i in range(len(at_scale))]
    together = (detector.combine or combine)(found, views, config)
    test = dataclasses.replace(config.test, nms=detector.nms(config))
    return select(together, dataclasses.replace(config, test=test), finish=detector.finish)


def combine(candidates: Sequence[Candidates], views: Sequence[View], config: Config) -> Candidates:
    """Put the candidates of all views one behind the other; boxes end where the image does."""
    # Differs from CornerNet: boxes that lie in the padding altogether are dropped, there they stay as lines.
    drop = not config.legacy.padding_boxes
    clipped = [
        clip_to_images(of_view, jnp.asarray(view.sizes), drop_empty=drop)
        for of_view, view in zip(candidates, views, strict=True)
    ]
    return jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), *clipped)


def _mirrored(found: Candidates, width: int) -> Candidates:
    """Candidates of mirrored images in cells of the images; width: of the maps, in cells."""
    x1, y1, x2, y2 = jnp.unstack(jnp.asarray(found.boxes), axis=-1)
    points: Extra = {}
    for name in filter(is_points, found.extra):
        values = jnp.asarray(found.extra[name])
        order = jnp.array(MIRRORED_ORDER.get(name, range(values.shape[2])))
        points[name] = values.at[..., 0].set(width - values[..., 0])[:, :, order]
    return found._replace(boxes=jnp.stack([width - x2, y1, width - x1, y2], -1), extra=found.extra | points)


def _moved(found: Candidates, move: Callable[[jax.Array], jax.Array]) -> Candidates:
    """Boxes and points elsewhere; move: (b, n, 2) x, y -> the same."""

    def move_all(values: jax.Array) -> jax.Array:
        return move(values.reshape(len(values), -1, 2)).reshape(values.shape)

    points: Extra = {name: move_all(jnp.asarray(values)) for name, values in found.extra.items() if is_points(name)}
    return found._replace(boxes=move_all(jnp.asarray(found.boxes)), extra=found.extra | points)


def cell_px(size: tuple[int, int], stride: int) -> Float[np.ndarray, "2"]:
    """x, y pixels of a cell: 511 px make 128 cells, so this is a little less than the stride."""
    return np.array([side / -(-side // stride) for side in size[::-1]], np.float32)
