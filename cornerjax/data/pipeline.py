"""Training batches: a tf.data pipeline around the workers that make examples.

The only module that imports TensorFlow, which here reads nothing and computes nothing: it groups the positions of
examples into batches, keeps the order of the batches and has them made ahead of time.
"""

import os
from collections.abc import Callable, Generator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # both must be set before TensorFlow is imported
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # not used here, and it announces itself

import contextlib
import weakref
from functools import partial

import numpy as np
import tensorflow as tf
from jaxtyping import Int64

from cornerjax.config import Config
from cornerjax.data import order
from cornerjax.data.batch_memory import BatchMemory, Layout, layout_of
from cornerjax.data.batches import Batches, skipping
from cornerjax.data.crop import Crop
from cornerjax.data.examples import Example, Make, make_example
from cornerjax.data.records import Source
from cornerjax.data.workers import Processes, Threads, open_pool

with contextlib.suppress(RuntimeError):  # raised where the program has used TensorFlow before: then it has decided
    tf.config.set_visible_devices([], "GPU")

MAKING = 2  # batches at the same time: while the last examples of one are made, no worker waits


def make_batches(
    source: Source,
    config: Config,
    *,
    encode: Callable,
    render: Callable,
    crop: Crop | None = None,
    first_step: int = 0,
    host: int = 0,
    hosts: int = 1,
    skipped: set[str] | None = None,
) -> Generator[Example, None, None]:
    """Endless training batches, this host's rows of them, from the one of step first_step on.

    Close it when no more are needed: then its workers end.

    Args:
        source: what to train on.
        config: data and seed are used. With data.on_bad_image="skip", the next image of the source takes the place of
            one that cannot be read, which is logged once; the random draws are those of the position all the same.
        encode, render: the detector's functions, see its contract. With data.worker_kind="process" they and `crop` are
            pickled; functions of a notebook or a script can be.
        crop: the detector's own; None: the shared one.
        first_step: 0, or where a resumed run goes on.
        host, hosts: number of this process and of all of them.
        skipped: gets the reasons, each naming its file, as images are met that cannot be read and are skipped.
    Yields: "image" (b, H, W, 3) float32, normalised BGR, "image_id" (b,) int64 and all that encode and render give;
        with data.render="device" what cornerjax.data.device.finish_batch makes the same of. Arrays are read-only; the
        memory of a batch is used again when none of its arrays is alive.
    Raises: InputError: the batch cannot be split over the hosts; while iterating: an image cannot be read, or with
        data.on_bad_image="skip" no image of many in a row. RunError: a worker process has ended.
    """
    rows = order.host_rows(config.data.batch, host=host, hosts=hosts)
    skip = skipping(set() if skipped is None else skipped) if config.data.on_bad_image == "skip" else None
    make: Make = partial(make_example, config=config, encode=encode, render=render, crop=crop)
    batches = Batches(source, config, rows, skip)
    first = first_step * len(rows)  # this host's examples are numbered from 0 on
    return _iterate(batches, make, layout_of(batches.example(first, make), len(rows)), first)


def _iterate(batches: Batches, make: Make, layout: Layout, first: int) -> Generator[Example, None, None]:
    data, size = batches.config.data, len(batches.rows)
    memory = BatchMemory(layout)
    with contextlib.closing(memory), open_pool(data, make, memory) as pool:
        filling = _Filling(batches, pool, memory)
        # TensorFlow keeps a function that it has been given for as long as the process lives. So this one must not
        # keep the memory of the batches, or the data set.
        filling_or_none = weakref.ref(filling)

        def values(numbers: Int64[np.ndarray, "b"]) -> list[np.ndarray]:
            ours = filling_or_none()
            assert ours is not None
            return ours.values(numbers.tolist())

        @tf.autograph.experimental.do_not_convert  # it reads and rewrites sources otherwise
        def to_tensors(numbers: tf.Tensor) -> dict[str, tf.Tensor]:
            types = [field.dtype for field in layout.fields.values()]
            tensors = tf.numpy_function(values, [numbers], types, stateful=False)
            for tensor, field in zip(tensors, layout.fields.values(), strict=True):
                tensor.set_shape(field.shape)
            return dict(zip(layout.fields, tensors, strict=True))

        dataset = tf.data.Dataset.range(first, 2**62).batch(size, drop_remainder=True)
        dataset = dataset.map(to_tensors, num_parallel_calls=MAKING, deterministic=True).prefetch(1)
        for batch in dataset.with_options(_options()).as_numpy_iterator():
            if first in filling.failures:
                raise filling.failures[first]
            yield batch
            del batch  # its memory may be used again while the next one is waited for
            first += size


class _Filling:
    """What makes the batches that TensorFlow asks for.

    Attributes:
        failures: what went wrong, by the number of a batch's first example. TensorFlow would wrap it and print it: it
            is kept for the one who takes the batch.
    """

    def __init__(self, batches: Batches, pool: Threads | Processes, memory: BatchMemory):
        self._batches, self._pool, self._memory = batches, pool, memory
        self.failures: dict[int, Exception] = {}

    def values(self, numbers: list[int]) -> list[np.ndarray]:
        """The arrays of the batch of examples of these numbers; zeros where something went wrong."""
        try:
            batch = self._batches.fill(numbers, self._pool, self._memory)
        except Exception as e:
            self.failures[numbers[0]] = e
            fields = self._memory.layout.fields
            batch = {name: np.zeros(field.shape, field.dtype) for name, field in fields.items()}
        return list(batch.values())


def _options() -> tf.data.Options:
    """No more threads than needed: the training step runs in the same process."""
    options = tf.data.Options()
    options.autotune.enabled = False
    options.threading.private_threadpool_size = MAKING + 1
    options.threading.max_intra_op_parallelism = 1
    return options
