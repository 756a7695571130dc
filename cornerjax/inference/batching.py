"""Images of any size -> boxes: batches of images of a bucket, loaded ahead of the device."""

import collections
import contextlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from cornerjax.config import Config
from cornerjax.detectors.base import Detector, TestProcedure, Truth
from cornerjax.detectors.rows import Detections, Found
from cornerjax.devices import for_rows
from cornerjax.errors import InputError
from cornerjax.inference.whole_image import WholeImage
from cornerjax.threads import THREADS, ahead

AHEAD = 2  # batches loaded before they are needed
WAIT = 32  # how many images may come after one that waits for others of its bucket
T = TypeVar("T")
Item = TypeVar("Item")


class Batch(NamedTuple):
    """Images that are taken together."""

    indices: list[int]  # of the images; fewer than `rows` in the last batch of a bucket
    rows: int
    bucket: Hashable  # see TestProcedure


class BatchPredictor:
    """Predicts with given weights; every shape of batch is compiled once for the life of this object.

    Batches have one of two numbers of rows in a bucket, so that there are few shapes: all that they may have, which
    the devices of this process divide between them, or a single one, on one device.

    Args:
        detector: one of DETECTORS.
        apply: of `nn.functional`, for the network of `config.model`.
        config: `model`, `data.crop_px`, `test` and `legacy` are used.
        class_names: for the results.
    """

    def __init__(self, detector: Detector, apply: Callable, config: Config, class_names: Sequence[str]):
        self._batch, self._class_names = config.test.batch, tuple(class_names)
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
            rows = batch_rows(len(indices), self.rows(bucket, self._batch))
            batches += _batches_of(bucket, indices, rows)
        return batches

    def plan_ahead(self, coming: Iterable[tuple[int, Hashable]], *, most: int, wait: int = 0) -> Iterator[Batch]:
        """Sort images that come one after the other into batches; none waits long for others of its bucket.

        Args:
            coming: index and bucket of each image.
            most: rows at most, but for the devices' share of them.
            wait: how many images may come after one that waits for others of its bucket; 0: WAIT.
        """
        waiting: dict[Hashable, list[int]] = {}  # the bucket whose first image has waited longest stands first
        filled = set()

        def batches_of(bucket: Hashable, *, fill: bool = False) -> list[Batch]:
            indices, rows = waiting.pop(bucket), self.rows(bucket, most)
            return _batches_of(bucket, indices, rows if fill else batch_rows(len(indices), rows))

        for index, bucket in coming:
            while waiting and index - next(iter(waiting.values()))[0] > (wait or WAIT):
                yield from batches_of(next(iter(waiting)))
            waiting.setdefault(bucket, []).append(index)
            if len(waiting[bucket]) == self.rows(bucket, most):
                filled.add(bucket)
                yield from batches_of(bucket)
        for bucket in list(waiting):
            yield from batches_of(bucket, fill=bucket in filled)  # once, so that nothing is compiled for the last ones

    def rows(self, bucket: Hashable, most: int) -> int:
        """The rows of a full batch: `most`, fewer of large images, and as many on each device."""
        rows = self.procedure.rows(bucket, most)
        return rows + -rows % jax.local_device_count()

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
            params, model_state: on one device, or on all, see devices.local_copies.
            batches: of plan or plan_ahead, or others; those that all devices cannot share equally go to one.
            load: index -> (H, W, 3) uint8 BGR image; called in threads, ahead of the device.
            truth: index -> what takes the place of predictions.
        """

        def preprocess(index: int) -> tuple[tuple[int, int], Any]:
            image = load(index)
            return image.shape[:2], self.procedure.preprocess(image, truth(index) if truth else None)

        waiting = None  # the device works on one batch while the next is assembled
        for batch, loaded in _load_ahead(batches, preprocess):
            sizes, images = zip(*loaded, strict=True)
            weights = for_rows((params, model_state), batch.rows)
            found = self.procedure(*weights, images, batch.bucket, batch.rows)
            if waiting:
                yield from self._collect(*waiting)
            waiting = batch, sizes, found
        if waiting:
            yield from self._collect(*waiting)

    def in_order(
        self,
        params: dict,
        model_state: dict,
        items: Iterable[Item],
        load: Callable[[Item], T | InputError],
        image_of: Callable[[T], np.ndarray],
        *,
        most: int = 0,
        wait: int = 0,
    ) -> Iterator[tuple[T, Detections] | InputError]:
        """Yield what was loaded and what is found in it, or what is wrong with it, in the order of the items.

        Few of them are in memory at a time.

        Args:
            load: gives what has the image, which is of an accepted size, or what is wrong; called in threads.
            image_of: of what was loaded, BGR.
            most: images that go through the network together at most; 0: `test.batch`.
            wait: as of plan_ahead.
        """
        waiting: dict[int, T] = {}
        done: dict[int, tuple[T, Detections] | InputError] = {}  # those that wait for one before them

        def coming() -> Iterator[tuple[int, Hashable]]:
            for index, one in enumerate(loaded):
                if isinstance(one, InputError):
                    done[index] = one
                else:
                    waiting[index] = one
                    yield index, self.procedure.bucket(*image_of(one).shape[:2])

        next_index = 0
        with contextlib.closing(ahead(load, items, threads=THREADS, count=THREADS)) as loaded:
            batches = self.plan_ahead(coming(), most=most or self._batch, wait=wait)
            for index, found in self(params, model_state, batches, lambda index: image_of(waiting[index])):
                done[index] = waiting.pop(index), found
                while next_index in done:
                    yield done.pop(next_index)
                    next_index += 1
            yield from (done.pop(index) for index in sorted(done))

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
    """Rows of the batches for `count` images of a bucket: `largest` if more than half of them are used, or else 1."""
    return largest if 2 * count > largest else 1


def _batches_of(bucket: Hashable, indices: list[int], rows: int) -> list[Batch]:
    return [Batch(indices[i : i + rows], rows, bucket) for i in range(0, len(indices), rows)]


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
