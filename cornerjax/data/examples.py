"""One training example. Input workers import this, and no TensorFlow."""

from collections.abc import Callable, Sequence

import numpy as np

from cornerjax.config import Config
from cornerjax.data.crop import Crop, as_arrays, crop_at
from cornerjax.data.records import Record, read_image
from cornerjax.ops.pixels import finish_image

Example = dict[str, np.ndarray]
Make = Callable[[Record, int], Example]  # make_example, given all but the first two
Row = tuple[int, int, Record]  # row of a batch, global position, image


def make_example(
    record: Record, position: int, config: Config, *, encode: Callable, render: Callable, crop: Crop | None = None
) -> Example:
    """The example of an image at a global position, a pure function of both; arguments as in pipeline.make_batches.

    Raises: InputError: the image cannot be read.
    """
    draws, image, objects = crop_at(position, record, read_image(record), config, crop)
    example = {"image_id": np.array(record.image_id, np.int64)} | encode(objects, config)
    if config.data.render == "device":
        return example | as_arrays(draws) | {"image": image}
    finished = finish_image(image, draws.flip, draws.jitter_order, draws.jitter, draws.lighting, np)
    return example | render(example, config, np) | {"image": finished}


def fill(make: Make, batch: Example, rows: Sequence[Row]) -> list[Exception | None]:
    """Make examples in their rows of a batch; of each, what went wrong."""
    return [_fill(make, batch, *row) for row in rows]


def _fill(make: Make, batch: Example, row: int, position: int, record: Record) -> Exception | None:
    try:
        for name, value in make(record, position).items():
            batch[name][row] = value
    except Exception as e:
        return e
    return None
