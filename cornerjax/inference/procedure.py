"""The test procedure that detectors share: images of any size -> boxes, one compiled call a batch shape."""

import collections
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float, Int, UInt8

from cornerjax.config import Config, InputError, Test
from cornerjax.detectors.base import Candidates, Detections, Detector
from cornerjax.ops.pixels import normalise
from cornerjax.ops.soft_nms import soft_nms

THREADS = 4  # that load images
AHEAD = 2  # batches loaded before they are needed
LARGE_PX = 767 * 767  # COCO's largest bucket; of larger images fewer than Test.batch are taken at a time


class Batch(NamedTuple):
    """Images that go through the network together."""

    indices: list[int]  # of the images; fewer than `rows` in the last batch of a bucket
    rows: int
    size: tuple[int, int]  # height and width that the images are padded to


class Loaded(NamedTuple):
    """An image, resized for the network, and the size it had."""

    image: UInt8[np.ndarray, "H W 3"]
    height: int
    width: int


class Found(NamedTuple):
    """Boxes of a batch, best first, in pixels of the images; places left over have score -1."""

    boxes: Float[jax.Array, "b n 4"]
    scores: Float[jax.Array, "b n"]
    classes: Int[jax.Array, "b n"]


class Procedure:
    """Finds boxes with given weights; every shape of batch is compiled once for the life of this object.

    Args:
        detector: one of DETECTORS.
        apply: of `nn.functional`, for the network of `config.model`.
        config: `model` and `test` are used.
        class_names: for the results.
    """

    def __init__(self, detector: Detector, apply: Callable, config: Config, class_names: Sequence[str]):
        self._detector, self._config, self._class_names = detector, config, tuple(class_names)
        self.find = jax.jit(partial(find_boxes, detector, apply, config))

    def plan(self, sizes: Sequence[tuple[int, int]]) -> list[Batch]:
        """Sort images into batches: those that are padded to the same size together, in their order.

        Args:
            sizes: height and width of every image.
        Raises: InputError: an image is smaller than a cell of the map; see bucket.
        """
        buckets: dict[tuple[int, int], list[int]] = {}
        for i, size in enumerate(sizes):
            buckets.setdefault(self.bucket(*size), []).append(i)
        batches = []
        for size, indices in buckets.items():
            rows = batch_rows(len(indices), size, self._config.test.batch)
            batches += [Batch(indices[i : i + rows], rows, size) for i in range(0, len(indices), rows)]
        return batches

    def bucket(self, height: int, width: int) -> tuple[int, int]:
        """The size that an image is padded to.

        Raises: InputError: the image is smaller than one cell of the network's map.
        """
        stride, scale = self._detector.stride(self._config.model), self._config.test.scale
        if scaled(min(height, width), scale) < stride:
            least = math.ceil(stride / scale)
            raise InputError(
                f"image of {width}x{height} pixels: both sides must be at least {least}, one cell of the network's map"
            )
        return self._detector.input_size(scaled(height, scale), scaled(width, scale), self._config.model)

    def __call__(
        self, params: dict, model_state: dict, batches: Iterable[Batch], load: Callable[[int], np.ndarray]
    ) -> Iterator[tuple[int, Detections]]:
        """Yield (index, detections) of every image of the batches, batch by batch.

        Args:
            batches: of plan.
            load: index -> (H, W, 3) uint8 BGR image; called in threads, ahead of the device.
        """

        def load_resized(index: int) -> Loaded:
            image, scale = load(index), self._config.test.scale
            height, width = image.shape[:2]
            if scale == 1:
                return Loaded(image, height, width)
            return Loaded(cv2.resize(image, (scaled(width, scale), scaled(height, scale))), height, width)

        waiting = None  # the device works on one batch while the next is assembled
        for batch, images in _load_ahead(batches, load_resized):
            found = self.find(params, model_state, *assemble(images, batch))
            if waiting:
                yield from self._collect(*waiting)
            waiting = batch, found
        if waiting:
            yield from self._collect(*waiting)

    def _collect(self, batch: Batch, found: Found) -> Iterator[tuple[int, Detections]]:
        found = jax.device_get(found)
        for row, index in enumerate(batch.indices):
            real = found.scores[row] > 0
            boxes, scores, classes = (np.asarray(part)[row][real] for part in found)
            yield index, Detections(boxes, scores, classes, self._class_names)


def find_boxes(
    detector: Detector,
    apply: Callable,
    config: Config,
    params: dict[str, Any],
    model_state: dict[str, Any],
    images: UInt8[jax.Array, "b H W 3"],
    borders: Float[jax.Array, "b 2"],
    factors: Float[jax.Array, "b 2"],
    sizes: Float[jax.Array, "b 2"],
) -> Found:
    """Normalise, network, decode, cells to pixels, non-maximum suppression, best boxes.

    Args:
        images: BGR, padded with zeros before normalisation, so that a pad pixel becomes -mean / std.
        borders: x, y of the image's first pixel in its padded image.
        factors: x, y pixels of the original image for one of the resized image.
        sizes: width, height of the original image; 0 in rows without an image.
    Source: CornerNet, test/coco.py, kp_detection.
    """
    outputs, _ = apply(params, model_state, normalise(images.astype(jnp.float32) / 255), train=False)
    found = detector.decode(outputs, config)
    stride = detector.stride(config.model)
    # Pixels a cell: 511 px make 128 cells, so this is a little less than the stride.
    cell = np.array([side / -(-side // stride) for side in images.shape[2:0:-1]], np.float32)
    border, factor, size = (jnp.tile(xy, 2)[:, None] for xy in (borders, factors, sizes))
    # Differs from CornerNet: an axis has the factor by which it was resized, to whole pixels; there, both the scale.
    boxes = jnp.clip((found.boxes * np.tile(cell, 2) - border) * factor, 0, size)
    # Differs from CornerNet: boxes that lie in the padding altogether are dropped, there they stay as lines.
    empty = (boxes[..., 2:] <= boxes[..., :2]).any(-1)
    scores = jnp.where(empty, -1, found.scores)
    return jax.vmap(partial(select, test=config.test))(Candidates(boxes, scores, found.classes))


def select(found: Candidates, *, test: Test) -> Found:
    """The best boxes of one image after non-maximum suppression within each class."""
    # Differs from CornerNet: exactly max_detections boxes; there, all boxes that tie with the last are kept as well.
    num = min(test.max_detections, len(found.scores))
    if test.nms == "none":
        scores, index = lax.top_k(found.scores, num)
        return Found(found.boxes[index], scores, found.classes[index])
    kept = soft_nms(
        *found, method=test.nms, sigma=test.nms_sigma, iou_threshold=test.nms_iou, floor=test.nms_floor, num=num
    )
    return Found(kept.boxes, kept.scores, found.classes[kept.place])


def batch_rows(count: int, size: tuple[int, int], largest: int) -> int:
    """Rows of the batches for `count` images of a bucket: a full batch, or for few images the next power of two.

    So a bucket is compiled for a handful of batch sizes at most, however many images a call brings.
    """
    largest = max(1, min(largest, largest * LARGE_PX // (size[0] * size[1])))
    return min(largest, 1 << (count - 1).bit_length())


def scaled(side: int, scale: float) -> int:
    """The pixels of a side after resizing."""
    return int(side * scale)


def assemble(
    images: Sequence[Loaded], batch: Batch
) -> tuple[UInt8[np.ndarray, "b H W 3"], Float[np.ndarray, "b 2"], Float[np.ndarray, "b 2"], Float[np.ndarray, "b 2"]]:
    """Put each image into the middle of a black one: the last four arguments of find_boxes.

    Source: CornerNet, utils/image.py, crop_image.
    """
    # Differs from CornerNet: the whole image is placed; there, an odd width or height loses its last column or row.
    padded = np.zeros((batch.rows, *batch.size, 3), np.uint8)
    borders, factors, sizes = np.zeros((3, batch.rows, 2), np.float32)
    for row, (image, *original) in enumerate(images):
        height, width = image.shape[:2]
        y, x = (batch.size[0] - height) // 2, (batch.size[1] - width) // 2
        padded[row, y : y + height, x : x + width] = image
        borders[row], sizes[row] = (x, y), original[::-1]
        factors[row] = sizes[row] / (width, height)
    return padded, borders, factors, sizes


def _load_ahead(batches: Iterable[Batch], load: Callable[[int], Loaded]) -> Iterator[tuple[Batch, list[Loaded]]]:
    waiting: collections.deque[tuple[Batch, list[Future]]] = collections.deque()
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            for batch in batches:
                waiting.append((batch, [pool.submit(load, i) for i in batch.indices]))
                if len(waiting) > AHEAD:
                    ready, futures = waiting.popleft()
                    yield ready, [future.result() for future in futures]
            while waiting:
                ready, futures = waiting.popleft()
                yield ready, [future.result() for future in futures]
        finally:
            pool.shutdown(cancel_futures=True)
