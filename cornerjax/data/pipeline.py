"""Training batches: a tf.data pipeline around the functions that make one example.

The only module that imports TensorFlow, which here reads nothing and computes nothing: it runs the workers, keeps
their order and makes batches ahead of time.
"""

import os
from collections.abc import Callable, Iterator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # both must be set before TensorFlow is imported
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # not used here, and it announces itself

import contextlib

import cv2
import numpy as np
import tensorflow as tf

from cornerjax.config import Config
from cornerjax.data import order
from cornerjax.data.coco import CocoSource, read_image
from cornerjax.data.crop import as_arrays, crop_example, draw, flip_objects
from cornerjax.ops.pixels import finish_image

with contextlib.suppress(RuntimeError):  # raised where the program has used TensorFlow before: then it has decided
    tf.config.set_visible_devices([], "GPU")

Example = dict[str, np.ndarray]


def make_example(
    source: CocoSource,
    config: Config,
    position: int,
    *,
    encode: Callable,
    render: Callable,
    crop: Callable | None = None,
) -> Example:
    """The example at a global position: a pure function of (source, config, position); arguments as in make_batches.

    Raises: InputError: the image cannot be read.
    """
    data = config.data
    record = source.records[order.image_index(position, seed=config.seed, num_images=len(source.records))]
    draws = draw(order.generator(config.seed, position), record.height, record.width, data)
    objects = {"boxes": record.boxes, "classes": record.classes}
    image, objects = (crop or crop_example)(read_image(record), objects, draws, config)
    if draws.flip:
        objects = flip_objects(objects, image.shape[1])
    example = {"image_id": np.array(record.image_id, np.int64)} | encode(objects, config)
    if data.render == "device":
        return example | as_arrays(draws) | {"image": image}
    image = finish_image(image, draws.flip, draws.jitter_order, draws.jitter, draws.lighting, np)
    return example | render(example, config, np) | {"image": image}


def make_batches(
    source: CocoSource,
    config: Config,
    *,
    encode: Callable,
    render: Callable,
    crop: Callable | None = None,
    first_step: int = 0,
    host: int = 0,
    hosts: int = 1,
) -> Iterator[Example]:
    """Endless training batches, this host's rows of them, from the one of step first_step on.

    Args:
        source: what to train on.
        config: data and seed are used.
        encode, render: the detector's functions, see its contract.
        crop: the detector's own, (image, objects, draws, config) -> (image, objects); None: the shared one.
        first_step: 0, or where a resumed run goes on.
        host, hosts: number of this process and of all of them.
    Yields: "image" (b, H, W, 3) float32, normalised BGR, "image_id" (b,) int64 and all that encode and render give;
        with data.render="device" what cornerjax.data.device.finish_batch makes the same of. Arrays are read-only.
    Raises: InputError: the batch cannot be split over the hosts; while iterating: an image cannot be read.
    """
    data = config.data
    rows = order.host_rows(data.batch, host=host, hosts=hosts)
    first = first_step * len(rows)  # this host's examples are numbered; i is such a number
    failures: dict[int, Exception] = {}

    def example_at(i: int) -> Example:
        position = order.host_position(i, data.batch, rows)
        return make_example(source, config, position, encode=encode, render=render, crop=crop)

    def example_values(i: np.int64) -> list[np.ndarray]:
        try:
            return list(example_at(int(i)).values())
        except Exception as e:  # TensorFlow would wrap it and print it: it is kept for the one who takes the batch
            failures[int(i)] = e
            return [np.zeros_like(value) for value in form.values()]

    cv2.setNumThreads(0)  # the workers are the threads
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


def _iterate(dataset: tf.data.Dataset, first: int, size: int, failures: dict[int, Exception]) -> Iterator[Example]:
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
