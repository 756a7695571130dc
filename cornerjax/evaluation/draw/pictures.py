"""Pictures of true and found boxes, side by side."""

from collections.abc import Iterator

import numpy as np

from cornerjax import drawing
from cornerjax.data.records import Source, read_image
from cornerjax.detectors.rows import Detections

SHOWN_SCORE = 0.5  # boxes below are left out of pictures: a sure corner paired with a doubtful one scores a little less


def draw_pictures(source: Source, detections: list[Detections], count: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (image id, (H, W, 3) uint8 BGR) of at most `count` images, evenly over the data set; true boxes are left.

    Args:
        detections: of every record of the source.
    Raises: InputError: an image cannot be read.
    """
    for i in evenly_spaced(len(source.records), count):
        yield source.records[i].image_id, _picture(source, detections, i)


def evenly_spaced(total: int, count: int) -> list[int]:
    """Which of `total` images are drawn: their indices, always the same ones."""
    return sorted({i * total // count for i in range(count)}) if count > 0 else []


def _picture(source: Source, detections: list[Detections], index: int) -> np.ndarray:
    record, names = source.records[index], source.class_names
    image, found = read_image(record), detections[index].above(SHOWN_SCORE)
    true = drawing.draw_boxes(image, record.boxes, record.classes, class_names=names, title="true")
    mine = drawing.draw_boxes(
        image,
        found.boxes,
        found.classes,
        class_names=names,
        scores=found.scores,
        title=f"found, {SHOWN_SCORE} and more",
    )
    return drawing.sheet([true, mine], columns=2)
