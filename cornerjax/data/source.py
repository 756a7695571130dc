"""Opens what data.root names: every kind of data set gives the same records."""

import dataclasses
import re
from pathlib import Path

from cornerjax.config import Data
from cornerjax.data.coco import open_coco
from cornerjax.data.records import Source
from cornerjax.data.shapes import STYLES, write_shapes
from cornerjax.errors import InputError
from cornerjax.files import is_folder

GENERATED = " or ".join(f"{name}:SEED" for name in STYLES)


def refuse_to_fetch(root: str, file: Path) -> None:
    """Refuse a data set that a file names and that would have to be generated or come over the network.

    Whoever sent the file would decide what is written or asked for here.

    Args:
        root: as of data.root.
        file: that names it.
    Raises: InputError: saying how the user can allow it.
    """
    kind, _, name = root.partition(":")
    generated = kind in STYLES and not is_folder(generated_folder(kind, name))
    if generated or "://" in root:
        what = "would be generated in the current folder" if generated else "would be read over the network"
        raise InputError(f"{file} names the data set {root}, which {what}; --root {root} allows it")


def refuse_unused(data: Data) -> None:
    """Refuse a folder of images beside a set of TFDS, where it would do nothing.

    Raises: InputError: naming the option.
    """
    if data.root.startswith("tfds:") and data.images:
        raise InputError(
            f"data.images is {data.images!r}, which is for folders; the images of {data.root} lie in its own files: "
            "accepted is ''"
        )


def generated_folder(kind: str, seed: str) -> Path:
    """Where a generated set is kept."""
    return Path("data") / f"{kind}-{seed}"


def open_source(data: Data, split: str) -> Source:
    """Open one split of the data set that the options name. Another kind of source is one more case here.

    Args:
        data: root, images, crowd and empty_images are used; a root "shapes:SEED" is generated in
            data/shapes-SEED, "scenes:SEED" in data/scenes-SEED, "tfds:NAME" and "tfds:DIR" are prepared TFDS sets, all
            others folders.
        split: usually data.train or data.val: a split of the set, or, of a folder, a path to a JSON file.
    Raises: InputError: something is missing or wrong; the message names the file and the value.
    """
    refuse_unused(data)
    kind, colon, name = data.root.partition(":")
    if colon and kind == "tfds":
        from cornerjax.data.tfds import open_tfds  # not before it is needed: it imports tensorflow_datasets

        return open_tfds(data, name, split)
    if colon and kind in STYLES:
        if not re.fullmatch("[0-9]{1,18}", name):
            raise InputError(f"data.root {data.root!r}: expected {GENERATED} with a number of 0 or more")
        folder = write_shapes(generated_folder(kind, name), seed=int(name), style=STYLES[kind])
        data = dataclasses.replace(data, root=str(folder))
    if not is_folder(data.root):
        raise InputError(
            f"data.root {data.root!r} is not a folder; expected one in COCO format, tfds:NAME, tfds:DIR, {GENERATED}"
        )
    return open_coco(data, split)
