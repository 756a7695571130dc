"""The image files of a split: which cannot be read, which are not what the JSON says, which are the same picture."""

import hashlib
import io
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from cornerjax.check.annotations import Split
from cornerjax.check.findings import Findings
from cornerjax.data.images import decode_image
from cornerjax.data.records import Record
from cornerjax.errors import InputError
from cornerjax.progress import progress

THREADS = 4
ORIENTATION = 0x0112  # of EXIF; 1 is upright
SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


class Seen(NamedTuple):
    """What is kept of an image file.

    Attributes:
        problem: a key of PROBLEMS, or empty.
        size: height and width as decoded.
        turned: by its EXIF data.
        digest: of the pixels.
        measured: what was measured on the image.
    """

    problem: str = ""
    size: tuple[int, int] = (0, 0)
    turned: bool = False
    digest: bytes = b""
    measured: Any = None


PROBLEMS = {
    "missing": "missing",
    "unreadable": "that cannot be opened",
    "empty": "of 0 bytes",
    "truncated": "cut short (truncated)",
    "no image": "that cannot be decoded: not an image, or damaged",
}


def look_at(record: Record, measure: Callable[[UInt8[np.ndarray, "H W 3"]], Any] | None = None) -> Seen:
    """Read an image as training does, and find out why if that fails.

    Args:
        measure: called with an image that could be read.
    """
    try:
        content = record.stored.read() if record.stored else record.path.read_bytes()
    except FileNotFoundError:
        return Seen("missing")
    except (OSError, InputError):
        return Seen("unreadable")
    if not content:
        return Seen("empty")
    if is_truncated(content):
        return Seen("truncated")
    try:
        image = decode_image(content, record.path, turned=record.turned)
    except InputError:
        return Seen("no image")
    digest = hashlib.blake2b(image.data, key=str(image.shape).encode(), digest_size=16).digest()
    height, width, _ = image.shape
    turned = record.turned and is_turned(content)
    return Seen("", (height, width), turned, digest, measure(image) if measure else None)


def is_truncated(content: bytes) -> bool:
    """Whether a JPEG or PNG lacks its end; decoders differ in whether they mind."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return not 0 <= content.rfind(b"IEND") <= len(content) - 8  # its name and a checksum
    if not content.startswith(b"\xff\xd8"):
        return False
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF and content[at + 1] != 0xDA:
        at += 2 + int.from_bytes(content[at + 2 : at + 4])  # a thumbnail in the header has an end too
    return content.find(b"\xff\xd9", at) < 0


def is_turned(content: bytes) -> bool:
    """Whether EXIF data says to turn or mirror the image."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            return image.getexif().get(ORIENTATION, 1) not in (0, 1)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # OpenCV reads more kinds of files
        return False


def look_at_split(split: Split, measure: Callable[[Record, np.ndarray], Any] | None, findings: Findings) -> list[Seen]:
    """Look at every image of a split, a few at a time, and note what is wrong with them."""

    def look(record: Record) -> Seen:
        return look_at(record, (lambda image: measure(record, image)) if measure else None)

    total = len(split.records)
    with ThreadPoolExecutor(THREADS) as pool:
        seen = list(progress(pool.map(look, split.records), total=total, what=f"reading {split.name}"))
    problems, sizes, turned = defaultdict(list), [], []
    for record, image in zip(split.records, seen, strict=True):
        label = split.label(record)
        if image.problem:
            problems[image.problem].append(label)
            continue
        if image.size != (record.height, record.width):
            why = ", turned by its EXIF data" if image.turned else ""
            sizes.append(f"{label}: {image.size[1]}x{image.size[0]}{why}, the JSON says {record.width}x{record.height}")
        elif image.turned:
            turned.append(label)
    for problem, text in PROBLEMS.items():
        findings.add("error", "image", text, problems[problem])
    findings.add("error", "image", "of another size than the JSON says", sizes)
    findings.add("warning", "image", "turned by its EXIF data: the boxes must be of the turned image", turned)
    return seen


def compare_pictures(splits: list[Split], seen: list[list[Seen]], findings: Findings) -> None:
    """Note the same picture under two names, and in two splits."""
    places: dict[bytes, dict[Path, tuple[str, str]]] = defaultdict(dict)
    leaks: dict[bytes, dict[str, str]] = defaultdict(dict)
    for split, of_split in zip(splits, seen, strict=True):
        for record, image in zip(split.records, of_split, strict=True):
            if image.digest:
                label = split.label(record)
                places[image.digest].setdefault(record.path, (split.name, label))
                leaks[image.digest].setdefault(split.name, label)
    same = []
    for group in places.values():
        for split in splits:
            labels = [label for name, label in group.values() if name == split.name]
            if len(labels) > 1:
                same.append(" = ".join(labels))
    findings.add("warning", "picture", "under several names in one split", same)
    shared = [" = ".join(labels.values()) for labels in leaks.values() if len(labels) > 1]
    findings.add("warning", "picture", "in more than one split: figures of the evaluation will be too good", shared)


def find_unnamed(splits: list[Split], findings: Findings) -> None:
    """Note image files that lie with those of the splits and that none of them names."""
    named = {record.path for split in splits for record in split.records}
    folders = {path.parent for path in named} | {split.folder for split in splits}
    files = {path for folder in folders if folder.is_dir() for path in folder.iterdir()}
    unnamed = sorted(str(path) for path in files - named if path.suffix.lower() in SUFFIXES)
    findings.add("info", "image file", "in the folders, but in none of the JSON files looked at", unnamed)
