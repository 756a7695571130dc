"""Classes of two data sets, matched by name."""

from pathlib import Path

import numpy as np
import pytest

from cornerjax.data.classes import align_classes, class_differences
from cornerjax.data.records import Record, Source
from cornerjax.errors import InputError


def source(names, ids, *labels):
    """One image with an object of each of these labels."""
    boxes = np.array([[i, 0, i + 9, 9] for i in range(len(labels))], np.float32).reshape(-1, 4)
    record = Record(5, Path("5.jpg"), 20, 30, boxes, np.array(labels, np.int32))
    return Source([record], names, ids, Path("val.json"))


def aligned(given, names):
    after = align_classes(given, names, "runs/cards")
    return after.records[0].classes.tolist(), after.class_names, after.category_ids


def test_the_same_classes_in_the_same_order_change_nothing():
    given = source(("ace", "king"), (3, 9), 0, 1)
    assert align_classes(given, ["ace", "king"], "runs/cards") is given


def test_another_order_is_that_of_the_run(caplog):
    given = source(("ace", "queen", "king"), (3, 5, 9), 0, 1, 2, 0)
    assert aligned(given, ("queen", "king", "ace")) == ([2, 0, 1, 2], ("queen", "king", "ace"), (5, 9, 3))
    assert align_classes(given, ("queen", "king", "ace"), "").records[0].classes.dtype == np.int32
    assert aligned(source(("ace", "king"), (3, 9)), ("king", "ace"))[0] == []
    assert not caplog.records


def test_classes_that_only_one_of_them_has(caplog):
    given = source(("ace", "joker", "king"), (3, 5, 9), 0, 1, 2)
    names = ("queen", "king", "ace")
    labels, together, ids = aligned(given, names)
    assert labels == [2, 3, 1]
    assert together == ("queen", "king", "ace", "joker")
    assert ids == (None, 9, 3, 5)
    said = (
        "runs/cards lacks the class joker of val.json: such objects count as missed; "
        "val.json lacks the class queen of runs/cards: such detections do not count"
    )
    assert [record.getMessage() for record in caplog.records] == [said]
    for either in (given, align_classes(given, names, "runs/cards")):
        assert class_differences(either, names, "runs/cards") == said


def test_of_many_classes_a_few_are_named():
    given = source(tuple("abcdefghijklm"), tuple(range(13)))
    assert class_differences(given, ("a",), "run") == (
        "run lacks the classes b, c, d, e, f, g, h, i, j, k and 2 more of val.json: such objects count as missed"
    )


def test_classes_of_one_name_are_taken_in_their_order():
    given = source(("ace", "king", "ace"), (3, 5, 9), 0, 1, 2)
    assert aligned(given, ("king", "ace", "ace")) == ([1, 0, 2], ("king", "ace", "ace"), (5, 3, 9))
    assert aligned(given, ("king", "ace")) == ([1, 0, 2], ("king", "ace", "ace"), (5, 3, 9))


def test_no_class_in_common_is_refused():
    message = r"^val\.json has the classes ace, king and runs/cards has the class cat; expected at least one class of"
    with pytest.raises(InputError, match=message):
        aligned(source(("ace", "king"), (3, 9)), ("cat",))
