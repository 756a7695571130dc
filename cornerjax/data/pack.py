"""Packs a COCO-format folder into a few large files, a TFDS set in array_record: the command `cornerjax pack`."""

import contextlib
import dataclasses
import io
import json
import math
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from cornerjax.config import Data
from cornerjax.data.coco import in_order, read_annotations
from cornerjax.data.coco_entries import Json, is_id
from cornerjax.data.images import decode_image, read_header
from cornerjax.data.records import Record, Source
from cornerjax.data.source import open_source
from cornerjax.errors import InputError
from cornerjax.files import read_bytes, unfinished_folder
from cornerjax.progress import progress
from cornerjax.text import short

NAME = "coco_format"  # of the set, for TFDS
ABOUT = "cornerjax.json"  # says how the annotation files beside the shards are to be read


def pack(data: Data, splits: Sequence[str], out: str, *, shard_mb: float = 256.0) -> None:
    """Write a TFDS set of some splits of a folder, completely or not at all.

    Args:
        data: root, images and exif are used; exif is recorded, and holds whenever the set is read.
        splits: as for open_source.
        out: folder to write; it must be new or empty, and neither the current folder nor a mount point.
        shard_mb: approximate size of a file, in 10^6 bytes.
    Raises: InputError: the folder cannot be opened, two classes of a split share a name, or `out` cannot be written.
    """
    if data.root.startswith("tfds:"):
        raise InputError(f"--root {data.root} is a TFDS set already; expected a COCO-format folder")
    if "://" in out:
        raise InputError(f"--out {out} is not a local folder; pack into one and copy it there")
    if not shard_mb > 0:
        raise InputError(f"--shard-mb is {shard_mb}; accepted is more than 0")
    if not splits or len({_name(split) for split in splits}) < len(splits):
        raise InputError(f"--split is {list(splits)}; expected one or more of different names")
    folder = _find_place(out)
    there = next(parent for parent in folder.parents if os.path.exists(parent))
    # It is made before anything is read, so that a folder that cannot be written is reported at once.
    with _writing(out), unfinished_folder(folder, inside=there) as temporary:
        sources = {_name(split): open_source(dataclasses.replace(data, crowd=True), split) for split in splits}
        _check_names(list(sources.values()))
        _write(temporary, sources, shard_mb)
        (temporary / ABOUT).write_text(json.dumps({"exif": data.exif}))
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary.replace(folder)


def _find_place(out: str) -> Path:
    """The folder that `out` is, without links and dots, if a finished pack can be put there."""
    folder = Path(os.path.realpath(out))
    with _writing(out):
        if os.path.isfile(folder) or (folder.is_dir() and any(folder.iterdir())):
            raise InputError(f"--out {out} exists already; expected a new folder")
        if folder == Path.cwd() or os.path.ismount(folder):
            raise InputError(
                f"--out {out} is the current folder or a mount point; expected a new folder, such as one inside it"
            )
    return folder


@contextlib.contextmanager
def _writing(out: str) -> Iterator[None]:
    """Errors in here mean that `out` cannot be written."""
    try:
        yield
    except (OSError, RuntimeError) as e:  # array_record raises the second
        raise InputError(f"cannot write {out}: {getattr(e, 'strerror', None) or e}") from None


def _name(split: str) -> str:
    """TFDS's name for a split."""
    name = Path(split).name.removesuffix(".json").removeprefix("instances_")
    if not re.fullmatch(r"[\w-]+", name):
        raise InputError(
            f"split {split!r} cannot be packed: TFDS takes letters, digits, _ and - as the name of a split"
        )
    return name


def _check_names(sources: list[Source]) -> None:
    for source in sources:
        names = source.class_names
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InputError(
                f"{source.annotation_file}: two categories have the name {twice!r}, which TFDS does not accept; "
                "rename or merge them"
            )


def _write(folder: Path, sources: dict[str, Source], shard_mb: float) -> None:
    import tensorflow_datasets as tfds  # not before the options are right: it takes a second

    names = list(dict.fromkeys(name for source in sources.values() for name in source.class_names))
    features = tfds.features.FeaturesDict(  # the same as those of TFDS's own coco
        {
            "image": tfds.features.Image(),
            "image/filename": tfds.features.Text(),
            "image/id": np.int64,
            "objects": tfds.features.Sequence(
                {
                    "id": np.int64,
                    "area": np.int64,
                    "bbox": tfds.features.BBoxFeature(),
                    "label": tfds.features.ClassLabel(names=names),
                    "is_crowd": np.bool_,
                }
            ),
        }
    )
    identity = tfds.core.DatasetIdentity(
        name=NAME, version=tfds.core.Version("1.0.0"), data_dir=str(folder), module_name=""
    )
    for name, source in sources.items():
        shutil.copyfile(source.annotation_file, folder / f"instances_{name}.json")
    total = sum(_bytes(record.path) for source in sources.values() for record in source.records)
    images = sum(len(source.records) for source in sources.values())
    info = tfds.core.DatasetInfo(builder=identity, description="A COCO-format folder, packed.", features=features)
    writer = tfds.core.SequentialWriter(
        info,
        max_examples_per_shard=math.ceil(images * min(1, shard_mb * 1e6 / max(total, 1))),
        file_format="array_record",
    )
    writer.initialize_splits(list(sources))
    for name, source in sources.items():
        count = len(source.records)
        writer.add_examples({name: progress(_examples(source, names), total=count, what=f"packing {name}")})
    writer.close_all()


def _examples(source: Source, class_names: list[str]) -> Iterator[Json]:
    """What TFDS keeps of each image, in the order of the annotation file: its entries are the index of the shards.

    Args:
        class_names: of all splits: TFDS has one list of labels for them.
    """
    content = read_annotations(source.annotation_file)
    for image in content["images"]:
        if PurePosixPath(image["file_name"]).is_absolute() or ".." in image["file_name"].split("/"):
            raise InputError(
                f"{source.annotation_file}: image {short(image['file_name'])} lies outside the data set; "
                "expected images of its folder, or --images with the folder of all"
            )
    records = {record.image_id: record for record in source.records}
    label = dict(zip(source.category_ids, map(class_names.index, source.class_names), strict=True))
    objects = defaultdict(list)
    identified = all(is_id(entry.get("id")) for entry in content["annotations"])  # otherwise all of them get numbers
    for number, entry in enumerate(in_order(content["annotations"]), start=1):
        record = records[entry["image_id"]]
        objects[record.image_id].append(
            {
                "id": entry["id"] if identified else number,
                "area": _area(entry),
                "bbox": _relative(entry["bbox"], record),
                "label": label[entry["category_id"]],
                "is_crowd": bool(entry.get("iscrowd")),
            }
        )
    for image in content["images"]:
        yield {
            "image": io.BytesIO(_image(records[image["id"]])),
            "image/filename": image["file_name"],
            "image/id": image["id"],
            "objects": objects[image["id"]],
        }


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as e:
        raise InputError(f"cannot read {path}: {e.strerror}; expected an image file") from None


def _image(record: Record) -> bytes:
    """The bytes of an image, which is one: a pack is to be passed on, and no file of another kind with it.

    Raises: InputError: it cannot be read, or has another size than the annotation file says.
    """
    content = read_bytes(record.path, "an image file")
    header = read_header(content)
    if header:
        size = header.turned_size if record.turned else (header.height, header.width)
    else:
        size = decode_image(content, record.path, turned=record.turned).shape[:2]
    if size != (record.height, record.width):
        raise InputError(
            f"{record.path} is {size[1]}x{size[0]} pixels, but the annotation file says {record.width}x{record.height}"
        )
    return content


def _area(entry: Json) -> int:
    area = entry.get("area")
    if isinstance(area, int | float) and math.isfinite(area):
        return int(area)
    return int(entry["bbox"][2] * entry["bbox"][3])


def _relative(box: list[float | int], record: Record) -> np.ndarray:
    """y1 x1 y2 x2 in fractions of the image, clipped to it: TFDS accepts no others."""
    x, y, width, height = box
    corners = np.array([y, x, y + height, x + width], np.float64)
    return np.clip(corners / [record.height, record.width, record.height, record.width], 0, 1)
