"""Training batches: a tf.data pipeline around the functions that make one example.

The only module that imports TensorFlow, which here reads nothing and computes nothing: it runs the workers, keeps
their order and makes batches ahead of time.
"""

import os
from collections.abc import Callable, Generator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # both must be set before TensorFlow is imported
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # not used here, and it announces itself

import contextlib
import logging
import threading

import numpy as np
import tensorflow as tf
from jaxtyping import UInt8

from cornerjax.config import Config
from cornerjax.data import order
from cornerjax.data.crop import Crop, as_arrays, crop_at
from cornerjax.data.records import Record, Source, is_gone, read_image
from cornerjax.errors import InputError
from cornerjax.ops.pixels import finish_image

with contextlib.suppress(RuntimeError):  # raised where the program has used TensorFlow before: then it has decided
    tf.config.set_visible_devices([], "GPU")

log = logging.getLogger("cornerjax")
IN_A_ROW = 20  # so many images that cannot be read, one after the other: it is not the images

Example = dict[str, np.ndarray]


def make_example(
    source: Source,
    config: Config,
    position: int,
    *,
    encode: Callable,
    render: Callable,
    crop: Crop | None = None,
    skip: Callable[[InputError], None] | None = None,
) -> Example:
    """The example at a global position: a pure function of (source, config, position); arguments as in make_batches.

    Args:
        skip: called with why an image cannot be read; the example is then made of the next one of the source, with the
            random draws of the position all the same. None: that is an error.
    Raises: InputError: the image cannot be read, nor, with `skip`, any of the next ones.
    """
    index = order.image_index(position, seed=config.seed, num_images=len(source.records))
    if skip:
        record, picture = _readable(source, index, skip)
    else:
        record = source.records[index]
        picture = read_image(record)
    draws, image, objects = crop_at(position, record, picture, config, crop)
    example = {"image_id": np.array(record.image_id, np.int64)} | encode(objects, config)
    if config.data.render == "device":
        return example | as_arrays(draws) | {"image": image}
    finished = finish_image(image, draws.flip, draws.jitter_order, draws.jitter, draws.lighting, np)
    return example | render(example, config, np) | {"image": finished}


def _readable(
    source: Source, index: int, skip: Callable[[InputError], None]
) -> tuple[Record, UInt8[np.ndarray, "H W 3"]]:
    """The first image from an index on that can be read."""
    bad: list[InputError] = []
    for i in range(index, index + min(IN_A_ROW, len(source.records))):
        record = source.records[i % len(source.records)]
        try:
            image = read_image(record)
        except InputError as e:
            if is_gone(record.folder):
                raise
            bad.append(e)
            continue
        for reason in bad:
            skip(reason)
        return record, image
    raise InputError(
        f"none of {len(bad)} images in a row could be read, the first of them: {bad[0]}; "
        f"is the data directory {source.records[index].folder} still there?"
    )


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

    Args:
        source: what to train on.
        config: data and seed are used. With data.on_bad_image="skip", the next image of the source takes the place of
            one that cannot be read, which is logged once.
        encode, render: the detector's functions, see its contract.
        crop: the detector's own; None: the shared one.
        first_step: 0, or where a resumed run goes on.
        host, hosts: number of this process and of all of them.
        skipped: gets the reasons, each naming its file, as images are met that cannot be read and are skipped.
    Yields: "image" (b, H, W, 3) float32, normalised BGR, "image_id" (b,) int64 and all that encode and render give;
        with data.render="device" what cornerjax.data.device.finish_batch makes the same of. Arrays are read-only.
    Raises: InputError: the batch cannot be split over the hosts; while iterating: an image cannot be read, or with
        data.on_bad_image="skip" no image of many in a row.
    """
    data = config.data
    rows = order.host_rows(data.batch, host=host, hosts=hosts)
    first = first_step * len(rows)  # this host's examples are numbered; i is such a number
    failures: dict[int, Exception] = {}
    skip = _skipping(set() if skipped is None else skipped) if data.on_bad_image == "skip" else None

    def example_at(i: int) -> Example:
        position = order.host_position(i, data.batch, rows)
        return make_example(source, config, position, encode=encode, render=render, crop=crop, skip=skip)

    def example_values(i: np.int64) -> list[np.ndarray]:
        try:
            return list(example_at(int(i)).values())
        except Exception as e:  # TensorFlow would wrap it and print it: it is kept for the one who takes the batch
            failures[int(i)] = e
            return [np.zeros_like(value) for value in form.values()]

    form = example_at(first)  # its names, shapes and types are those of all

    @tf.autograph.experimental.do_not_convert  # it reads and rewrites sources otherwise
    def to_tensors(i: tf.Tensor) -> dict[str, tf.Tensor]:
        values = tf.numpy_function(example_values, [i], [value.dtype for value in form.values()], stateful=False)
        for value, like in zip(values, form.values(), strict=True):
            value.set_shape(like.shape)
        return dict(zip(form, values, strict=True))

    dataset = tf.data.Dataset.range(first, 2**62)
    dataset = dataset.map(to_tensors, num_parallel_calls=data.workers, deterministic=True)
    dataset = dataset.batch(len(rows), drop_remainder=True).prefetch(2).with_options(_options(data.workers))
    return _iterate(dataset, first, len(rows), failures)


def _skipping(skipped: set[str]) -> Callable[[InputError], None]:
    """What to do with an image that is skipped: log it, the first time, and how many there are."""
    lock = threading.Lock()  # several workers may meet the same image

    def skip(reason: InputError) -> None:
        with lock:
            if str(reason) in skipped:
                return
            skipped.add(str(reason))
            log.warning("%s; the next image takes its place, images skipped so far: %d", reason, len(skipped))

    return skip


def _iterate(
    dataset: tf.data.Dataset, first: int, size: int, failures: dict[int, Exception]
) -> Generator[Example, None, None]:
    for batch in dataset.as_numpy_iterator():
        for i in range(first, first + size):
            if i in failures:
                raise failures[i]
        yield batch
        first += size


def _options(workers: int) -> tf.data.Options:
    """No more threads than asked for: the training step runs in the same process."""
    options = tf.data.Options()
    options.autotune.enabled = False
    options.threading.private_threadpool_size = workers + 1  # one more assembles batches
    options.threading.max_intra_op_parallelism = 1
    return options
