"""Pack a COCO-format folder into a few large files: a TFDS set in array_record.

cornerjax pack --root data/coco --split train2017 val2017 --out data/coco-packed

--data.root tfds:data/coco-packed then trains on it. The images' bytes and their order stay as they are, and so do the
annotation files, which lie beside the shards; any other program opens the folder with tfds.builder_from_directory.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from cornerjax.commands.cli import parse, require
from cornerjax.config import Data


@dataclasses.dataclass(frozen=True)
class Pack:
    root: str  # folder of the data set
    out: str  # folder to write, which must not be there yet
    split: tuple[str, ...] = ("train", "val")  # splits to pack
    images: str = ""  # folder of the images; looked for in the usual places if not given
    # turn: images are turned as their EXIF data says, and boxes are those of the turned ones; ignore: both are as
    # stored; the pack records it, so that it holds whenever the pack is read
    exif: Literal["turn", "ignore"] = "turn"
    shard_mb: float = 256.0  # size of a file, about


def main(args: Sequence[str]) -> None:
    options = parse(Pack, args, prog="cornerjax pack", description=__doc__)
    require(options, "root", "out")

    from cornerjax.data.pack import pack

    data = Data(root=options.root, images=options.images, exif=options.exif)
    pack(data, options.split, options.out, shard_mb=options.shard_mb)
    print(f"written: {options.out}; next: --data.root tfds:{options.out}")
