"""Ground truth and results that others have written, checked entry by entry; no image is needed."""

import json
import math
from pathlib import Path
from typing import cast

from cornerjax.data.coco import Json, is_box, read_annotations
from cornerjax.errors import InputError
from cornerjax.evaluation.compare.entries import Detected, GroundTruth


def read_ground_truth(file: Path) -> GroundTruth:
    """The content of an instances JSON.

    Only what a comparison needs is asked for: ids of images, ids and names of categories, and of every annotation
    both ids and the box.

    Raises: InputError: naming the file and the entry.
    """
    content = read_annotations(file)
    for key in ("images", "categories"):
        ids = [entry.get("id") for entry in content[key]]
        if not ids:
            raise InputError(f'{file}: "{key}" is empty; expected at least one')
        for entry in content[key]:
            if type(entry.get("id")) is not int or (key == "categories" and not isinstance(entry.get("name"), str)):
                raise InputError(f'{file}: entry {entry} of "{key}" needs an integer id, a category also a name')
        if len(set(ids)) < len(ids):
            twice = next(id_ for id_ in ids if ids.count(id_) > 1)
            raise InputError(f'{file}: two entries of "{key}" have the id {twice}; ids must be unique')
    ground_truth = cast(GroundTruth, content)
    _check_boxes(content["annotations"], ground_truth, f"{file}: annotation", 'its own "images" and "categories"')
    return ground_truth


def read_results(file: Path, ground_truth: GroundTruth, ground_truth_file: Path) -> list[Detected]:
    """Boxes in COCO's result format: a list of {"image_id", "category_id", "bbox": [x, y, width, height], "score"}.

    Args:
        ground_truth: read from ground_truth_file, which has the ids that there are.
    Raises: InputError: naming the file and the entry.
    """
    try:
        entries = json.loads(file.read_bytes())
    except OSError as e:
        raise InputError(f"cannot read {file}: {e.strerror}") from None
    except ValueError as e:
        raise InputError(f"{file} is not JSON: {e}") from None
    if not isinstance(entries, list):
        raise InputError(
            f'{file} is no list; expected COCO\'s results, [{{"image_id", "category_id", "bbox", "score"}}]'
        )
    for i, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise InputError(f'{file}: entry {i} is {entry!r}; expected {{"image_id", "category_id", "bbox", "score"}}')
    _check_boxes(entries, ground_truth, f"{file}: entry", str(ground_truth_file))
    for i, entry in enumerate(entries):
        score = entry.get("score")
        if type(score) not in (int, float) or not math.isfinite(score):
            raise InputError(f"{file}: entry {i} has score {score!r}; expected a finite number")
    return entries


def _check_boxes(entries: list[Json], ground_truth: GroundTruth, what: str, where: str) -> None:
    """Every entry has a known image and category, and a box."""
    known = {
        "image_id": {image["id"] for image in ground_truth["images"]},
        "category_id": {category["id"] for category in ground_truth["categories"]},
    }
    for i, entry in enumerate(entries):
        for key, ids in known.items():
            if type(entry.get(key)) is not int or entry[key] not in ids:
                raise InputError(f"{what} {i} has {key} {entry.get(key)!r}; expected one of the ids of {where}")
        if not is_box(entry.get("bbox")):
            raise InputError(
                f"{what} {i} has bbox {entry.get('bbox')!r}; "
                "expected four finite numbers x, y, width, height that float32 can hold, no negative size"
            )
