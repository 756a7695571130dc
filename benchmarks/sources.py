"""What does it cost to read images from a pack instead of from their folder? Images/s per core, side by side.

python benchmarks/sources.py [--root a/coco/folder]
"""

import statistics
import tempfile
import time
from pathlib import Path

import tyro
from photos import write_photos
from pipeline import BATCH, batches_of, cpu_seconds

from cornerjax.config import Data
from cornerjax.data.pack import pack
from cornerjax.data.records import Source
from cornerjax.data.source import open_source


def main(root: str = "", split: str = "train", crop_px: int = 511, rounds: int = 7) -> None:
    """Read the bytes of all images, and make training examples, from both in turns; files are in the system's cache.

    Args:
        root: a COCO-format folder; empty: 640x480 JPEGs made for the purpose.
        split: of that folder.
        crop_px: side of a training example.
        rounds: rounds of one reading and 4 batches of each; medians are printed.
    """
    with tempfile.TemporaryDirectory() as made:
        folder = root or write_photos(Path(made))
        pack(Data(root=folder), [split], f"{made}/pack", shard_mb=8.0)
        data = Data(batch=BATCH, crop_px=(crop_px, crop_px), workers=1, render="device")
        roots = {"folder": folder, "pack": f"tfds:{made}/pack"}
        sources = {name: open_source(Data(root=path), split) for name, path in roots.items()}
        batches = {name: batches_of(source, data, "cornernet", 80) for name, source in sources.items()}
        for iterator in batches.values():
            next(iterator)
        reading: dict[str, list[float]] = {name: [] for name in sources}
        making: dict[str, list[float]] = {name: [] for name in sources}
        for _ in range(rounds):
            for name, source in sources.items():
                reading[name].append(read_seconds(source) / len(source.records))
                making[name].append(cpu_seconds(batches[name], 4) / (4 * BATCH))
        for iterator in batches.values():
            iterator.close()
    for what, seconds in (("bytes of images", reading), ("training examples", making)):
        for name, values in seconds.items():
            median, least, most = statistics.median(values), min(values), max(values)
            print(f"{what:17} {name:6} {1 / median:7.0f} a second and core ({1 / most:.0f} to {1 / least:.0f})")
        ratio = statistics.median(seconds["folder"]) / statistics.median(seconds["pack"])
        print(f"{what:17} pack / folder {ratio:.2f}")


def read_seconds(source: Source) -> float:
    """CPU time of reading all encoded images."""
    start = time.process_time()
    for record in source.records:
        if record.stored:
            record.stored.read()
        else:
            record.path.read_bytes()
    return time.process_time() - start


if __name__ == "__main__":
    tyro.cli(main)
