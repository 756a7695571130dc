"""Where the time of an evaluation goes: each phase by itself, and the whole procedure as it runs."""

import collections
import dataclasses
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from cornerjax.data.records import Source, read_image
from cornerjax.devices import for_rows, local_copies
from cornerjax.errors import InputError
from cornerjax.inference.batching import Batch, BatchPredictor
from cornerjax.nn.functional import Tree

Seconds = dict[str, float]


@dataclasses.dataclass(frozen=True)
class Milliseconds:
    """An image in one phase: median of the batches, and mean of the images."""

    median: float
    mean: float


@dataclasses.dataclass(frozen=True)
class Timing:
    """What `measure` found.

    Attributes:
        phases: "load" reads and decodes the file; "prepare" is all else that the host does: resize, pad, with Saccade
            choose what to crop; "cut", Saccade's crops; "network", with the copy of its input to the device;
            "decode", from maps to boxes in pixels; "NMS".
        one_by_one: images a second if the phases wait for each other.
        as_it_runs: images a second with images loaded ahead of the device, as in every evaluation.
        device: how many of which kind.
        images: how many were measured, after every shape was compiled.
        batch: images taken together at most.
        buckets: images of each bucket, see TestProcedure.bucket.
        peak_bytes: the most memory in use until then, compilation and earlier work of the process included.
        peak_of: what peak_bytes was measured on: "device" or, where a device does not say, "process".
    """

    phases: dict[str, Milliseconds]
    one_by_one: float
    as_it_runs: float
    device: str
    images: int
    batch: int
    buckets: dict[str, int]
    peak_bytes: int
    peak_of: str


def measure(predictor: BatchPredictor, params: Tree, model_state: Tree, source: Source, *, images: int) -> Timing:
    """Time the first images of a source, every phase by itself and waited for, then all of them as they run.

    Args:
        images: how many; fewer if the source has fewer.
    Raises: InputError: images is less than 1, or one of them cannot be read.
    """
    if images < 1:
        raise InputError(f"{images} images to time; accepted is 1 or more")
    records = source.records[:images]
    params, model_state = local_copies((params, model_state))
    batches = predictor.plan([(record.height, record.width) for record in records])
    phased = _Phased(predictor, params, model_state)

    def load(i: int) -> np.ndarray:
        return read_image(records[i])

    def pass_over() -> tuple[list[Seconds], float]:
        seconds = [phased(batch, load) for batch in batches]
        start = time.perf_counter()
        collections.deque(predictor(params, model_state, batches, load), maxlen=0)
        return seconds, time.perf_counter() - start

    pass_over()  # compiles; all images, as what Saccade compiles depends on what it finds
    seconds, elapsed = pass_over()
    counts = np.array([len(batch.indices) for batch in batches])
    names = list(dict.fromkeys(name for of_batch in seconds for name in of_batch))
    spent = {name: np.array([of_batch.get(name, 0.0) for of_batch in seconds]) for name in names}
    phases = {
        name: Milliseconds(1e3 * float(np.median(s / counts)), 1e3 * float(s.sum() / counts.sum()))
        for name, s in spent.items()
    }
    buckets: collections.Counter[str] = collections.Counter()
    for batch in batches:
        buckets[str(batch.bucket)] += len(batch.indices)
    peak, peak_of = peak_memory()
    device = jax.local_devices()[0]
    cores = f", {os.cpu_count()} cores" if device.platform == "cpu" else ""
    return Timing(
        phases=phases,
        one_by_one=len(records) / float(sum(s.sum() for s in spent.values())),
        as_it_runs=len(records) / elapsed,
        device=f"{jax.local_device_count()} x {device.device_kind}{cores}",
        images=len(records),
        batch=max(batch.rows for batch in batches),
        buckets=dict(buckets),
        peak_bytes=peak,
        peak_of=peak_of,
    )


class _Phased:
    """Finds the boxes of one batch after the other, and says how long each phase took."""

    def __init__(self, predictor: BatchPredictor, params: Tree, model_state: Tree):
        self._seconds: Seconds = {}
        self._weights = params, model_state
        self._procedure = predictor.procedure.in_phases(self._phase)

    def _phase(self, name: str, step: Callable) -> Callable:
        def timed(*args: Any) -> Any:
            start = time.perf_counter()
            result = jax.block_until_ready(step(*args))
            self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - start
            return result

        return timed

    def __call__(self, batch: Batch, load: Callable[[int], np.ndarray]) -> Seconds:
        start = time.perf_counter()
        loaded = [load(i) for i in batch.indices]
        self._seconds = {"load": time.perf_counter() - start, "prepare": 0.0}
        prepared = [self._procedure.preprocess(image) for image in loaded]
        weights = for_rows(self._weights, batch.rows)
        jax.device_get(self._procedure(*weights, prepared, batch.bucket, batch.rows))
        self._seconds["prepare"] = time.perf_counter() - start - sum(self._seconds.values())
        return self._seconds


def peak_memory() -> tuple[int, str]:
    """The most bytes in use so far, and of what: "device", or "process" where the device does not say."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    if all("peak_bytes_in_use" in of_device for of_device in stats):
        return max(of_device["peak_bytes_in_use"] for of_device in stats), "device"
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, "process"
