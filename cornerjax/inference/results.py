"""Boxes as files: detections.json, detections.csv, and results.json in COCO's result format."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cornerjax.data.coco_entries import is_file_name, is_id
from cornerjax.detectors.rows import Detections
from cornerjax.errors import InputError
from cornerjax.files import place_of, read_json
from cornerjax.inference.coco_format import to_coco
from cornerjax.inference.written import write
from cornerjax.text import cell

FILES = {"json": "detections.json", "csv": "detections.csv", "coco": "results.json"}
COLUMNS = ("file", "frame", "x1", "y1", "x2", "y2", "score", "class")


class Entry(NamedTuple):
    """What was found in one photo or frame."""

    file: str
    picture: str | None  # name of the drawn photo or video; None: none was drawn
    frame: int | None  # of a video, from 0; None: a photo
    image_id: int
    found: Detections


def write_results(out: Path, entries: Sequence[Entry], kinds: Iterable[str], category_ids: Sequence[int]) -> None:
    """Write the files that are wanted, whole ones only; boxes are in pixels of the photo or frame.

    Args:
        out: the folder, made if missing.
        kinds: names in FILES.
        category_ids: the data set's own number of each class, for COCO.
    Raises: OSError: one cannot be written.
    """
    for kind in kinds:
        if kind == "json":
            with_ids = "coco" in kinds  # so that one can tell what its image ids mean
            text = json.dumps([_as_json(entry, with_id=with_ids) for entry in entries], indent=1)
        elif kind == "csv":
            text = _csv(entries)
        else:
            boxes = [box for entry in entries for box in to_coco(entry.found, entry.image_id, category_ids)]
            text = json.dumps(boxes)
        write(out, FILES[kind], text)


def _as_json(entry: Entry, *, with_id: bool) -> dict[str, object]:
    found = entry.found
    return {
        "file": entry.file,
        "picture": entry.picture,
        **({} if entry.frame is None else {"frame": entry.frame}),
        **({"image_id": entry.image_id} if with_id else {}),
        "boxes": found.boxes.tolist(),
        "scores": found.scores.tolist(),
        "classes": [found.class_names[label] for label in found.classes],
        **{name: values.tolist() for name, values in found.extra.items()},
    }


def _csv(entries: Iterable[Entry]) -> str:
    """A line of names, then one a box; `frame` is empty for photos. No name is a formula to a spreadsheet."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for file, _, frame, _, found in entries:
        for box, score, label in zip(found.boxes.tolist(), found.scores.tolist(), found.classes, strict=True):
            rows.writerow([cell(file), frame, *box, score, cell(found.class_names[label])])
    return text.getvalue()


def image_ids(photos: Sequence[Path], annotations: str) -> list[int]:
    """The number of each photo in COCO's results: that of the file, or its place in the sorted list, from 1.

    Args:
        annotations: a COCO file, in which each photo must have an image whose file_name is the end of the photo's path,
            or at least has its name; empty: none.
    Raises: InputError: the file cannot be read, or has no image, or more than one, for a photo; or two photos have the
        same image.
    """
    if not annotations:
        order = {photo: number for number, photo in enumerate(sorted(photos), start=1)}
        return [order[photo] for photo in photos]
    content = read_json(Path(annotations), "a COCO annotation file")
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list) or not all(_is_image(image) for image in images):
        raise InputError(f'{annotations} is no COCO file: it has no "images" with id and file_name')
    if len({image["id"] for image in images}) < len(images):
        raise InputError(f"{annotations} has two images with one id; expected ids of their own")
    known = [(Path(image["file_name"]), image["id"]) for image in images]
    by_name: dict[str, list[tuple[Path, int]]] = {}
    for path, number in known:
        by_name.setdefault(path.name, []).append((path, number))
    of_photo = {photo: _id_of(photo, by_name.get(photo.name, []), annotations) for photo in photos}
    by_id: dict[int, Path] = {}
    for photo, number in of_photo.items():
        if (other := by_id.setdefault(number, photo)) != photo:
            raise InputError(f"{other} and {photo} are both the image {number} of {annotations}; give one of them only")
    return [of_photo[photo] for photo in photos]


def _is_image(entry: Any) -> bool:
    return isinstance(entry, dict) and is_id(entry.get("id")) and is_file_name(entry.get("file_name"))


def _id_of(photo: Path, named: list[tuple[Path, int]], annotations: str) -> int:
    exact = [number for path, number in named if place_of(photo).parts[-len(path.parts) :] == path.parts]
    numbers = exact or [number for _, number in named]
    if len(numbers) != 1:
        count = len(numbers) or "no"
        raise InputError(f"{annotations} has {count} images with the file_name of {photo}; each photo needs one")
    return numbers[0]
