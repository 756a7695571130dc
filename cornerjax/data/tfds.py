"""A split of a prepared TFDS set as a source: images from its shards, all else from a COCO-format JSON.

The JSON is a pack's own, or an index, made by reading the set through, once.
"""

import functools
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from etils import epath

from cornerjax.config import Data
from cornerjax.data.coco import Place, make_source, read_annotations
from cornerjax.data.records import Source, Stored
from cornerjax.data.shards import Shards, cache_folder
from cornerjax.data.tfds_index import make_index
from cornerjax.errors import InputError
from cornerjax.files import write_atomically

MADE_BY = "cornerjax 1"  # an index made by another rule is made again


def open_tfds(data: Data, name: str, split: str) -> Source:
    """Open a split of a prepared TFDS set; nothing is ever downloaded.

    Args:
        data: crowd and empty_images are used.
        name, split: see Shards.
    Raises: InputError: it is not prepared, not as array_record, has no such split or no boxes.
    """
    file, content, place = find_split(name, split)
    return make_source(content, file, data, lambda images: place)


def find_split(name: str, split: str) -> tuple[Path, dict[str, Any], Place]:
    """The COCO-format JSON of a split, its content, and where each of its images lies; errors as open_tfds."""
    shards = Shards(name, split)
    own = _own_annotations(shards)
    file, content = _index(shards) if own is None else (own, read_annotations(own))
    if len(content["images"]) != len(shards):
        raise InputError(
            f"{file} has {len(content['images'])} images, but split {split!r} of tfds:{name} has {len(shards)}"
        )
    # Unlike COCO's files, an index is of the images as they are stored: TFDS turns none by its EXIF data.
    return file, content, _place(shards, content["images"], turned=own is not None)


def _place(shards: Shards, images: list[dict[str, Any]], *, turned: bool) -> Place:
    """Where the images lie: the entries of the JSON stand in the order of the shards."""
    positions = {image["id"]: i for i, image in enumerate(images) if type(image.get("id")) is int}
    # The id tells that an image is the right one, where the set has it and it is a number.
    parser = shards.parser([key for key in ("image", "image/id") if key in shards.features])

    def read(position: int, image_id: int, path: Path) -> bytes:
        try:
            example = shards.example(position, parser)
        except InputError as e:
            raise InputError(f"cannot read {path}: {e}") from None
        stored_id = example.get("image/id")
        if isinstance(stored_id, int) and stored_id != image_id:
            raise InputError(f"{path} should have the id {image_id}, but {stored_id} lies in its place")
        return example["image"]

    def place(image: dict[str, Any]) -> tuple[Path, Stored]:
        path = shards.folder / image["file_name"]
        return path, Stored(shards.folder, functools.partial(read, positions[image["id"]], image["id"], path), turned)

    return place


def _own_annotations(shards: Shards) -> Path | None:
    """The JSON that lies beside the shards, as in a pack."""
    name = f"instances_{shards.split}.json"
    if shards.remote is not None and (shards.remote / name).exists():
        shards.folder.mkdir(parents=True, exist_ok=True)
        text = (shards.remote / name).read_text(encoding="utf-8")  # untested: no bucket
        write_atomically(shards.folder / name, text)
    file = shards.folder / name
    return file if file.is_file() else None


def _index(shards: Shards) -> tuple[Path, dict[str, Any]]:
    """The index of a split, made where there is none, and its content."""
    made_of, name = _made_of(shards), f"cornerjax_{_file_name(shards.split)}.json"
    files = [shards.folder / name, cache_folder(str(shards.folder)) / name]
    for file in files:
        content = _read_index(file)
        if content and content["info"] == made_of:
            return file, content
    content = {"info": made_of} | make_index(shards)
    for file in files:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, json.dumps(content))
        except OSError:
            continue  # the set may lie where nothing may be written
        return file, content
    raise InputError(f"cannot write an index of tfds:{shards.name} as {files[0]} or {files[1]}")


def _file_name(split: str) -> str:
    """A split in a file's name: "train[:80%]" and "train[80%:]" have different ones."""
    plain = re.sub("[^0-9A-Za-z._-]+", "_", split)
    return plain if plain == split else f"{plain}-{hashlib.sha256(split.encode()).hexdigest()[:8]}"


def _made_of(shards: Shards) -> dict[str, Any]:
    """What an index is made of; another set gives another."""
    files = []
    for part in shards.files:
        try:
            stat = epath.Path(part.filename).stat()
        except OSError:
            raise InputError(f"{part.filename} of tfds:{shards.name} is missing; prepare the set again") from None
        files.append([Path(part.filename).name, stat.length, stat.mtime, part.skip, part.take])
    return {"made_by": MADE_BY, "split": shards.split, "files": files}


def _read_index(file: Path) -> dict[str, Any] | None:
    """A cached index; None where there is none, or a damaged one."""
    try:
        content = read_annotations(file)
    except InputError:
        return None
    return content if "info" in content else None
