"""Image files: EXIF is read in one way whatever the format, and hostile ones take neither memory nor time."""

import io
import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from cornerjax.config import Data
from cornerjax.data.coco import ImageEntry, in_folder
from cornerjax.data.images import JPEG, _pixels, decode_image, load_image, read_header, size_of
from cornerjax.errors import InputError
from cornerjax.files import read_bytes
from cornerjax.inference.files import read_photo

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF")


def with_orientation(image, kind, orientation):
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    lossless = {"lossless": True} if kind == "WEBP" else {"quality": 98, "subsampling": 0} if kind == JPEG else {}
    Image.fromarray(image).save(file, kind, exif=exif, **lossless)
    return file.getvalue()


@pytest.fixture
def picture():
    """Of four colours in its quarters, which no turn leaves in place."""
    quarters = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8)
    return np.kron(quarters, np.ones((32, 64, 1), np.uint8))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_turned_alike_and_can_be_left_as_it_is(picture, kind, orientation):
    content = with_orientation(picture, kind, orientation)
    stored = decode_image(content, "x", turned=False)
    turned = decode_image(content, "x")
    np.testing.assert_allclose(stored[..., ::-1].astype(int), picture, atol=20)
    header = read_header(content)
    assert header is not None
    assert (header.turned_size, header.format) == (turned.shape[:2], kind)
    upright = with_orientation(np.ascontiguousarray(turned[..., ::-1]), kind, 1)
    np.testing.assert_allclose(decode_image(upright, "x").astype(int), turned.astype(int), atol=20)
    with Image.open(io.BytesIO(with_orientation(picture, "PNG", orientation))) as image:
        pillows = np.asarray(image.transpose(TURNS[orientation]) if orientation in TURNS else image)
    np.testing.assert_allclose(turned[..., ::-1].astype(int), pillows, atol=20)


TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@pytest.mark.parametrize("kind", FORMATS)
def test_a_photo_that_is_turned_and_reduced_keeps_its_sides(picture, kind, tmp_path):
    (tmp_path / "x").write_bytes(with_orientation(picture, kind, 6))
    for max_side, shape in ((0, (128, 64)), (64, (64, 32)), (20, (20, 10))):
        photo = read_photo(tmp_path / "x", max_side=max_side)
        assert photo.size == (128, 64)
        assert photo.image.shape[:2] == shape
    assert size_of(b"", picture) == (64, 128)


def png_of(width, height):
    """A PNG whose header says this size, with the data of an empty one."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_an_image_of_more_pixels_than_there_is_memory_for_is_not_decoded(monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(InputError, match=r"^big\.png has 900,000,000 pixels; accepted are up to 268,435,456$"):
        decode_image(png_of(30_000, 30_000), "big.png")
    with pytest.raises(InputError, match=r"^big\.png has 900,000,000"):
        decode_image(png_of(30_000, 30_000), "big.png", most_side=500)  # a PNG is decoded whole whatever is wanted


@pytest.mark.parametrize(
    ("kind", "options"),
    [("JPEG", {}), ("PNG", {}), ("WEBP", {}), ("TIFF", {}), ("BMP", {}), ("GIF", {}), ("AVIF", {}), ("JPEG2000", {}),
     ("JPEG2000", {"no_jp2": True}), ("PPM", {})],
)  # fmt: skip
def test_the_size_is_known_before_anything_is_decoded(monkeypatch, kind, options):
    file = io.BytesIO()
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(file, kind, **options)
    assert decode_image(file.getvalue(), "small").shape == (40, 60, 3)
    monkeypatch.setattr("cornerjax.data.images.MOST_PIXELS", 2399)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(InputError, match=r"^small has 2,400 pixels; accepted are up to 2,399$"):
        decode_image(file.getvalue(), "small")


@pytest.mark.parametrize("kind", [b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"])
def test_the_size_of_every_portable_map_is_known_comments_in_it_or_not(kind):
    with pytest.raises(InputError, match=r"^big has 900,000,000 pixels"):
        decode_image(kind + b"\n# by a camera\n30000 30000\n" + b"255\n" * (kind not in (b"P1", b"P4")), "big")


@pytest.mark.parametrize(
    "content",
    [b"\x89PNG\r\n\x1a\n\0\0\0\rJUNK" + b"\xff" * 9,
     b"GIF89a\xff", b"\0\0\0\x18ftypheic", b"P7\nWIDTH 60", b"P6 a b", b"8BPS"],
)  # fmt: skip
def test_of_what_only_decoding_tells_no_size_is_said(content):
    assert _pixels(content, read_header(content)) is None
    with pytest.raises(InputError, match=r"^cannot read x\.jpg as an image; expected an intact"):
        decode_image(content, "x.jpg")


def test_what_is_no_regular_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(InputError, match=r"pipe\.jpg: it is no regular file; expected an image file"):
        load_image(tmp_path / "pipe.jpg")
    with pytest.raises(InputError, match="Is a directory"):
        load_image(tmp_path)
    for name, why in (("x" * 300, "File name too long"), ("a\0b", "no file can have this name")):
        with pytest.raises(InputError, match=why):
            read_bytes(tmp_path / name, "an image file")


def test_images_of_a_folder_can_be_taken_as_they_are_stored(picture, tmp_path):
    (tmp_path / "x.jpg").write_bytes(with_orientation(picture, JPEG, 3))
    entry = ImageEntry(1, "x.jpg", 64, 128)
    for data, turned in ((Data(), True), (Data(exif="ignore"), False)):
        path, stored = in_folder(tmp_path, data)(entry)
        assert path == tmp_path / "x.jpg"
        assert (stored is None) == turned
        if stored:
            read = decode_image(stored.read(), path, turned=stored.turned)
            np.testing.assert_array_equal(read, decode_image(path.read_bytes(), path, turned=False))
