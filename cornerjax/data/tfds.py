"""A split of a prepared TFDS set as a source: images from its shards, everything else from a COCO-format JSON.

The JSON is a pack's own or an index, made by reading the whole set once.
"""

import functools
import hashlib
import json
import re
from pathlib import Path

from etils import epath

from cornerjax.config import Data
from cornerjax.data.coco import ImageEntry, Place, make_source, read_annotations
from cornerjax.data.coco_entries import Json
from cornerjax.data.records import Source, Stored
from cornerjax.data.shards import Shards, cache_folder
from cornerjax.data.tfds_index import make_index
from cornerjax.errors import InputError
from cornerjax.files import write_atomically

MADE_BY = "cornerjax 1"  # an index made by another version is made again


def open_tfds(data: Data, name: str, split: str) -> Source:
    """Open a split of a prepared TFDS set; nothing is ever downloaded.

    Args:
        data: crowd and empty_images are used.
        name, split: see Shards.
    Raises: InputError: it is not prepared, not as array_record, has no such split or no boxes.
    """
    file, content, place = find_split(name, split)
    return make_source(content, file, data, lambda images: place)


def find_split(name: str, split: str) -> tuple[Path, Json, Place]:
    """The COCO-format JSON of a split, its content, and where each of its images is; errors as open_tfds."""
    shards = Shards(name, split)
    own = _own_annotations(shards)
    file, content = _index(shards) if own is None else (own, read_annotations(own))
    if len(content["images"]) != len(shards):
        raise InputError(
            f"{file} has {len(content['images'])} images, but split {split!r} of tfds:{name} has {len(shards)}"
        )
    # Unlike COCO's files, an index describes images as they are stored: TFDS ignores their EXIF orientation.
    return file, content, _place(shards, content["images"], turned=own is not None)


def _place(shards: Shards, images: list[Json], *, turned: bool) -> Place:
    """Where the images are: the entries of the JSON are in the order of the shards."""
    positions = {image["id"]: i for i, image in enumerate(images) if type(image.get("id")) is int}

    def place(image: ImageEntry) -> tuple[Path, Stored]:
        path, position = shards.folder / image.file_name, positions[image.image_id]
        return path, Stored(shards.folder, functools.partial(_read, shards, position, image.image_id, path), turned)

    return place


def _read(shards: Shards, position: int, image_id: int, path: Path) -> bytes:
    """The encoded image at a position; its id, where the set has one and it is a number, proves that it is right."""
    try:
        example = shards.example(position, shards.image_parser)
    except InputError as e:
        raise InputError(f"cannot read {path}: {e}") from None
    stored_id = example.get("image/id")
    if isinstance(stored_id, int) and stored_id != image_id:
        raise InputError(f"{path} should have the id {image_id}, but the image in its place has the id {stored_id}")
    return example["image"]


def _own_annotations(shards: Shards) -> Path | None:
    """The JSON beside the shards, as in a pack."""
    name = f"instances_{shards.split}.json"
    if shards.remote is not None and (shards.remote / name).exists():
        shards.folder.mkdir(parents=True, exist_ok=True)
        text = (shards.remote / name).read_text(encoding="utf-8")  # untested: no bucket
        write_atomically(shards.folder / name, text)
    file = shards.folder / name
    return file if file.is_file() else None


def _index(shards: Shards) -> tuple[Path, Json]:
    """The index of a split, made if there is none, and its content."""
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
            continue  # the folder of the set may be read-only
        return file, content
    raise InputError(f"cannot write an index of tfds:{shards.name} as {files[0]} or {files[1]}")


def _file_name(split: str) -> str:
    """A split as part of a file's name, different for "train[:80%]" and "train[80%:]"."""
    plain = re.sub("[^0-9A-Za-z._-]+", "_", split)
    return plain if plain == split else f"{plain}-{hashlib.sha256(split.encode()).hexdigest()[:8]}"


def _made_of(shards: Shards) -> Json:
    """What an index was made of; it differs for every set."""
    files = []
    for part in shards.files:
        try:
            stat = epath.Path(part.filename).stat()
        except OSError:
            raise InputError(f"{part.filename} of tfds:{shards.name} is missing; prepare the set again") from None
        files.append([Path(part.filename).name, stat.length, stat.mtime, part.skip, part.take])
    return {"made_by": MADE_BY, "split": shards.split, "files": files}


def _read_index(file: Path) -> Json | None:
    """A cached index; None if there is none, or if it is damaged."""
    try:
        content = read_annotations(file)
    except InputError:
        return None
    return content if "info" in content else None
