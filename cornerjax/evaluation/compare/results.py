"""Ground truth and results that others have written, checked entry by entry; no image is needed."""

from collections import Counter
from pathlib import Path
from typing import cast

from cornerjax.data.coco import read_annotations
from cornerjax.data.coco_entries import BOX, OTHERS, Json, is_box, is_id, is_name, is_number
from cornerjax.errors import InputError
from cornerjax.evaluation.compare.entries import Detected, GroundTruth
from cornerjax.files import read_json
from cornerjax.text import short

RESULT = '[{"image_id", "category_id", "bbox": [x, y, width, height], "score"}]'


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
            if not is_id(entry.get("id")) or (key == "categories" and not is_name(entry.get("name"))):
                raise InputError(
                    f'{file}: entry {short(entry)} of "{key}" needs an integer id of 64 bits, a category also a name'
                )
        if len(set(ids)) < len(ids):
            twice = Counter(ids).most_common(1)[0][0]
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
    entries = read_json(file, f"COCO's results, {RESULT}")
    if not isinstance(entries, list):
        raise InputError(f"{file} is no list; expected COCO's results, {RESULT}")
    for i, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise InputError(f"{file}: entry {i} is {short(entry)}; expected {RESULT[1:-1]}")
    _check_boxes(entries, ground_truth, f"{file}: entry", str(ground_truth_file))
    for i, entry in enumerate(entries):
        score = entry.get("score")
        if not is_number(score):
            raise InputError(f"{file}: entry {i} has score {short(score)}; expected a finite number")
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
                raise InputError(f"{what} {i} has {key} {short(entry.get(key))}; expected one of the ids of {where}")
        if not is_box(entry.get("bbox")):
            raise InputError(f"{what} {i} has bbox {short(entry.get('bbox'))}; expected {BOX}")
        for key, is_right, expected in OTHERS:
            if not is_right(entry.get(key)):
                raise InputError(f"{what} {i} has {key} {short(entry[key])}; expected {expected}")
