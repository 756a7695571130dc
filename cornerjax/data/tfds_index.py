"""COCO's lists for a TFDS split, made by reading all of it: sizes, ids and boxes in pixels."""

from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Float

from cornerjax.data.coco_classes import COCO_CATEGORIES
from cornerjax.data.coco_entries import Json
from cornerjax.data.images import read_header
from cornerjax.data.shards import Shards
from cornerjax.errors import InputError
from cornerjax.progress import progress

LABELS = ("label", "type")  # what sets call the class of an object; KITTI says type
NAMES = ("image/filename", "image/file_name", "id")  # what they call the name of an image
CROWDS = ("is_crowd", "is_group_of", "is_difficult")  # and objects that an evaluation ignores


def make_index(shards: Shards) -> dict[str, list[Json]]:
    """Read a whole split.

    Returns: "images", in the order in which they are stored, "annotations" and "categories". Image ids that the set
        does not have are the places, from 1, of the file names in sorted order. Category ids count from 1; where the
        classes are COCO's, they are COCO's.
    Raises: InputError: the set has no boxes, or an example cannot be read.
    """
    name, label = _find_objects(shards)
    inner = shards.features[name].feature
    known = [key for key in ("bbox", label, "id", "area", *CROWDS) if key in inner]
    objects = tfds.features.Sequence({key: inner[key] for key in known})
    parser = shards.parser([key for key in ("image", "image/id", *NAMES) if key in shards.features], **{name: objects})
    names = inner[label].names
    coco = names == [category for _, category in COCO_CATEGORIES]
    category_ids = [i for i, _ in COCO_CATEGORIES] if coco else list(range(1, len(names) + 1))

    images, annotations = [], []
    positions = range(len(shards))
    for position in progress(positions, total=len(shards), what=f"indexing tfds:{shards.name} {shards.split}"):
        example = shards.example(position, parser)
        images.append(_image(example, position, shards))
        if wrong := [int(i) for i in example[name][label] if not 0 <= i < len(names)]:
            raise InputError(
                f"example {position} of tfds:{shards.name}, split {shards.split!r}, has the label {wrong[0]}; "
                f"expected 0 to {len(names) - 1}"
            )
        labels = [category_ids[i] for i in example[name][label]]
        annotations += _objects(example[name], labels, images[-1])
    _number(images, annotations)
    categories = [{"id": i, "name": text} for i, text in zip(category_ids, names, strict=True)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _find_objects(shards: Shards) -> tuple[str, str]:
    """The feature that holds the objects of an image, and what the class of an object is called in it."""
    kinds = tfds.features
    for name, feature in shards.features.items():
        inner = (
            dict(feature.feature.items()) if isinstance(getattr(feature, "feature", None), kinds.FeaturesDict) else {}
        )
        box = inner.get("bbox")
        label = next((label for label in LABELS if isinstance(inner.get(label), kinds.ClassLabel)), None)
        # In fractions of the image; sets that an older TFDS wrote do not say so, but all are.
        relative = isinstance(box, kinds.BBoxFeature) and (not box.bbox_format or box.bbox_format.value == "REL_YXYX")
        if label and relative and "image" in shards.features:
            return name, label
    raise InputError(
        f"tfds:{shards.name} is not a detection set: expected an image and a sequence of objects with a relative bbox "
        f"and a ClassLabel, but it has {', '.join(sorted(shards.features))}"
    )


def _image(example: dict[str, Any], position: int, shards: Shards) -> Json:
    """COCO's entry of an image; the id is None where the set has none."""
    header = read_header(example["image"])
    if header is None:
        raise InputError(f"example {position} of tfds:{shards.name}, split {shards.split!r}, has no intact image")
    width, height = header.width, header.height  # as stored: TFDS ignores the EXIF orientation too
    image_id = example.get("image/id")
    image_id = image_id if isinstance(image_id, int) else None
    names = [example[key].decode("utf-8", "replace") for key in NAMES if isinstance(example.get(key), bytes)]
    number = position + 1 if image_id is None else image_id
    return {"id": image_id, "file_name": (names or [f"{number:012}.jpg"])[0], "height": height, "width": width}


def _objects(objects: dict[str, Any], category_ids: list[int], image: Json) -> list[Json]:
    """COCO's entries of the objects of an image; image_id is the image itself until all images have ids."""
    entries = []
    for i, box in enumerate(objects["bbox"]):
        entry = {
            "id": int(objects["id"][i]) if "id" in objects else None,
            "image_id": image,
            "category_id": category_ids[i],
            "bbox": to_xywh(box, image["height"], image["width"]),
            "iscrowd": int(any(objects[key][i] == 1 for key in CROWDS if key in objects)),
        }
        entries.append(entry | ({"area": float(objects["area"][i])} if "area" in objects else {}))
    return entries


def to_xywh(box: Float[np.ndarray, "4"], height: int, width: int) -> list[float]:
    """x, y, width and height in pixels from y1 x1 y2 x2 in fractions of the image.

    TFDS has divided pixels by the sides and rounded to float32. Rounding to hundredths of a pixel, COCO's own
    precision, undoes both: these are exactly the numbers of a COCO file with at most two decimals.
    """
    y1, x1, y2, x2 = np.round(box.astype(np.float64) * [height, width, height, width], 2).tolist()
    return [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)]


def _number(images: list[Json], annotations: list[Json]) -> None:
    """Fill in the ids that the set lacks."""
    if any(image["id"] is None for image in images):
        by_name = sorted(images, key=lambda image: image["file_name"])
        for number, image in enumerate(by_name, start=1):
            image["id"] = number
    own = {entry["id"] for entry in annotations} - {None}
    unique = len(own) == len(annotations)  # those of panoptic sets are unique only within an image
    for number, entry in enumerate(annotations, start=1):
        entry["id"] = entry["id"] if unique else number
        entry["image_id"] = entry["image_id"]["id"]
