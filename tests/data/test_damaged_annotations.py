"""Annotation files with hostile values anywhere: opened, or refused in one sentence, and check says the same."""

import copy
import json
import random
from typing import Any

import cv2
import numpy as np
import pytest

from cornerjax.check.annotations import read_split
from cornerjax.check.findings import Findings
from cornerjax.config import Data
from cornerjax.data.source import open_source
from cornerjax.errors import InputError

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 1.5, -0.0, 1e30, 1e308, float("nan"), float("inf"), 2**31, 2**63, -(2**63), 10**400),
    *("", "0", "x", "a\0b", "\ud800", "../../etc/passwd", "/", "x" * 300, "\x1b[2J", "=1+1", "7.png"),
    *([], [[]], [1, 2], {}, {"id": 7}, [1, 2, 3, 4], [1, 2, "3", 4], ["a"] * 1000),
)
SOUND: dict[str, list[dict[str, Any]]] = {
    "images": [
        {"id": 7, "file_name": "7.png", "height": 20, "width": 30},
        {"id": 3, "file_name": "3.png", "height": 10, "width": 12},
    ],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 4, "bbox": [1, 2, 3, 4], "area": 12.5, "iscrowd": 0},
        {"id": 2, "image_id": 3, "category_id": 9, "bbox": [0, 0, 5.5, 4], "area": 22, "iscrowd": 1},
    ],
    "categories": [{"id": 4, "name": "cat"}, {"id": 9, "name": "dog"}],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("set")
    (root / "annotations").mkdir()
    (root / "images").mkdir()
    for image in SOUND["images"]:
        pixels = np.zeros((image["height"], image["width"], 3), np.uint8)
        cv2.imwrite(str(root / "images" / str(image["file_name"])), pixels)
    return root


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """Every place in nested lists and dicts."""
    inside: list[tuple] = [path] if path else []
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        inside += places(entry, (*path, key))
    return inside


def damaged(draws: random.Random) -> dict:
    """The sound file with one to three values replaced or removed."""
    content = copy.deepcopy(SOUND)
    for _ in range(draws.randint(1, 3)):
        *path, last = draws.choice(places(content))
        holder: Any = content
        for key in path:
            holder = holder[key]
        if isinstance(holder, dict) and draws.random() < 0.2:
            del holder[last]
        else:
            holder[last] = copy.deepcopy(draws.choice(VALUES))
    return content


@pytest.mark.parametrize("seed", range(8))
def test_a_damaged_file_is_opened_or_refused_in_a_sentence_and_check_agrees(folder, seed):
    draws, refused, total = random.Random(seed), 0, 150
    for _ in range(total):
        (folder / "annotations/instances_train.json").write_text(json.dumps(damaged(draws)))
        data, findings = Data(root=str(folder)), Findings()
        try:
            open_source(data, "train")
            error = None
        except InputError as e:
            error, refused = str(e), refused + 1
            assert "\n" not in error
            assert len(error) < 500 + 2 * len(str(folder))
            assert error.isprintable()
        try:
            read_split(data, "train", findings)
        except InputError:
            assert error
            continue
        assert all(len(finding.line()) < 1000 for finding in findings.sorted())
        missing = error is not None and "is missing; " in error  # of single images, which check reads later
        assert findings.has_errors() == (error is not None) or missing, (error, findings.verdict())
    assert total / 4 < refused < total


@pytest.mark.parametrize("text", ["", "[" * 100_000, '{"images": ' * 50_000, "\udcff", "1" * 5000, "nul\0"])
def test_what_is_no_json_is_refused_in_a_sentence(folder, text):
    (folder / "annotations/instances_train.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(
        InputError, match=r"instances_train\.json (is not JSON|has lists in lists).*; expected COCO's"
    ) as e:
        open_source(Data(root=str(folder)), "train")
    assert len(str(e.value)) < 500
