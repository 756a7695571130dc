"""Image files, for training, evaluation and prediction alike."""

import contextlib
import io
import math
import os
import re
import struct
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
import PIL.Image
from jaxtyping import UInt8
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from cornerjax.errors import InputError
from cornerjax.files import read_bytes

MOST_PIXELS = 2**28  # of an image; decoding one takes up to 1.6 GB
ORIENTATION = 0x0112  # EXIF's tag
SIDEWAYS = (5, 6, 7, 8)  # its values for which width and height change places
JPEG, TIFF = "JPEG", "TIFF"

_REDUCED = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}

Image = UInt8[np.ndarray, "H W 3"]

# What files begin with, and who reads their headers: Pillow's classes themselves, as Image.open refuses large images.
_READERS: tuple[tuple[bytes, type[ImageFile.ImageFile]], ...] = (
    (b"\xff\xd8", JpegImagePlugin.JpegImageFile),
    (b"\x89PNG", PngImagePlugin.PngImageFile),
    (b"RIFF", WebPImagePlugin.WebPImageFile),
    (b"II", TiffImagePlugin.TiffImageFile),
    (b"MM", TiffImagePlugin.TiffImageFile),
    (b"BM", BmpImagePlugin.BmpImageFile),
)

# Formats of which only the size is asked, as OpenCV has ways of its own to turn them: how files begin, readers.
_SIZES: tuple[tuple[bytes, type[ImageFile.ImageFile]], ...] = (
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", Jpeg2KImagePlugin.Jpeg2KImageFile),
    (rb"....ftypavi[fs]", AvifImagePlugin.AvifImageFile),
    (rb"P[1-6]\s", PpmImagePlugin.PpmImageFile),
)

# How an image that was turned by its orientation is turned back.
_BACK: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image),
    7: lambda image: np.rot90(image, 2).swapaxes(0, 1),
    8: lambda image: np.rot90(image, -1),
}


class Header(NamedTuple):
    """What a file says of its image: the size as it is stored, EXIF's orientation (1: upright), and the format."""

    height: int
    width: int
    orientation: int
    format: str
    progressive: bool  # decoded as a whole, at whatever size it is wanted

    @property
    def turned_size(self) -> tuple[int, int]:
        """Height and width as the orientation has it."""
        return (self.width, self.height) if self.orientation in SIDEWAYS else (self.height, self.width)


def read_header(content: bytes) -> Header | None:
    """The header of an image; None: it is damaged, or of a format that only decoding tells of."""
    reader = next((reader for start, reader in _READERS if content.startswith(start)), None)
    if reader is None:
        return None
    try:
        with reader(io.BytesIO(content)) as image:
            (width, height), turn = image.size, _orientation(image)
            if image.format == TIFF and turn in SIDEWAYS:  # Pillow gives the size of the turned one
                width, height = height, width
            return Header(height, width, turn, image.format or "", "progressive" in image.info)
    except Exception:  # what Pillow raises for damaged bytes is of all kinds
        return None


def _orientation(image: ImageFile.ImageFile) -> int:
    """EXIF's; not by getexif(), which decodes whole PNGs and knows that of XMP, which OpenCV does not."""
    exif = PIL.Image.Exif()
    with contextlib.suppress(Exception):  # damaged EXIF data is none
        exif.load(image.info.get("exif", b""))
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        exif[ORIENTATION] = image.tag_v2.get(ORIENTATION, 1)
    turn = exif.get(ORIENTATION, 1)
    return turn if turn in _BACK else 1


def _pixels(content: bytes, header: Header | None) -> int | None:
    """How many an image has; None where only decoding tells."""
    if header:
        return header.height * header.width
    if re.match(rb"\x89PNG.{8}IHDR.{8}", content, re.DOTALL):  # of which Pillow refuses more than OpenCV does
        return math.prod(struct.unpack(">II", content[16:24]))
    if re.match(b"GIF8.{6}", content, re.DOTALL):
        return math.prod(struct.unpack("<HH", content[6:10]))
    for start, reader in _SIZES:
        if re.match(start, content, re.DOTALL):
            with contextlib.suppress(Exception), reader(io.BytesIO(content)) as image:  # errors of all kinds
                return math.prod(image.size)
    return None


def load_image(path: str | os.PathLike[str]) -> Image:
    """Read and decode a file, see decode_image.

    Raises: InputError: it is not there, or is no image.
    """
    return decode_image(read_bytes(path, "an image file"), path)


def decode_image(content: bytes, name: str | os.PathLike[str], *, turned: bool = True, most_side: int = 0) -> Image:
    """Decode an image, BGR; an alpha channel is left out.

    Args:
        name: for messages.
        turned: as its EXIF data says; False: as it is stored.
        most_side: a JPEG of twice this longer side or more may be decoded at a half, a quarter or an eighth of its
            size, but not below it, and is never in memory at its full size; 0: all are decoded whole.
    Raises: InputError: it is no image, or has more than MOST_PIXELS; the message says the name.
    """
    header = read_header(content)
    reduced = _reduction(header, most_side)
    flags = (reduced or cv2.IMREAD_COLOR) | (0 if turned else cv2.IMREAD_IGNORE_ORIENTATION)
    pixels = _pixels(content, header)
    if pixels and pixels > MOST_PIXELS and not (header and reduced and not header.progressive):
        raise InputError(f"{name} has {pixels:,} pixels; accepted are up to {MOST_PIXELS:,}")
    try:
        # Not cv2.imread: it takes a JPEG that is cut short and makes the rest grey.
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flags) if content else None
    except cv2.error:  # more pixels than OpenCV allows, or a side of none
        image = None
    if image is None:
        raise InputError(f"cannot read {name} as an image; expected an intact JPEG, PNG or the like")
    if not turned and header and header.format == TIFF and header.orientation != 1:  # OpenCV turns it all the same
        image = np.ascontiguousarray(_BACK[header.orientation](image))
    return np.asarray(image, np.uint8)


def _reduction(header: Header | None, most_side: int) -> int:
    """The flag to decode an image at a part of its size with, which saves memory with JPEGs only; 0: none."""
    if header and most_side and header.format == JPEG:
        sides = header.height, header.width
        for parts, flag in _REDUCED.items():
            if max(sides) >= parts * most_side and min(sides) >= parts:
                return flag
    return 0


def size_of(content: bytes, image: Image) -> tuple[int, int]:
    """Height and width of a file's image, turned as its EXIF data says, of which `image` may be a reduced one."""
    header = read_header(content)
    return header.turned_size if header and header.format == JPEG else (image.shape[0], image.shape[1])
