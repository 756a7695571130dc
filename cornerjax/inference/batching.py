"""Images of any size -> boxes: batches of images of a bucket, loaded ahead of the device."""

import collections
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from cornerjax.config import Config
from cornerjax.detectors.base import Detector, TestProcedure, Truth
from cornerjax.detectors.rows import Detections, Found
from cornerjax.inference.whole_image import WholeImage

THREADS = 4  # that load images
AHEAD = 2  # batches loaded before they are needed
T = TypeVar("T")


class Batch(NamedTuple):
    """Images that are taken together."""

    indices: list[int]  # of the images; fewer than `rows` in the last batch of a bucket
    rows: int
    bucket: Hashable  # see TestProcedure


class BatchPredictor:
    """Predicts with given weights; every shape of batch is compiled once for the life of this object.

    Args:
        detector: one of DETECTORS.
        apply: of `nn.functional`, for the network of `config.model`.
        config: `model`, `data.crop_px`, `test` and `legacy` are used.
        class_names: for the results.
        devices: over how many a batch is divided; the weights must be on each, see devices.over_devices.
    """

    def __init__(
        self, detector: Detector, apply: Callable, config: Config, class_names: Sequence[str], *, devices: int = 1
    ):
        self._batch, self._class_names, self._devices = config.test.batch, tuple(class_names), devices
        self._extras = detector.extras
        self.procedure: TestProcedure = (detector.procedure or partial(WholeImage, detector))(apply, config)

    def plan(self, sizes: Sequence[tuple[int, int]]) -> list[Batch]:
        """Sort images into batches: those of a bucket together, in their order.

        Args:
            sizes: height and width of every image.
        Raises: InputError: an image is too small, see TestProcedure.
        """
        buckets: dict[Hashable, list[int]] = {}
        for i, size in enumerate(sizes):
            buckets.setdefault(self.procedure.bucket(*size), []).append(i)
        batches = []
        for bucket, indices in buckets.items():
            rows = batch_rows(len(indices), self.procedure.rows(bucket, self._batch))
            rows += -rows % self._devices
            batches += [Batch(indices[i : i + rows], rows, bucket) for i in range(0, len(indices), rows)]
        return batches

    def __call__(
        self,
        params: dict,
        model_state: dict,
        batches: Iterable[Batch],
        load: Callable[[int], np.ndarray],
        truth: Callable[[int], Truth] | None = None,
    ) -> Iterator[tuple[int, Detections]]:
        """Yield (index, detections) of every image of the batches, batch by batch.

        Args:
            batches: of plan.
            load: index -> (H, W, 3) uint8 BGR image; called in threads, ahead of the device.
            truth: index -> what takes the place of predictions.
        """

        def preprocess(index: int) -> tuple[tuple[int, int], Any]:
            image = load(index)
            return image.shape[:2], self.procedure.preprocess(image, truth(index) if truth else None)

        waiting = None  # the device works on one batch while the next is assembled
        for batch, loaded in _load_ahead(batches, preprocess):
            sizes, images = zip(*loaded, strict=True)
            found = self.procedure(params, model_state, images, batch.bucket, batch.rows)
            if waiting:
                yield from self._collect(*waiting)
            waiting = batch, sizes, found
        if waiting:
            yield from self._collect(*waiting)

    def _collect(
        self, batch: Batch, sizes: Sequence[tuple[int, int]], found: Found
    ) -> Iterator[tuple[int, Detections]]:
        found = jax.device_get(found)
        for row, (index, size) in enumerate(zip(batch.indices, sizes, strict=True)):
            real = found.scores[row] >= 0
            boxes, scores, classes, extra = jax.tree.map(lambda part, row=row, real=real: part[row][real], found)
            extra = {name: extra[name] for name in self._extras}
            yield index, Detections(boxes, scores, classes, self._class_names, extra, size)


def batch_rows(count: int, largest: int) -> int:
    """Rows of the batches for `count` images of a bucket: a full batch, or for few images the next power of two.

    So a bucket is compiled for a handful of batch sizes at most, however many images a call brings.
    """
    return min(largest, 1 << (count - 1).bit_length())


def _load_ahead(batches: Iterable[Batch], load: Callable[[int], T]) -> Iterator[tuple[Batch, list[T]]]:
    waiting: collections.deque[tuple[Batch, list[Future[T]]]] = collections.deque()
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
