"""A split of a prepared TFDS set as a source: images from its shards, everything else from a COCO-format JSON.

The JSON is a pack's own, cut from it where the split is a part of one or several, or an index, made by reading the
whole set once.
"""

import functools
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from etils import epath

from cornerjax.config import Data
from cornerjax.data.coco import ImageEntry, Place, make_source, read_annotations
from cornerjax.data.coco_entries import Json
from cornerjax.data.pack import ABOUT
from cornerjax.data.records import Source, Stored
from cornerjax.data.shards import Shards, cache_folder
from cornerjax.data.tfds_index import make_index
from cornerjax.errors import InputError
from cornerjax.files import FEW_BYTES, place_of, read_json, write_atomically
from cornerjax.text import short

MADE_BY = "cornerjax 1"  # an index made by another version is made again


def open_tfds(data: Data, name: str, split: str) -> Source:
    """Open a split of a prepared TFDS set; nothing is ever downloaded.

    Args:
        data: crowd, empty_images, needs and exif are used.
        name, split: see Shards.
    Raises: InputError: it is not prepared, not as array_record, has no such split or no boxes.
    """
    file, content, place = find_split(data, name, split)
    return make_source(content, file, data, lambda images: place)


def find_split(data: Data, name: str, split: str) -> tuple[Path, Json, Place]:
    """The COCO-format JSON of a split, its content, and where each of its images is; as open_tfds."""
    shards = Shards(name, split)
    own = _own_annotations(shards)
    file, content = _index(shards) if own is None else own
    # Unlike COCO's files, an index describes images as they are stored: TFDS ignores their EXIF orientation.
    turned = own is not None and _is_turned(shards, data)
    return file, content, _place(shards, content["images"], turned=turned)


def _is_turned(shards: Shards, data: Data) -> bool:
    """Whether the annotations beside the shards are those of images turned as their EXIF data says.

    Raises: InputError: they are, and data.exif says that they are not.
    """
    file = _beside(shards, ABOUT)
    if file is not None:
        about = read_json(file, "what `cornerjax pack` wrote", most=FEW_BYTES)
        exif = about.get("exif") if isinstance(about, dict) else None
        if exif not in ("turn", "ignore"):
            raise InputError(f"{file} has exif {short(exif)}; expected turn or ignore, as `cornerjax pack` writes")
        if exif == "ignore":
            return False
    if data.exif == "ignore":
        raise InputError(
            f"exif is ignore, but the boxes of tfds:{shards.name} are those of images turned as their EXIF data says; "
            "accepted is turn, or a pack made with --exif ignore"
        )
    return True


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


def _own_annotations(shards: Shards) -> tuple[Path, Json] | None:
    """The JSON beside the shards, as in a pack, or what is of this split in those that it has; None: there is none."""
    if (file := _beside(shards, f"instances_{shards.split}.json")) is not None:
        content = read_annotations(file)
        _check_count(content, file, shards, shards.split, len(shards))
        return file, content
    whole = {name: _beside(shards, f"instances_{name}.json") for name, _ in shards.parts}
    files = {name: file for name, file in whole.items() if file is not None}
    if len(files) < len(whole):
        return None
    stats = {name: file.stat() for name, file in files.items()}
    made_of = _made_of(shards) | {"cut_from": [[name, s.st_size, s.st_mtime_ns] for name, s in stats.items()]}
    return _cached(shards, f"instances_{_file_name(shards.split)}.json", made_of, lambda: _cut(shards, files))


def _beside(shards: Shards, name: str) -> Path | None:
    """A file that lies beside the shards; of a bucket a copy. None: there is none."""
    if shards.remote is not None and (shards.remote / name).exists():
        shards.folder.mkdir(parents=True, exist_ok=True)
        text = (shards.remote / name).read_text(encoding="utf-8")  # untested: no bucket
        write_atomically(shards.folder / name, text)
    file = shards.folder / name
    return file if file.is_file() else None


def _check_count(content: Json, file: Path, shards: Shards, split: str, count: int) -> None:
    if len(content["images"]) != count:
        raise InputError(
            f"{file} has {len(content['images'])} images, but split {split!r} of tfds:{shards.name} has {count}"
        )


def _cut(shards: Shards, files: dict[str, Path]) -> Json:
    """COCO's lists of a split from the JSON files of those that it is made of, images in the order of the shards.

    Raises: InputError: a file does not fit its split, or two have other categories.
    """
    contents: dict[str, Json] = {}
    kept: dict[str, set[int]] = defaultdict(set)
    for name, file in files.items():
        contents[name] = read_annotations(file)
        _check_count(contents[name], file, shards, name, shards.count(name))
        if contents[name]["categories"] != next(iter(contents.values()))["categories"]:
            raise InputError(
                f"split {shards.split!r} of tfds:{shards.name} is made of {', '.join(files)}, whose categories or "
                "their ids differ; expected splits with the same, or each by itself"
            )
    images = []
    for name, positions in shards.parts:
        images += (part := [contents[name]["images"][i] for i in positions])
        kept[name] |= {image["id"] for image in part if type(image.get("id")) is int}
    annotations = []
    for name, content in contents.items():
        # What is of no image of the file at all stays, to be refused as it is in the whole split.
        others = {image["id"] for image in content["images"] if type(image.get("id")) is int} - kept[name]
        annotations += [
            entry
            for entry in content["annotations"]
            if type(entry.get("image_id")) is not int or entry["image_id"] not in others
        ]
    return next(iter(contents.values())) | {"images": images, "annotations": annotations}


def _index(shards: Shards) -> tuple[Path, Json]:
    """The index of a split, made if there is none, and its content."""
    name = f"cornerjax_{_file_name(shards.split)}.json"
    file, content = _cached(shards, name, _made_of(shards), lambda: make_index(shards))
    _check_count(content, file, shards, shards.split, len(shards))
    return file, content


def _cached(shards: Shards, name: str, made_of: Json, make: Callable[[], Json]) -> tuple[Path, Json]:
    """A file of the user's cache, made if it is not there or was made of something else, and its content."""
    file = cache_folder(shards.name if shards.remote else str(place_of(shards.folder))) / name
    content = _read_index(file)
    if content and content["info"] == made_of:
        return file, content
    content = make() | {"info": made_of}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(content))
    except OSError as e:
        raise InputError(
            f"cannot write {file}, the boxes of tfds:{shards.name}: {e.strerror}; XDG_CACHE_HOME names another cache"
        ) from None
    return file, content


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
