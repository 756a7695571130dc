"""Photos on disk: read, reduced, boxes predicted in them."""

from pathlib import Path

import colour_detector
import cv2
import numpy as np
import pytest
from colour_detector import DETECTOR, NAMES, WEIGHTS, compiled_shapes, draw

from cornerjax.config import Config, Test
from cornerjax.detectors.rows import Detections
from cornerjax.errors import InputError
from cornerjax.inference import batching, files
from cornerjax.inference.files import Photo, predict_files, read_photo, reduced, resized, save_picture
from cornerjax.inference.predictor import Predictor

BLUE, GREEN = (8, 16, 64, 96), (40, 24, 112, 128)
# Orientation 6: to be turned clockwise.
TURNED = b"\xff\xe1\x00\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp"])
@pytest.mark.parametrize("max_side", [0, 30, 60, 100, 160, 500])
def test_boxes_of_a_reduced_photo_are_in_pixels_of_its_file(predictor, tmp_path, suffix, max_side):
    path = tmp_path / f"photo{suffix}"
    cv2.imwrite(str(path), draw(160, 240, BLUE, GREEN), [cv2.IMWRITE_JPEG_QUALITY, 100])
    (answer,) = predict_files(predictor, [path], max_side=max_side)
    assert not isinstance(answer, InputError)
    photo, found = answer
    assert photo.size == (160, 240)
    assert max(photo.image.shape) == min(max_side or 240, 240)
    np.testing.assert_allclose(found.boxes, [BLUE, GREEN], atol=240 / max(photo.image.shape))


def test_a_photo_is_turned_as_its_exif_data_says_also_if_it_is_reduced(tmp_path):
    jpeg = cv2.imencode(".jpg", draw(160, 240, BLUE))[1].tobytes()
    (tmp_path / "turned.jpg").write_bytes(jpeg[:2] + TURNED + jpeg[2:])
    for max_side, shape in [(0, (240, 160)), (120, (120, 80)), (50, (50, 33))]:
        photo = read_photo(tmp_path / "turned.jpg", max_side=max_side)
        assert photo.size == (240, 160)
        assert photo.image.shape[:2] == shape


def test_a_jpeg_that_is_to_be_reduced_is_not_decoded_at_its_full_size(tmp_path, monkeypatch):
    cv2.imwrite(str(tmp_path / "large.jpg"), draw(160, 240, BLUE))
    shapes = []
    decode = cv2.imdecode

    def decode_and_note(*given):
        image = decode(*given)
        assert image is not None
        shapes.append(image.shape)
        return image

    monkeypatch.setattr(cv2, "imdecode", decode_and_note)
    for max_side in (0, 121, 120, 30):
        read_photo(tmp_path / "large.jpg", max_side=max_side)
    assert shapes == [(160, 240, 3), (160, 240, 3), (80, 120, 3), (20, 30, 3)]


@pytest.mark.parametrize(("shape", "expected"), [((30, 60), (30, 60)), ((90, 45), (60, 30)), ((1000, 3), (60, 1))])
def test_only_what_is_too_large_is_reduced(shape, expected):
    assert reduced(np.zeros((*shape, 3), np.uint8), 60).shape[:2] == expected


def test_photos_of_many_sizes_are_in_order_and_compile_little(tmp_path):
    predictor = Predictor(DETECTOR, colour_detector.apply, WEIGHTS, {}, Config(test=Test(batch=4)), NAMES)
    paths, boxes = [], []
    for i in range(60):
        size = [(40, 40), (20, 40), (40, 20)][i % 7 % 3] if i != 9 else (20, 20)
        boxes.append((i % 9, 2, i % 9 + 5, 11))
        paths.append(tmp_path / f"{i}.png")
        cv2.imwrite(str(paths[-1]), draw(*size, boxes[-1]))
    for prediction, box in zip(predict_files(predictor, paths), boxes, strict=True):
        assert not isinstance(prediction, InputError)
        np.testing.assert_allclose(prediction.found.boxes, [box], atol=1e-4)
    assert compiled_shapes(predictor) == 4  # one of each size


def test_few_photos_are_in_memory_at_a_time(predictor, tmp_path, monkeypatch):
    """Whether their buckets fill or not: the first photo is the only one of its bucket."""
    monkeypatch.setattr(batching, "THREADS", 2)
    monkeypatch.setattr(batching, "WAIT", 6)
    read = []

    def read_photo(path, max_side):
        read.append(path)
        return Photo(draw(40, 20 if path.name == "0" else 40), (40, 40))

    monkeypatch.setattr(files, "read_photo", read_photo)
    for used, _ in enumerate(predict_files(predictor, [Path(str(i)) for i in range(200)]), start=1):
        assert len(read) <= used + 6 + 2 + 1 + 8 * 5  # waiting, being read, and batches: loaded, on the device, used


@pytest.mark.parametrize("max_side", [0, 8])
def test_what_is_wrong_with_a_photo_comes_in_its_place(predictor, tmp_path, monkeypatch, max_side):
    monkeypatch.setattr(files, "TOGETHER", 2)
    for name in ("a.jpg", "c.jpg"):
        cv2.imwrite(str(tmp_path / name), draw(40, 40, (4, 4, 12, 12)))
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "b.jpg").write_bytes(whole[: len(whole) // 2])
    cv2.imwrite(str(tmp_path / "d.png"), np.zeros((2, 50, 3), np.uint8))
    paths = [tmp_path / name for name in ("a.jpg", "b.jpg", "c.jpg", "d.png")]
    predictions = list(predict_files(predictor, paths, max_side=max_side))
    assert [isinstance(one, InputError) for one in predictions] == [False, True, False, True]
    assert str(predictions[1]).startswith(f"cannot read {tmp_path / 'b.jpg'} as an image")
    assert str(predictions[3]).startswith("image of 8x1 pixels" if max_side else "image of 50x2 pixels")


def test_each_axis_has_the_factor_that_whole_pixels_gave_it():
    photo = Photo(np.zeros((19, 30, 3), np.uint8), (160, 250))
    found = Detections(np.array([[0, 0, 30, 19]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int32), NAMES)
    np.testing.assert_allclose(resized(found, photo).boxes, [[0, 0, 250, 160]], rtol=1e-6)


def test_a_picture_that_is_too_large_for_a_jpeg_is_said(tmp_path):
    with pytest.raises(InputError, match=r"cannot write .*a\.jpg: a JPEG of 65501x1 pixels; accepted are sides"):
        save_picture(tmp_path / "a.jpg", np.zeros((1, 65501, 3), np.uint8))
    save_picture(tmp_path / "b.jpg", np.zeros((65500, 1, 3), np.uint8))
    assert [path.name for path in tmp_path.iterdir()] == ["b.jpg"]
