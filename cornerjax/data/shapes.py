"""The generated data sets as COCO-format folders, with masks and extreme points; shape_pictures.py draws them."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from cornerjax.data import extreme_points
from cornerjax.data.coco import read_annotations
from cornerjax.data.shape_pictures import SHAPES, SPLITS, STYLES, Shape, Style, make_picture
from cornerjax.errors import InputError
from cornerjax.files import unfinished_folder, write_atomically
from cornerjax.progress import progress
from cornerjax.text import plain, shortened


def write_shapes(
    folder: Path, *, seed: int, train: int | None = None, val: int | None = None, style: Style = STYLES["shapes"]
) -> Path:
    """Write the data set `folder/images/{train,val}/` and `folder/annotations/instances_{train,val}.json`.

    A picture is a pure function of (seed, split, index). A complete folder is left as it is; an interrupted
    call leaves no folder.

    Args:
        folder: created, with its parents.
        seed: at least 0.
        train, val: number of pictures of each split; None: as the style says.
        style: one of STYLES.
    Returns: the folder.
    Raises: InputError: the seed is negative, or the folder is there and holds something else or cannot be written.
    """
    if seed < 0:
        raise InputError(f"the seed of the generated {style.name} must be 0 or more, got {seed}")
    recipe = {
        "seed": seed,
        "train": style.train if train is None else train,
        "val": style.val if val is None else val,
    }
    try:
        if not _is_complete(folder, recipe, style):
            _write_set(folder, recipe, style)
        elif _lacks_masks(folder):
            for split in SPLITS:
                _annotate_again(folder, recipe["seed"], split, recipe[split], style)
    except OSError as e:
        raise InputError(f"cannot write {folder}: {e.strerror}") from None
    return folder


def _write_set(folder: Path, recipe: dict[str, int], style: Style) -> None:
    with unfinished_folder(folder) as unfinished:
        (unfinished / "annotations").mkdir()
        for split in SPLITS:
            _write_split(unfinished, recipe["seed"], split, recipe[split], style)
        (unfinished / f"{style.name}.json").write_text(json.dumps(recipe))
        try:
            unfinished.rename(folder)
        except OSError:  # another process was faster
            if not _is_complete(folder, recipe, style):
                raise


def _is_complete(folder: Path, recipe: dict[str, int], style: Style) -> bool:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    made_by = folder / f"{style.name}.json"
    there = made_by.read_text(errors="replace") if made_by.is_file() else "something else"
    if there != json.dumps(recipe):
        raise InputError(
            f"{folder} holds {shortened(plain(there), 200)}, not the {style.name} {json.dumps(recipe)}: "
            "remove it or name another folder"
        )
    for split in SPLITS:
        images = folder / "images" / split
        there_are = set(os.listdir(images)) if images.is_dir() else set()
        missing = {_name(index) for index in range(recipe[split])} - there_are
        if missing or not (folder / "annotations" / f"instances_{split}.json").is_file():
            what = (
                f"{len(missing)} of its {recipe[split]} pictures, {min(missing)} among them" if missing else "its JSON"
            )
            raise InputError(f"{folder} lacks {what} of {split}: remove the folder, and it is written again")
    return True


def _lacks_masks(folder: Path) -> bool:
    """Whether an earlier version wrote the set, without masks and extreme points."""
    content = read_annotations(folder / "annotations" / f"instances_{SPLITS[-1]}.json")
    return any(extreme_points.NAME not in entry for entry in content["annotations"][:1])


def _annotate_again(folder: Path, seed: int, split: str, count: int, style: Style) -> None:
    """Write the annotations of pictures that are there."""
    pictures = progress(range(count), total=count, what=f"masks of {style.name}, {split}")
    shapes = [make_picture(seed, split, index, style)[1] for index in pictures]
    write_atomically(folder / "annotations" / f"instances_{split}.json", _as_coco(shapes, style))


def _write_split(folder: Path, seed: int, split: str, count: int, style: Style) -> None:
    images = folder / "images" / split
    images.mkdir(parents=True)
    shapes = []
    for index in progress(range(count), total=count, what=f"drawing {style.name}, {split}"):
        image, in_it = make_picture(seed, split, index, style)
        _, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])
        (images / _name(index)).write_bytes(jpeg.tobytes())  # cv2.imwrite does not say what went wrong
        shapes.append(in_it)
    (folder / "annotations" / f"instances_{split}.json").write_text(_as_coco(shapes, style))


def _name(index: int) -> str:
    return f"{index + 1:06d}.jpg"


def _as_coco(pictures: Sequence[Sequence[Shape]], style: Style) -> str:
    """The JSON of a split."""
    side = {"height": style.side_px, "width": style.side_px}
    entries = [(i + 1, _annotation(shape, style.side_px)) for i, shapes in enumerate(pictures) for shape in shapes]
    content = {
        "images": [{"id": i + 1, "file_name": _name(i), **side} for i in range(len(pictures))],
        "annotations": [{"id": i, "image_id": image, **entry} for i, (image, entry) in enumerate(entries, start=1)],
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(SHAPES)],
    }
    return json.dumps(content)


def _annotation(shape: Shape, side: int) -> dict[str, object]:
    """COCO's entry of a shape, whose parts under later shapes count as well, but for the ids."""
    from pycocotools import mask as coco_mask  # not before it is needed: other data sets are opened without it

    x, y, width, height = shape.box
    whole = np.zeros((side, side), np.uint8, order="F")
    whole[y : y + height, x : x + width] = shape.mask
    runs = coco_mask.encode(whole)
    return {
        "category_id": shape.label + 1,
        "bbox": [x, y, width, height],
        "area": int(shape.mask.sum()),
        "iscrowd": 0,
        "segmentation": {"size": [side, side], "counts": runs["counts"].decode("ascii")},
        extreme_points.NAME: extreme_points.of_pixels(whole.astype(bool)).tolist(),
    }
