"""The examples of prepared TFDS sets, read from their shards in any order."""

import difflib
import functools
import hashlib
import itertools
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.core.read_only_builder import builder_from_files
from tensorflow_datasets.core.utils.file_utils import list_data_dirs

from cornerjax.errors import InputError
from cornerjax.files import FEW_BYTES, read_json, user_cache

FEATURES, INFO = "features.json", "dataset_info.json"  # either may describe the features of a set


class Shards:
    """The examples of one split, by position; several threads may read them.

    Args:
        name: TFDS's name of the set, as "coco/2017", or the folder that it was prepared in.
        split: TFDS's name of it, as "train", "validation", "train+validation" or "train[:80%]".
        place: where the set is, if that is known; it is not looked for then.
    Attributes:
        name, split: as given.
        folder: of the set; for one in a cloud bucket, a local folder for files derived from it.
        remote: the bucket's folder, or None.
        features: of the set, as TFDS describes them.
        files: the parts of files that the split is made of, as TFDS describes them.
    Raises: InputError: the set is not prepared, not as array_record, or has no such split.
    """

    def __init__(self, name: str, split: str, place: str = ""):
        self.name, self.split = name, split
        builder = _find_builder(place or name)
        self._place = str(builder.data_path)
        self.remote = builder.data_path if "://" in name else None
        self.folder = Path(builder.data_path) if self.remote is None else cache_folder(name)
        self.features = builder.info.features
        if "array_record" not in {form.value for form in builder.info.available_file_formats()}:
            raise InputError(
                f"tfds:{name} is stored as {builder.info.file_format.value}, which cannot be read in random order; "
                f"`tfds convert_format --dataset_version_dir={builder.data_path} --out_file_format=array_record` "
                "(pip install apache-beam mlcroissant) adds a copy that can"
            )
        try:
            raw = tfds.decode.DeserializeMethod.RAW_BYTES
            self._examples = builder.as_data_source(split, file_format="array_record", deserialize_method=raw)
            self.files = builder.info.splits[split].file_instructions
            self._lengths = {
                one: {part.filename: part.take for part in whole.file_instructions}
                for one, whole in builder.info.splits.items()
                if whole.num_examples
            }
        except ValueError:
            if split in builder.info.splits:
                raise InputError(f"split {split!r} of tfds:{name} has no examples; expected at least one") from None
            splits = ", ".join(builder.info.splits)
            raise InputError(f"tfds:{name} has no split {split!r}; it has {splits}") from None

    def __reduce__(self) -> tuple:
        """Another process, such as an input worker, opens the split once."""
        return _opened, (self.name, self.split, self._place)

    def __len__(self) -> int:
        return len(self._examples)

    @functools.cached_property
    def parts(self) -> list[tuple[str, range]]:
        """The splits that the set was prepared with of which this one is made, and which of their examples it has."""
        starts: dict[str, tuple[str, int]] = {}
        for name, lengths in self._lengths.items():
            ends = itertools.accumulate(lengths.values(), initial=0)
            starts |= {file: (name, start) for file, start in zip(lengths, ends, strict=False)}
        parts = []
        for part in self.files:
            name, start = starts[part.filename]
            parts.append((name, range(start + part.skip, start + part.skip + part.take)))
        return parts

    def count(self, split: str) -> int:
        """The examples of a split that the set was prepared with."""
        return sum(self._lengths[split].values())

    def parser(self, keys: Sequence[str], **others: tfds.features.FeatureConnector) -> tfds.features.FeaturesDict:
        """Reads these features of an example, and others given by name; the rest is not parsed.

        Some sets keep a mask of every object in their examples, each a PNG.
        """
        return tfds.features.FeaturesDict({key: self.features[key] for key in keys} | others)

    @functools.cached_property
    def image_parser(self) -> tfds.features.FeaturesDict:
        """Reads the image of an example and its id, if it has one."""
        return self.parser([key for key in ("image", "image/id") if key in self.features])

    def example(self, position: int, parser: tfds.features.FeaturesDict) -> dict[str, Any]:
        """The example at a position, from 0; its image stays encoded.

        Raises: InputError: it cannot be read.
        """
        try:
            decoders = {"image": tfds.decode.SkipDecoding()}
            return parser.deserialize_example_np(self._examples[position], decoders=decoders)
        except Exception as e:  # array_record and protobuf raise many kinds
            raise InputError(
                f"cannot read example {position} of tfds:{self.name}, split {self.split!r}: {_first_line(e)}"
            ) from None


@functools.cache
def _opened(name: str, split: str, place: str) -> Shards:
    return Shards(name, split, place)


def cache_folder(name: str) -> Path:
    """Where files derived from a set are kept: beside it they would be passed on with it."""
    return user_cache() / hashlib.sha256(name.encode()).hexdigest()[:16]


def _find_builder(name: str) -> tfds.core.DatasetBuilder:
    """What reads a set from its files alone, without its code and without the network."""
    folder = os.path.expanduser(name)
    if "://" in name or os.path.isfile(os.path.join(folder, INFO)):
        try:
            _refuse_code(folder, name)
            return tfds.builder_from_directory(folder)
        except InputError:
            raise
        except Exception as e:  # protobuf, JSON and TFDS raise many kinds
            raise InputError(f"tfds:{name} cannot be opened as a prepared TFDS set: {_first_line(e)}") from None
    if os.path.isdir(folder) or name.startswith((".", "/", "~")):
        raise InputError(f"tfds:{name} has no dataset_info.json; expected a folder that TFDS or `cornerjax pack` made")
    try:
        for place in list_data_dirs():
            for file in Path(place, _base(name)).rglob("*.json"):
                _refuse_code(str(file.parent), name)
        return builder_from_files(name)
    except InputError:
        raise
    except tfds.core.DatasetNotFoundError:
        raise InputError(_not_found(name)) from None
    except Exception as e:
        raise InputError(f"tfds:{name} cannot be opened: {_first_line(e)}") from None


def _base(name: str) -> str:
    """The name of a set without its configuration and version."""
    return re.split("[/:]", name)[0]


def _refuse_code(folder: str, name: str) -> None:
    """TFDS imports whatever module these files say that the class of a feature is in; none of others is run here.

    Raises: InputError: naming the class.
    """
    described: list[Any] = []
    for name_of, part in ((FEATURES, None), (INFO, "features")):
        file = epath.Path(folder) / name_of
        if file.exists():  # TFDS says what is missing
            in_bucket = "://" in folder
            content = json.loads(file.read_text()) if in_bucket else read_json(Path(file), "TFDS's own", most=FEW_BYTES)
            described.append(content if part is None or not isinstance(content, dict) else content.get(part))
    for kind in _classes(described):
        if not re.fullmatch(r"tensorflow_datasets(\.\w+)+", kind):
            raise InputError(f"tfds:{name} has a feature of class {kind!r}; accepted are those of tensorflow_datasets")


def _classes(described: Any) -> Iterator[str]:
    """The classes that a features.json names, in its present form and in the one of older versions.

    Either may hold the other as text.
    """
    if isinstance(described, str) and described.lstrip().startswith(("{", "[")):
        described = json.loads(described)
    if isinstance(described, dict):
        for key, value in described.items():
            if key in ("pythonClassName", "python_class_name", "type") and isinstance(value, str):
                yield value
            yield from _classes(value)
    elif isinstance(described, list):
        for value in described:
            yield from _classes(value)


def _not_found(name: str) -> str:
    known, base = tfds.list_builders(with_community_datasets=False), _base(name)
    if base not in known:
        close = ", ".join(difflib.get_close_matches(base, known))
        there = f"similar ones are {close}" if close else "tfds.list_builders() names all"
        return f"tfds:{name} is not a prepared folder, and TFDS knows no set {base!r}; {there}"
    prepare = f"tfds.builder({name!r}, file_format='array_record').download_and_prepare()"
    return (
        f"tfds:{name} is not prepared in TFDS_DATA_DIR or ~/tensorflow_datasets; "
        f'`python -c "import tensorflow_datasets as tfds; {prepare}"` downloads it, which may be gigabytes'
    )


def _first_line(e: Exception) -> str:
    """The first line of the message of a library's exception, which may fill a page."""
    return (str(e).splitlines() or [type(e).__name__])[0]
