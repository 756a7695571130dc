"""Which images the weights of a run have been trained on, so that an evaluation can say how many of its own they are.

`trained_on.npz` in the work directory holds 64 bits of every image and says nothing about where the images lie: a moved
data set is still known.
"""

import hashlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt64

from cornerjax.data.records import Record, Source
from cornerjax.errors import InputError, not_written
from cornerjax.files import is_file, open_atomically, read_npz

FILE = "trained_on.npz"
MOST_BYTES = 2**27  # of it, which is 16 million images


def hashes(source: Source) -> UInt64[np.ndarray, "n"]:
    """64 bits of every image, sorted: of its id, file name, size, boxes and classes.

    Ids and file names are not enough: two sets that each count from 1 share them.
    """
    return np.sort(np.array([_hash(record) for record in source.records], np.uint64))


def sha256(source: Source) -> str:
    """One hash of all images of a data set, whatever their order in it."""
    return hashlib.sha256(hashes(source).astype("<u8").tobytes()).hexdigest()


def record(workdir: Path, source: Source, init: Path | None = None) -> None:
    """Add the images of a data set to those that a run's weights are trained on.

    Args:
        workdir: of the run; it must exist.
        source: what it is trained on.
        init: the work directory its first weights came from, whose images count as well.
    Raises: InputError: what is recorded cannot be read. RunError: it cannot be written.
    """
    there = _read(workdir)
    earlier = [there] if init is None else [there, _read(init)]
    known = np.unique(np.concatenate([hashes(source), *earlier]))
    if len(known) == len(there):
        return
    try:
        with open_atomically(workdir / FILE) as out:
            np.savez(out, hashes=known)
    except OSError as e:
        raise not_written(str(workdir / FILE), e) from None


def overlap(workdir: Path, source: Source) -> int:
    """How many images of a data set the weights of a run are trained on; 0 where nothing is recorded.

    Raises: InputError: what is recorded cannot be read.
    """
    return int(np.isin(hashes(source), _read(workdir)).sum())


def warning(workdir: Path, source: Source) -> str:
    """The sentence that an evaluation says of the images that `overlap` counts; empty where there are none."""
    trained = overlap(workdir, source)
    if not trained:
        return ""
    return (
        f"warning: {trained} of the {len(source.records)} images evaluated were trained on; "
        "their AP says nothing about new images"
    )


def _hash(image: Record) -> int:
    named = f"{image.image_id} {image.height} {image.width} {len(image.classes)} {image.path.name}".encode()
    sides = np.concatenate([image.boxes[:, :2], image.boxes[:, 2:] - image.boxes[:, :2]], 1).astype("<f4")
    sides[:, 2:] += sides[:, :2]  # as runs of older versions have written it
    numbers = sides.tobytes() + image.classes.astype("<i4").tobytes()
    return int.from_bytes(hashlib.blake2b(numbers + named, digest_size=8).digest(), "little")


def _read(workdir: Path) -> UInt64[np.ndarray, "n"]:
    file = workdir / FILE
    if not is_file(file):
        return np.zeros(0, np.uint64)
    expected = "the hashes that training wrote"
    found = read_npz(file, expected, most=MOST_BYTES).get("hashes")
    if found is None or found.dtype != np.uint64 or found.ndim != 1:
        raise InputError(f"{file} is damaged; expected {expected}")
    return found
