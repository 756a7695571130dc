"""What a record knows of its objects."""

from pathlib import Path

import numpy as np

from cornerjax.data.records import Record

BOXES, CLASSES = np.array([[1, 2, 11, 22], [3, 4, 5, 6]], np.float32), np.array([1, 0], np.int32)


def test_objects_are_boxes_classes_and_all_points():
    plain = Record(7, Path("7.jpg"), 40, 50, BOXES, CLASSES)
    assert list(plain.objects) == ["boxes", "classes"]
    assert plain.objects["boxes"] is BOXES
    assert plain.objects["classes"] is CLASSES
    extremes = np.arange(16, dtype=np.float32).reshape(2, 4, 2)
    pointed = Record(7, Path("7.jpg"), 40, 50, BOXES, CLASSES, points={"extreme_points": extremes})
    assert list(pointed.objects) == ["boxes", "classes", "extreme_points"]
    assert pointed.objects["extreme_points"] is extremes
    assert plain.points == {}  # no record shares another's
