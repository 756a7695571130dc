"""Photos on disk: read, reduced where they are too large, boxes predicted in them; pictures of them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8

from cornerjax.data.images import decode_image, size_of
from cornerjax.detectors.rows import Detections
from cornerjax.errors import InputError
from cornerjax.files import read_bytes, write_atomically
from cornerjax.inference.predictor import Predictor

TOGETHER = 8  # photos that go through the network together at most


class Photo(NamedTuple):
    """A photo as the network gets it, BGR, and the height and width of its file, turned as its EXIF data says."""

    image: UInt8[np.ndarray, "H W 3"]
    size: tuple[int, int]


class Prediction(NamedTuple):
    """A photo and what was found in it, in pixels of its file."""

    photo: Photo
    found: Detections


def predict_files(
    predictor: Predictor, photos: Sequence[Path], *, max_side: int = 0
) -> Iterator[Prediction | InputError]:
    """Yield what is found in every photo, in order, or what is wrong with it; few are in memory at a time.

    Args:
        max_side: larger photos are reduced to this longer side first, in pixels; 0: none.
    """

    def load(path: Path) -> Photo | InputError:
        try:
            photo = read_photo(path, max_side=max_side)
            predictor.check_size(photo.image, path)
        except InputError as e:
            return e
        return photo

    batches = predictor.batches
    for one in batches.in_order(*predictor.copies, photos, load, lambda photo: photo.image, most=TOGETHER):
        yield one if isinstance(one, InputError) else Prediction(one[0], resized(one[1], one[0]))


def resized(found: Detections, photo: Photo) -> Detections:
    """Boxes in pixels of the image that the network got -> in those of the file."""
    (height, width), (rows, columns) = photo.size, photo.image.shape[:2]
    return found.scaled(width / columns, height / rows)


def read_photo(path: Path, *, max_side: int) -> Photo:
    """Decode a photo, no larger than is needed: a JPEG that is to be reduced is never in memory at its full size.

    Raises: InputError: it is not there, or is no image.
    """
    content = read_bytes(path, "an image file")
    image = decode_image(content, path, most_side=max_side)
    return Photo(reduced(image, max_side), size_of(content, image) if max_side else (image.shape[0], image.shape[1]))


def reduced(image: UInt8[np.ndarray, "H W 3"], max_side: int) -> UInt8[np.ndarray, "_ _ 3"]:
    """The image itself, or a smaller one whose longer side is max_side; 0: the image itself."""
    height, width = image.shape[:2]
    factor = max_side / max(height, width) if max_side else 1
    if factor >= 1:
        return image
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def save_picture(path: Path, picture: UInt8[np.ndarray, "H W 3"]) -> None:
    """Write a JPEG; whoever reads it finds all of it.

    Raises:
        InputError: see as_jpeg.
        OSError: it cannot be written.
    """
    write_atomically(path, as_jpeg(path, picture))


def as_jpeg(path: Path, picture: UInt8[np.ndarray, "H W 3"]) -> bytes:
    """A picture as the content of a file.

    Args:
        path: of the file, for the error.
    Raises: InputError: it is too large for a JPEG.
    """
    encoded, content = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])
    if not encoded:
        height, width = picture.shape[:2]
        raise InputError(f"cannot write {path}: a JPEG of {width}x{height} pixels; accepted are sides of up to 65500")
    return content.tobytes()
