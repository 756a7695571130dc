"""predict.py: photos and folders in, pictures and a JSON out; what it refuses."""

import json

import colour_detector
import cv2
import numpy as np
import pytest
from colour_detector import DETECTOR, NAMES, WEIGHTS, draw

from cornerjax.config import Config, InputError, Test
from cornerjax.inference import files
from cornerjax.inference.files import find_photos, picture_names, predict_to_folder
from cornerjax.inference.predictor import Predictor

BLUE, GREEN = (3, 5, 20, 30), (15, 8, 37, 41)


@pytest.fixture(scope="module")
def predictor():
    return Predictor(DETECTOR, colour_detector.apply, WEIGHTS, {}, Config(test=Test(batch=4)), NAMES)


@pytest.fixture
def photos(tmp_path):
    """Three photos, a text and a folder within."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for name in ("b.jpg", "a.PNG", "c.jpg"):
        cv2.imwrite(str(folder / name), draw(50, 60, BLUE, GREEN), [cv2.IMWRITE_JPEG_QUALITY, 100])
    (folder / "notes.txt").write_text("")
    return folder


def test_a_folder_means_its_images(photos, tmp_path):
    assert [p.name for p in find_photos([photos])] == ["a.PNG", "b.jpg", "c.jpg"]
    assert [p.name for p in find_photos([photos / "c.jpg", str(photos / "notes.txt")])] == ["c.jpg", "notes.txt"]
    with pytest.raises(InputError, match=r"gone does not exist; expected"):
        find_photos([photos, tmp_path / "gone"])
    with pytest.raises(InputError, match=r"more has no images; expected files that end in \.bmp"):
        find_photos([photos / "more"])


def test_pictures_and_a_json(predictor, photos, tmp_path):
    given = find_photos([photos])
    assert predict_to_folder(predictor, given, tmp_path / "new" / "out", min_score=0.85) == []
    out = tmp_path / "new" / "out"
    assert sorted(p.name for p in out.iterdir()) == ["a.jpg", "b.jpg", "c.jpg", "detections.json"]
    entries = json.loads((out / "detections.json").read_text())
    assert [entry["file"] for entry in entries] == [str(path) for path in given]
    assert entries[0]["picture"] == "a.jpg"
    assert entries[0]["classes"] == ["blue"]  # green has 0.8
    np.testing.assert_allclose(entries[0]["boxes"], [BLUE], atol=1e-4)
    np.testing.assert_allclose(entries[0]["scores"], [0.9])
    assert cv2.imread(str(out / "a.jpg")).shape == (50 * 8, 60 * 8, 3)


def test_a_broken_photo_is_named_and_the_others_are_done(predictor, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "TOGETHER", 2)
    (photos / "b.jpg").write_bytes(b"no image")
    cv2.imwrite(str(photos / "d.png"), np.zeros((2, 50, 3), np.uint8))
    errors = predict_to_folder(predictor, find_photos([photos]), tmp_path / "out", min_score=0.3)
    assert [str(e).split(":")[0].split(";")[0] for e in errors] == [
        f"cannot read {photos / 'b.jpg'} as an image",
        "image of 50x2 pixels",
    ]
    entries = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert [entry["picture"] for entry in entries] == ["a.jpg", "c.jpg"]


def test_nothing_is_written_if_no_photo_can_be_read(predictor, tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"no image")
    with pytest.raises(InputError, match=r"cannot read .*a\.jpg as an image.*; cannot read .*b\.jpg"):
        predict_to_folder(predictor, [tmp_path / "a.jpg", tmp_path / "b.jpg"], tmp_path / "out", min_score=0.3)
    assert not (tmp_path / "out").exists()


def test_only_files_of_an_earlier_call_are_replaced(predictor, photos, tmp_path):
    out, given = tmp_path / "out", find_photos([photos])
    predict_to_folder(predictor, given[:2], out, min_score=0.3)
    predict_to_folder(predictor, given[:2], out, min_score=0.3)
    (out / "c.jpg").write_text("mine")
    before = {path: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(InputError, match=r"c\.jpg is there already; give another folder"):
        predict_to_folder(predictor, given, out, min_score=0.3)
    assert {path: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize("content", ["{}", '{"a": 1}', "[1]", '[{"file": "a"}]', "mine", "3"])
def test_a_json_of_others_is_not_replaced(predictor, photos, tmp_path, content):
    (tmp_path / "detections.json").write_text(content)
    with pytest.raises(InputError, match=r"detections\.json was not written by predict\.py"):
        predict_to_folder(predictor, find_photos([photos]), tmp_path, min_score=0.3)
    assert (tmp_path / "detections.json").read_text() == content
    assert not (tmp_path / "a.jpg").exists()


def test_a_photo_is_never_overwritten(predictor, photos):
    before = (photos / "b.jpg").read_bytes()
    with pytest.raises(InputError, match=r"b\.jpg would overwrite a photo"):
        predict_to_folder(predictor, find_photos([photos]), photos, min_score=0.3)
    assert (photos / "b.jpg").read_bytes() == before
    assert not (photos / "detections.json").exists()


def test_a_folder_that_cannot_be_written(predictor, photos):
    with pytest.raises(InputError, match=r"cannot write .*notes\.txt"):
        predict_to_folder(predictor, find_photos([photos]), photos / "notes.txt", min_score=0.3)


def test_pictures_of_photos_with_the_same_name(photos):
    names = picture_names([photos / "a.png", photos / "a.jpg", photos / "more" / "A.jpg", photos / "a_2.jpg"])
    assert names == ["a.jpg", "a_2.jpg", "A_3.jpg", "a_2_2.jpg"]
