"""A data set in memory: one record an image, and how its pixels are read."""

import dataclasses
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from cornerjax.data.images import decode_image, load_image
from cornerjax.errors import InputError
from cornerjax.keypoints import Objects

log = logging.getLogger("cornerjax")


class Stored(NamedTuple):
    """Where an image is stored that is not a file of its own.

    Attributes:
        folder: of the larger files that hold it.
        read: reads the encoded image; InputError: it cannot be read.
        turned: whether its size and boxes are those of the image turned as its EXIF data says.
    """

    folder: Path
    read: Callable[[], bytes]
    turned: bool


@dataclasses.dataclass(frozen=True)
class Record:
    """One image and its objects.

    Attributes:
        image_id: the data set's own number.
        path: of the image; what messages call one that is not a file of its own.
        height, width: of the image, in pixels.
        boxes: x1 y1 x2 y2 in pixels of the image.
        classes: from 0.
        stored: where the image is stored; None: in the file `path`.
        points: other points of the objects, x, y in pixels of the image; names end in "_points", as "extreme_points".
    """

    image_id: int
    path: Path
    height: int
    width: int
    boxes: Float[np.ndarray, "n 4"]
    classes: Int[np.ndarray, "n"]
    stored: Stored | None = None
    points: dict[str, Float[np.ndarray, "n _ 2"]] = dataclasses.field(default_factory=dict)

    @property
    def objects(self) -> Objects:
        """Everything that is known of the objects, one row each: "boxes", "classes" and all of `points`."""
        return {"boxes": self.boxes, "classes": self.classes} | self.points

    @property
    def folder(self) -> Path:
        """The folder without which the image cannot be read."""
        return self.stored.folder if self.stored else self.path.parent

    @property
    def turned(self) -> bool:
        """Whether the image is to be turned as its EXIF data says."""
        return self.stored.turned if self.stored else True


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set.

    Attributes:
        records: in the order of their image ids. Positions of the training data count in this order, so that the same
            images give the same batches whether they lie in a folder, in the order of its JSON, or in TFDS's shards,
            which are shuffled. The objects of an image are in the order of their annotation ids, for the same reason.
        class_names: in the order of the category ids, or in that of a detector, see classes.align_classes.
        category_ids: the data set's own number of each class; None of a class that only the detector has.
        annotation_file: a COCO-format JSON with all this.
    """

    records: list[Record]
    class_names: tuple[str, ...]
    category_ids: tuple[int | None, ...]
    annotation_file: Path


def read_image(record: Record) -> UInt8[np.ndarray, "H W 3"]:
    """Decode the image of a record, BGR, turned as its EXIF data says if its boxes are those of the turned image.

    Raises: InputError: it cannot be read, or its size is not the record's.
    """
    try:
        if record.stored:
            image = decode_image(record.stored.read(), record.path, turned=record.turned)
        else:
            image = load_image(record.path)
    except InputError:
        if not is_gone(record.folder):
            raise
        raise InputError(
            f"cannot read {record.path}: the folder {record.folder} is gone; is the data directory still there?"
        ) from None
    if image.shape[:2] != (record.height, record.width):
        raise InputError(
            f"{record.path} is {image.shape[1]}x{image.shape[0]} pixels, "
            f"but the annotation file says {record.width}x{record.height} for image id {record.image_id}"
        )
    return image


def is_gone(folder: Path) -> bool:
    """Whether a folder no longer exists or cannot be reached."""
    return not os.path.isdir(folder)  # Path.is_dir raises where a network drive is lost


def check_counts(source: Source, max_objects: int) -> None:
    """Warn if images have more objects than a training example holds; crops that show few of them lose none.

    Raises: InputError: no image has a box.
    """
    counts = [len(record.classes) for record in source.records]
    if not any(counts):
        raise InputError(f"{source.annotation_file}: no image has a box to train on; expected at least one")
    over = [count - max_objects for count in counts if count > max_objects]
    if over:
        log.warning(
            "%s: %d images have more than data.max_objects = %d objects; up to %d objects are left out of training",
            source.annotation_file,
            len(over),
            max_objects,
            sum(over),
        )
