"""Annotation files: refused in a sentence, or a run that trains and evaluates; `cornerjax check` says the same."""

import json
import random
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np

from cornerjax.check.annotations import read_split
from cornerjax.check.findings import Findings
from cornerjax.config import Data
from cornerjax.data.records import Source, read_image
from cornerjax.data.source import open_source
from cornerjax.errors import InputError
from cornerjax.evaluation.compare.analysis import analyse
from cornerjax.evaluation.compare.entries import Detected
from cornerjax.evaluation.compare.results import read_ground_truth

from .mutations import damaged
from .outcome import Outcome

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


def make_set(root: Path) -> Path:
    """The images of SOUND in a folder; its JSON is written by the attack."""
    (root / "annotations").mkdir(parents=True)
    (root / "images").mkdir()
    for image in SOUND["images"]:
        cv2.imwrite(str(root / "images" / image["file_name"]), np.zeros((image["height"], image["width"], 3), np.uint8))
    return root


def attack(root: Path, count: int, draws: random.Random) -> Outcome:
    """Open so many damaged files as training does, and what is accepted as evaluations do.

    Args:
        root: of make_set.
    """
    outcome = Outcome("annotations", str(root))
    file, data = root / "annotations/instances_train.json", Data(root=str(root))
    for number in range(count):
        file.write_text(json.dumps(damaged(SOUND, draws, most=2)))
        said, findings = None, Findings()
        with outcome.trial(f"file {number}: {file.read_text()[:300]}"):
            try:
                source = open_source(data, "train")
            except InputError as e:
                said = str(e)
                raise
            finally:
                _check(data, said, findings)
            _evaluate(source, file)
    return outcome


def _check(data: Data, said: str | None, findings: Findings) -> None:
    """Raises: AssertionError: check would let a run start that training refuses, or the other way round."""
    try:
        read_split(data, "train", findings)
    except InputError:
        assert said, "check refuses what training opens"
        return
    missing = said is not None and "is missing; " in said  # of single images, which check reads later
    assert findings.has_errors() == (said is not None) or missing, f"training: {said}; check: {findings.verdict()}"


def _evaluate(source: Source, file: Path) -> None:
    """Raises: AssertionError: an evaluation refuses what training has opened."""
    sound = [record for record in source.records if _is_right(record)]
    boxes = [{"image_id": r.image_id, "bbox": [0.0, 0.0, 5.0, 4.0], "score": 0.5} for r in sound]
    found = [cast(Detected, box | {"category_id": source.category_ids[0]}) for box in boxes]
    try:
        analyse(read_ground_truth(file), found, [record.image_id for record in sound])
    except InputError as e:
        raise AssertionError(f"an evaluation refuses what training opens: {e}") from None


def _is_right(record: Any) -> bool:
    """Whether the image of a record is read; check names those that are not."""
    try:
        read_image(record)
    except InputError:
        return False
    return True
