"""Image files, for training, evaluation and prediction alike."""

import os
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from cornerjax.errors import InputError


def load_image(path: str | os.PathLike[str]) -> UInt8[np.ndarray, "H W 3"]:
    """Read and decode a file, see decode_image.

    Raises: InputError: it is not there, or is no image.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as e:
        raise InputError(f"cannot read {path}: {e.strerror}; expected an image file") from None
    return decode_image(content, path)


def decode_image(content: bytes, name: str | os.PathLike[str], *, turned: bool = True) -> UInt8[np.ndarray, "H W 3"]:
    """Decode an image, BGR; an alpha channel is left out.

    Args:
        name: for messages.
        turned: as its EXIF data says; False: as it is stored.
    Raises: InputError: it is no image; the message says the name.
    """
    flags = cv2.IMREAD_COLOR | (0 if turned else cv2.IMREAD_IGNORE_ORIENTATION)
    try:
        # Not cv2.imread: it takes a JPEG that is cut short and makes the rest grey.
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flags) if content else None
    except cv2.error:  # more pixels than OpenCV allows, say
        image = None
    if image is None:
        raise InputError(f"cannot read {name} as an image; expected an intact JPEG, PNG or the like")
    return image
