"""COCO's JSON as records: files are checked when they are opened, and the folder of the images is found."""

import logging
import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cornerjax.config import Data
from cornerjax.data import extreme_points
from cornerjax.data.coco_entries import (
    BOX,
    MOST_PX,
    OTHERS,
    Json,
    is_box,
    is_file_name,
    is_id,
    is_name,
    is_outside,
    is_side,
)
from cornerjax.data.extreme_points import Finder
from cornerjax.data.records import Record, Source, Stored
from cornerjax.errors import InputError
from cornerjax.files import is_file, is_folder, read_bytes, read_json
from cornerjax.progress import progress
from cornerjax.text import short

log = logging.getLogger("cornerjax")
LISTS = '"images", "annotations" and "categories"'


class ImageEntry(NamedTuple):
    """What is used of an entry of "images"."""

    image_id: int
    file_name: str
    height: int
    width: int


class ObjectEntry(NamedTuple):
    """What is used of an entry of "annotations"."""

    bbox: list[float]  # x, y, width, height in pixels
    category_id: int
    points: dict[str, np.ndarray]  # see Record; all of a file have the same


Place = Callable[[ImageEntry], tuple[Path, Stored | None]]  # an image -> its path and how it is stored, see Record


def open_coco(data: Data, split: str) -> Source:
    """Open a COCO-format folder; arguments and errors as in open_source."""
    root = Path(data.root)
    file = annotation_file(root, split)
    return make_source(read_annotations(file), file, data, lambda images: _find_folder(root, split, data, file, images))


def make_source(content: Json, file: Path, data: Data, find: Callable[[list[ImageEntry]], Place]) -> Source:
    """The records of a COCO-format JSON.

    Args:
        content: of the JSON.
        file: its path.
        data: crowd, empty_images and needs are used.
        find: given the images that are used, says where they are.
    Raises: InputError: something is missing or wrong; the message names the file and the value.
    """
    categories = _categories(content["categories"], file)
    images = _images(content["images"], file)
    objects = _objects(content["annotations"], file, images=images, categories=categories, data=data)
    if not data.empty_images:
        images = {image_id: image for image_id, image in images.items() if objects[image_id]}
    if not images:
        raise InputError(f"{file} has no images{'' if data.empty_images else ' with boxes'}; expected at least one")
    records = make_records(images.values(), objects, categories, find(list(images.values())), needs=data.needs)
    return Source(records, tuple(categories.values()), tuple(categories), file)


def make_records(
    images: Iterable[ImageEntry],
    objects: Mapping[int, Iterable[ObjectEntry]],
    category_ids: Iterable[int],
    place: Place,
    *,
    needs: Sequence[str] = (),
) -> list[Record]:
    """One record an image, in the order given.

    Args:
        objects: of each image id; every category_id is one of category_ids.
        category_ids: of the classes, in their order.
        place: says where an image is.
        needs: names of the points that all objects have.
    """
    classes = {category_id: i for i, category_id in enumerate(category_ids)}
    records = []
    for image in images:
        entries = list(objects.get(image.image_id, ()))
        boxes = np.array([entry.bbox for entry in entries], np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = np.array([classes[entry.category_id] for entry in entries], np.int32)
        path, stored = place(image)
        points = {
            name: np.array([entry.points[name] for entry in entries], np.float64).reshape(-1, extreme_points.NUMBER, 2)
            for name in needs
        }
        records.append(Record(image.image_id, path, image.height, image.width, boxes, labels, stored, points))
    return records


def annotation_file(root: Path, split: str) -> Path:
    if split.endswith(".json"):
        places = [Path(split), root / split]
    else:
        names = [f"annotations/instances_{split}.json", f"annotations/{split}.json"]
        places = [root / name for name in [*names, f"instances_{split}.json", f"{split}.json"]]
    for place in places:
        if is_file(place):
            return place
    raise InputError(f"no annotation file for split {split!r}; looked for {', '.join(map(str, places))}")


def read_annotations(file: Path) -> Json:
    """The content of a COCO-format JSON, which has its three lists; their entries are not checked.

    Raises: InputError: it cannot be read, or lacks one of the lists.
    """
    content = read_json(file, f"COCO's {LISTS}")
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise InputError(f'{file} has no list "{key}"; expected COCO\'s {LISTS}')
        if not all(isinstance(entry, dict) for entry in content[key]):
            raise InputError(f'{file}: every entry of "{key}" must be an object in braces, as in COCO')
    return content


def _categories(entries: list[Json], file: Path) -> dict[int, str]:
    """Category id -> name, in the order of the ids."""
    categories: dict[int, str] = {}
    for entry in entries:
        if not is_id(entry.get("id")) or not is_name(entry.get("name")):
            raise InputError(f"{file}: category {short(entry)} needs an integer id of 64 bits and a name")
        if entry["id"] in categories:
            raise InputError(f"{file}: two categories have the id {entry['id']}; ids must be unique")
        categories[entry["id"]] = entry["name"]
    if not categories:
        raise InputError(f'{file}: "categories" is empty; expected at least one')
    return dict(sorted(categories.items()))


def _images(entries: list[Json], file: Path) -> dict[int, ImageEntry]:
    """Image id -> image, in the order of the ids."""
    images: dict[int, ImageEntry] = {}
    for entry in entries:
        sizes = [entry.get("height"), entry.get("width")]
        if not is_id(entry.get("id")) or not is_file_name(entry.get("file_name")):
            raise InputError(f"{file}: image {short(entry)} needs an integer id of 64 bits and a file_name")
        if not all(map(is_side, sizes)):
            raise InputError(
                f"{file}: image id {entry['id']} has height and width {short(sizes)}; "
                f"expected whole numbers from 1 to {MOST_PX}"
            )
        if entry["id"] in images:
            raise InputError(f"{file}: two images have the id {entry['id']}; ids must be unique")
        images[entry["id"]] = ImageEntry(entry["id"], entry["file_name"], entry["height"], entry["width"])
    return dict(sorted(images.items()))


def in_order(annotations: list[Json]) -> list[Json]:
    """Annotations in the order of their ids; those without one, or with none of 64 bits, come first, as in the file."""
    return sorted(annotations, key=lambda entry: entry["id"] if is_id(entry.get("id")) else -math.inf)


def _objects(
    entries: list[Json],
    file: Path,
    *,
    images: dict[int, ImageEntry],
    categories: dict[int, str],
    data: Data,
) -> dict[int, list[ObjectEntry]]:
    """Image id -> its objects."""
    objects: dict[int, list[ObjectEntry]] = defaultdict(list)
    flat, extremes = 0, Finder(data) if extreme_points.NAME in data.needs else None
    ordered: Iterable[Json] = in_order(entries)
    if extremes:
        ordered = progress(ordered, total=len(entries), what=f"extreme points, {file.name}")
    for entry in ordered:
        name = f"{file}: annotation id {short(entry.get('id'))}"
        image_id, category_id = entry.get("image_id"), entry.get("category_id")
        box: Any = entry.get("bbox")
        if type(image_id) is not int or image_id not in images:
            raise InputError(f'{name} is of image id {short(image_id)}, which is not in "images"')
        if type(category_id) is not int or category_id not in categories:
            raise InputError(f'{name} has category id {short(category_id)}, which is not in "categories"')
        height, width = images[image_id].height, images[image_id].width
        if not is_box(box):
            raise InputError(f"{name} has bbox {short(box)} in an image of {width}x{height} pixels; expected {BOX}")
        for key, is_right, expected in OTHERS:
            if not is_right(entry.get(key)):
                raise InputError(f"{name} has {key} {short(entry[key])}; expected {expected}")
        if entry.get("iscrowd") and not data.crowd:
            continue
        if box[2] == 0 or box[3] == 0:
            flat += 1
            continue
        if is_outside(box, height, width):
            raise InputError(f"{name} has bbox {box}, all of it outside its image of {width}x{height} pixels")
        points: dict[str, np.ndarray] = {}
        if extremes:
            own = extreme_points.own_points(entry)
            if own is not None and not extreme_points.are_in_order(own):
                raise InputError(
                    f"{name} has {extreme_points.NAME} {short(own.tolist())}; expected {extreme_points.IN_ORDER}"
                )
            if (found := extremes(entry, height, width)) is None:
                continue
            points[extreme_points.NAME] = found
        objects[image_id].append(ObjectEntry([float(v) for v in box], category_id, points))
    if flat:
        log.warning("%s: dropped %d boxes of width or height 0", file, flat)
    if extremes and (said := extremes.warning()):
        log.warning("%s: %s", file, said)
    return objects


def _find_folder(root: Path, split: str, data: Data, file: Path, images: list[ImageEntry]) -> Place:
    folder = image_folder(root, split, data.images, file, images[0].file_name)
    _check_files(folder, [image.file_name for image in images], file)
    return in_folder(folder, data)


def in_folder(folder: Path, data: Data) -> Place:
    """Every image is a file of a folder."""

    def place(image: ImageEntry) -> tuple[Path, Stored | None]:
        path = folder / image.file_name
        return path, None if data.exif == "turn" else Stored(folder, partial(read_bytes, path, "an image file"), False)

    return place


def image_folder(root: Path, split: str, images: str, file: Path, first: str) -> Path:
    """The folder that the file names are relative to: the first place that has the first image."""
    split = Path(split).name.removesuffix(".json").removeprefix("instances_")
    folders = (
        [Path(images), root / images] if images else [root / split, root / "images" / split, root / "images", root]
    )
    for folder in folders:
        if is_file(folder / first):
            return folder
    places = ", ".join(str(folder / first) for folder in folders)
    raise InputError(f"image {first} of {file} is missing; looked for {places}; data.images names another folder")


def _check_files(folder: Path, names: Iterable[str], file: Path) -> None:
    """Every image exists; folders are listed once, as network drives are slow to answer for each file."""
    there: dict[Path, set[str]] = {}
    missing = []
    for name in names:
        path = folder / name
        if path.parent not in there:
            there[path.parent] = set(os.listdir(path.parent)) if is_folder(path.parent) else set()
        if path.name not in there[path.parent]:
            missing.append(path)
    if missing:
        others = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise InputError(
            f"image {missing[0]}{others} of {file} is missing; expected every image of the file in {folder}"
        )
