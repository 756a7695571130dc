"""COCO-format folders as input: images and an instances JSON, checked when they are opened."""

import dataclasses
import json
import logging
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from cornerjax.config import Data, InputError
from cornerjax.data.images import load_image
from cornerjax.data.shapes import STYLES, write_shapes

log = logging.getLogger("cornerjax")
GENERATED = " or ".join(f"{name}:SEED" for name in STYLES)
TOO_FAR = 1e30  # no number of a box is as large: float32 must hold sums and multiples of them


@dataclasses.dataclass(frozen=True)
class Record:
    """One image and its objects.

    Attributes:
        image_id: the file's own number.
        path: of the image.
        height, width: of the image, in pixels.
        boxes: x1 y1 x2 y2 in pixels of the image.
        classes: from 0.
    """

    image_id: int
    path: Path
    height: int
    width: int
    boxes: Float[np.ndarray, "n 4"]
    classes: Int[np.ndarray, "n"]


@dataclasses.dataclass(frozen=True)
class CocoSource:
    """A data set.

    Attributes:
        records: in the order of the file.
        class_names: in the order of the category ids.
        category_ids: the file's own number of each class.
        annotation_file: where all this was read.
    """

    records: list[Record]
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    annotation_file: Path


def open_source(data: Data, split: str) -> CocoSource:
    """Open one split of the data set that the options name. Another kind of source is one more case here.

    Args:
        data: root, images, crowd and empty_images are used; a root "shapes:SEED" is generated in data/shapes-SEED,
            "scenes:SEED" in data/scenes-SEED.
        split: usually data.train or data.val: a split of the folder, or a path to a JSON file.
    Raises: InputError: something is missing or makes no sense; the message names the file and the value.
    """
    name, colon, seed = data.root.partition(":")
    if colon and name in STYLES:
        if not seed.isdecimal():
            raise InputError(f"data.root {data.root!r}: expected {GENERATED} with a number of 0 or more")
        folder = write_shapes(Path("data") / f"{name}-{seed}", seed=int(seed), style=STYLES[name])
        data = dataclasses.replace(data, root=str(folder))
    return open_coco(data, split)


def open_coco(data: Data, split: str) -> CocoSource:
    """Open a COCO-format folder; arguments and errors as in open_source."""
    root = Path(data.root)
    if not root.is_dir():
        raise InputError(f"data.root {data.root!r} is no folder; expected one in COCO format, or {GENERATED}")
    file = annotation_file(root, split)
    content = read_annotations(file)
    categories = _categories(content["categories"], file)
    images = _images(content["images"], file)
    objects = _objects(content["annotations"], file, images=images, categories=categories, crowd=data.crowd)
    if not data.empty_images:
        images = {image_id: image for image_id, image in images.items() if objects[image_id]}
    if not images:
        raise InputError(f"{file} has no images{'' if data.empty_images else ' with boxes'}; expected at least one")
    folder = image_folder(root, split, data.images, file, next(iter(images.values()))["file_name"])
    _check_files(folder, [image["file_name"] for image in images.values()], file)

    order = {category_id: i for i, category_id in enumerate(categories)}
    records = []
    for image_id, image in images.items():
        boxes = np.array([box for box, _ in objects[image_id]], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        classes = np.array([order[category_id] for _, category_id in objects[image_id]], np.int32)
        path = folder / image["file_name"]
        records.append(Record(image_id, path, image["height"], image["width"], boxes, classes))
    return CocoSource(records, tuple(categories.values()), tuple(categories), file)


def read_image(record: Record) -> UInt8[np.ndarray, "H W 3"]:
    """Decode the image of a record, BGR, turned as its EXIF data says.

    Raises: InputError: it cannot be read, or its size is not the record's.
    """
    try:
        image = load_image(record.path)
    except InputError:
        if not is_gone(record.path.parent):
            raise
        raise InputError(
            f"cannot read {record.path}: the folder {record.path.parent} is gone; is the data directory still there?"
        ) from None
    if image.shape[:2] != (record.height, record.width):
        raise InputError(
            f"{record.path} is {image.shape[1]}x{image.shape[0]} pixels, "
            f"but the annotation file says {record.width}x{record.height} for image id {record.image_id}"
        )
    return image


def is_gone(folder: Path) -> bool:
    """Whether a folder is not there any more, or not to be reached."""
    return not os.path.isdir(folder)  # Path.is_dir raises where a network drive is lost


def check_counts(source: CocoSource, max_objects: int) -> None:
    """Look at a set before training on it: warn of the objects it may not see; a crop that shows few has room for all.

    Raises: InputError: no image has a box.
    """
    counts = [len(record.classes) for record in source.records]
    if not any(counts):
        raise InputError(f"{source.annotation_file}: no image has a box to train on; expected at least one")
    over = [count - max_objects for count in counts if count > max_objects]
    if over:
        log.warning(
            "%s: %d images have more than data.max_objects = %d objects; up to %d objects are left out of training",
            source.annotation_file,
            len(over),
            max_objects,
            sum(over),
        )


def annotation_file(root: Path, split: str) -> Path:
    if split.endswith(".json"):
        places = [Path(split), root / split]
    else:
        names = [f"annotations/instances_{split}.json", f"annotations/{split}.json"]
        places = [root / name for name in [*names, f"instances_{split}.json", f"{split}.json"]]
    for place in places:
        if place.is_file():
            return place
    raise InputError(f"no annotation file for split {split!r}; looked for {', '.join(map(str, places))}")


def read_annotations(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except OSError as e:
        raise InputError(f"cannot read {file}: {e.strerror}") from None
    except ValueError as e:
        raise InputError(f"{file} is not JSON: {e}") from None
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise InputError(f'{file} has no list "{key}"; expected COCO\'s "images", "annotations" and "categories"')
        if not all(isinstance(entry, dict) for entry in content[key]):
            raise InputError(f'{file}: every entry of "{key}" must be an object in braces, as in COCO')
    return content


def _categories(entries: list[dict[str, Any]], file: Path) -> dict[int, str]:
    """Category id -> name, in the order of the ids."""
    categories: dict[int, str] = {}
    for entry in entries:
        if not isinstance(entry.get("id"), int) or not isinstance(entry.get("name"), str):
            raise InputError(f"{file}: category {entry} needs an integer id and a name")
        if entry["id"] in categories:
            raise InputError(f"{file}: two categories have the id {entry['id']}; ids must be unique")
        categories[entry["id"]] = entry["name"]
    if not categories:
        raise InputError(f'{file}: "categories" is empty; expected at least one')
    return dict(sorted(categories.items()))


def _images(entries: list[dict[str, Any]], file: Path) -> dict[int, dict[str, Any]]:
    """Image id -> entry, in the order of the file."""
    images: dict[int, dict[str, Any]] = {}
    for entry in entries:
        sizes = [entry.get("height"), entry.get("width")]
        if not isinstance(entry.get("id"), int) or not isinstance(entry.get("file_name"), str):
            raise InputError(f"{file}: image {entry} needs an integer id and a file_name")
        if not all(isinstance(size, int) and size > 0 for size in sizes):
            raise InputError(f"{file}: image id {entry['id']} has height and width {sizes}; expected positive integers")
        if entry["id"] in images:
            raise InputError(f"{file}: two images have the id {entry['id']}; ids must be unique")
        images[entry["id"]] = entry
    return images


def _objects(
    entries: list[dict[str, Any]],
    file: Path,
    *,
    images: dict[int, dict[str, Any]],
    categories: dict[int, str],
    crowd: bool,
) -> dict[int, list[tuple[list[float], int]]]:
    """Image id -> (x, y, width, height) and category id of each of its objects."""
    objects = defaultdict(list)
    flat = 0
    for entry in entries:
        name = f"{file}: annotation id {entry.get('id')}"
        image_id, category_id = entry.get("image_id"), entry.get("category_id")
        box: Any = entry.get("bbox")
        if type(image_id) is not int or image_id not in images:
            raise InputError(f'{name} is of image id {image_id!r}, which is not in "images"')
        if type(category_id) is not int or category_id not in categories:
            raise InputError(f'{name} has category id {category_id!r}, which is not in "categories"')
        height, width = images[image_id]["height"], images[image_id]["width"]
        if not is_box(box):
            raise InputError(
                f"{name} has bbox {box} in an image of {width}x{height} pixels; "
                "expected four finite numbers x, y, width, height that float32 can hold, no negative size"
            )
        if entry.get("iscrowd") and not crowd:
            continue
        if box[2] == 0 or box[3] == 0:
            flat += 1
            continue
        if box[0] >= width or box[1] >= height or box[0] + box[2] <= 0 or box[1] + box[3] <= 0:
            raise InputError(f"{name} has bbox {box}, all of it outside its image of {width}x{height} pixels")
        objects[image_id].append(([float(v) for v in box], category_id))
    if flat:
        log.warning("%s: dropped %d boxes of width or height 0", file, flat)
    return objects


def is_box(box: Any) -> bool:
    numbers = isinstance(box, list) and len(box) == 4 and all(type(v) in (int, float) for v in box)
    return numbers and all(abs(v) < TOO_FAR for v in box) and box[2] >= 0 and box[3] >= 0


def image_folder(root: Path, split: str, images: str, file: Path, first: str) -> Path:
    """The folder that the file names are relative to: the first place that has the first image."""
    split = Path(split).name.removesuffix(".json").removeprefix("instances_")
    folders = (
        [Path(images), root / images] if images else [root / split, root / "images" / split, root / "images", root]
    )
    for folder in folders:
        if (folder / first).is_file():
            return folder
    places = ", ".join(str(folder / first) for folder in folders)
    raise InputError(f"image {first} of {file} is missing; looked for {places}; data.images names another folder")


def _check_files(folder: Path, names: Iterable[str], file: Path) -> None:
    """Every image is there; a folder is listed once, not asked for each file (network drives are slow at that)."""
    there: dict[Path, set[str]] = {}
    missing = []
    for name in names:
        path = folder / name
        if path.parent not in there:
            there[path.parent] = {p.name for p in path.parent.iterdir()} if path.parent.is_dir() else set()
        if path.name not in there[path.parent]:
            missing.append(path)
    if missing:
        others = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise InputError(
            f"image {missing[0]}{others} of {file} is missing; expected every image of the file in {folder}"
        )
