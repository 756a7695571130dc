"""A predictor of blue and green boxes, photos, a video, and predict.py without its command line."""

import dataclasses

import colour_detector
import cv2
import pytest
from colour_detector import DETECTOR, NAMES, WEIGHTS, draw
from media import BLUE, FRAMES, GREEN, write

from cornerjax.config import Test
from cornerjax.inference.folder import predict_to_folder
from cornerjax.inference.inputs import find_inputs
from cornerjax.inference.options import Options
from cornerjax.inference.plan import make_plan, reserved
from cornerjax.inference.predictor import Predictor


@pytest.fixture(scope="session")
def predictor():
    config = dataclasses.replace(DETECTOR.defaults, test=Test(batch=4))
    return Predictor(DETECTOR, colour_detector.apply, WEIGHTS, {}, config, NAMES)


@pytest.fixture
def photos(tmp_path):
    """Three photos and a text."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("b.jpg", "a.PNG", "c.jpg"):
        cv2.imwrite(str(folder / name), draw(50, 60, BLUE, GREEN), [cv2.IMWRITE_JPEG_QUALITY, 100])
    (folder / "notes.txt").write_text("")
    return folder


@pytest.fixture
def clip(tmp_path):
    """A video in which a blue rectangle moves to the right."""
    return write(tmp_path / "clip.mp4", FRAMES)


@pytest.fixture
def predict(predictor):
    def predict(given, out, **options):
        plan = make_plan(find_inputs(given), out, Options(**{"batch": 4} | options))
        with reserved(plan):
            return predict_to_folder(predictor, plan, (10, 20))

    return predict
