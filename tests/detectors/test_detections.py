"""The box results: parts of them, and the way to and from the package supervision."""

import builtins
import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from cornerjax.detectors.rows import Detections
from cornerjax.errors import InputError

FOUND = Detections(
    np.array([[1, 2, 11, 22], [3, 4, 5, 6], [0, 0, 9, 9]], np.float32),
    np.array([0.9, 0.75, 0.5], np.float32),
    np.array([1, 0, 1], np.int32),
    ("cat", "dog", "cow"),
)
NAMES, NONE = FOUND.class_names, FOUND.above(2.0)


def assert_same(a: Detections, b: Detections) -> None:
    for name in ("boxes", "scores", "classes"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
        assert getattr(a, name).dtype == getattr(b, name).dtype
        assert getattr(a, name).shape == getattr(b, name).shape
    assert a.class_names == b.class_names


def test_parts_of_the_detections():
    assert_same(FOUND.of_classes(["dog"]), Detections(FOUND.boxes[::2], FOUND.scores[::2], FOUND.classes[::2], NAMES))
    assert len(FOUND.of_classes(["cow"])) == len(FOUND.of_classes([])) == 0
    assert FOUND.of_classes(["cow"]).boxes.shape == (0, 4)
    np.testing.assert_array_equal(FOUND.scaled(2.0, 0.5).boxes[0], [2, 1, 22, 11])
    assert FOUND.scaled(2.0, 0.5).boxes.dtype == np.float32


def test_text_is_the_name_of_one_class():
    assert_same(FOUND.of_classes("dog"), FOUND.of_classes(["dog"]))
    assert len(FOUND.of_classes("hot dog")) == 0


def test_what_else_belongs_to_a_box_follows_it():
    """Points move with the image; other fields stay as they are."""
    points = np.arange(24, dtype=np.float32).reshape(3, 4, 2)
    more = dataclasses.replace(FOUND, extra={"extreme_points": points, "source": np.arange(3)})
    assert more.above(0.75).extra["source"].tolist() == [0, 1]
    np.testing.assert_array_equal(more.of_classes(["dog"]).extra["extreme_points"], points[[0, 2]])
    larger = more.scaled(2.0, 0.5).extra
    np.testing.assert_array_equal(larger["extreme_points"], points * [2, 0.5])
    assert larger["source"].tolist() == [0, 1, 2]


def test_to_supervision_and_back():
    supervision = pytest.importorskip("supervision", reason="supervision is not installed, and need not be")
    there = FOUND.to_supervision()
    assert isinstance(there, supervision.Detections)
    np.testing.assert_array_equal(there.xyxy, FOUND.boxes)
    assert there.data["class_name"].tolist() == ["dog", "cat", "dog"]
    assert len(there[there.confidence > 0.6]) == 2
    assert_same(Detections.from_supervision(there, NAMES), FOUND)
    assert_same(Detections.from_supervision(there[[2, 0, 1]], NAMES), FOUND)  # best first again
    assert_same(Detections.from_supervision(NONE.to_supervision(), NAMES), NONE)
    assert_same(Detections.from_supervision(supervision.Detections.empty(), NAMES), NONE)
    assert len(supervision.Detections.merge([there, NONE.to_supervision()])) == 3


def given(**fields):
    """What has the fields of a supervision.Detections."""
    there = {"xyxy": FOUND.boxes, "confidence": FOUND.scores, "class_id": FOUND.classes} | fields
    return type("Given", (SimpleNamespace,), {"__len__": lambda self: len(self.xyxy)})(**there)


def test_boxes_without_confidence_are_true_ones():
    np.testing.assert_array_equal(Detections.from_supervision(given(confidence=None), NAMES).scores, [1, 1, 1])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"class_id": None}, "have no class_id; every box needs a class"),
        ({"class_id": np.array([0, 3, 1])}, "class_id 0 to 3; with 3 class names, 0 to 2 are accepted"),
        ({"class_id": np.array([0, -1, 1])}, "class_id -1 to 1; with 3 class names"),
    ],
)
def test_boxes_of_no_known_class_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        Detections.from_supervision(given(**fields), NAMES)


def test_without_supervision_a_sentence_says_how_to_get_it(monkeypatch):
    real = builtins.__import__

    def without(name, *args):
        if name == "supervision":
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"^to_supervision needs the package supervision; pip install supervision$"):
        FOUND.to_supervision()
