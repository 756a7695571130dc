"""The image files of a split: which cannot be read, which differ from the JSON, which show the same picture."""

import functools
import hashlib
import os
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import simplejpeg
from jaxtyping import UInt8

from cornerjax.check.annotations import Split
from cornerjax.check.examples import Fit
from cornerjax.check.findings import Findings
from cornerjax.data.images import decode_image, read_header
from cornerjax.data.records import Record
from cornerjax.errors import InputError
from cornerjax.files import read_bytes
from cornerjax.progress import progress
from cornerjax.threads import THREADS

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


class ImageFile(NamedTuple):
    """What is known of an image file once it has been read.

    Attributes:
        problem: a key of PROBLEMS, or empty.
        size: height and width as decoded.
        turned: whether it was turned or mirrored by its EXIF orientation.
        digest: of the pixels.
        fit: of the training example made from it, if there is one.
        damaged: whether a part of its data is; training uses what can be decoded.
    """

    problem: str = ""
    size: tuple[int, int] = (0, 0)
    turned: bool = False
    digest: bytes = b""
    fit: Fit | None = None
    damaged: bool = False


PROBLEMS = {
    "missing": "missing",
    "unreadable": "that cannot be opened",
    "empty": "of 0 bytes",
    "truncated": "truncated",
    "no image": "that cannot be decoded: damaged, or not an image",
}


def inspect_image(
    record: Record, measure: Callable[[Record, UInt8[np.ndarray, "H W 3"]], Fit | None] | None = None
) -> ImageFile:
    """Read an image as training does and, if that fails, find out why.

    Args:
        measure: what to do with an image that could be read.
    """
    try:
        if not record.stored and not os.path.lexists(record.path):
            return ImageFile("missing")
        content = record.stored.read() if record.stored else read_bytes(record.path, "an image file")
    except InputError:
        return ImageFile("unreadable")
    if not content:
        return ImageFile("empty")
    if is_truncated(content):
        return ImageFile("truncated")
    try:
        image = decode_image(content, record.path, turned=record.turned)
    except InputError:
        return ImageFile("no image")
    digest = hashlib.blake2b(image.data, key=str(image.shape).encode(), digest_size=16).digest()
    height, width, _ = image.shape
    header = read_header(content) if record.turned else None
    turned, fit = header is not None and header.orientation != 1, measure(record, image) if measure else None
    return ImageFile("", (height, width), turned, digest, fit, damaged=is_damaged(content))


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


def is_damaged(content: bytes) -> bool:
    """Whether a JPEG has damaged data, of which decoders make what they can."""
    if not content.startswith(b"\xff\xd8"):
        return False
    try:
        of_print = simplejpeg.decode_jpeg_header(content)[2] in ("CMYK", "YCCK")
        simplejpeg.decode_jpeg(content, colorspace="CMYK" if of_print else "GRAY", strict=True)
    except ValueError:
        return True
    return False


def inspect_split(
    split: Split, measure: Callable[[Record, np.ndarray], Fit | None] | None, findings: Findings
) -> list[ImageFile]:
    """Read every image of a split, a few at a time, and note what is wrong with them; arguments as of inspect_image."""
    total, inspect = len(split.records), functools.partial(inspect_image, measure=measure)
    with ThreadPoolExecutor(THREADS) as pool:
        files = list(progress(pool.map(inspect, split.records), total=total, what=f"reading {split.name}"))
    problems, sizes, turned, damaged = defaultdict(list), [], [], []
    for record, file in zip(split.records, files, strict=True):
        label = split.label(record)
        if file.problem:
            problems[file.problem].append(label)
            continue
        damaged += [label] if file.damaged else []
        if file.size != (record.height, record.width):
            why = ", as turned by its EXIF orientation" if file.turned else ""
            sizes.append(f"{label}: {file.size[1]}x{file.size[0]}{why}, the JSON says {record.width}x{record.height}")
        elif file.turned:
            turned.append(label)
    for problem, text in PROBLEMS.items():
        findings.add("error", "image", text, problems[problem])
    findings.add("error", "image", "whose size differs from the JSON's", sizes)
    findings.add("warning", "image", "with damaged data: a part of its pixels is wrong", damaged)
    by_exif = "turned by its EXIF orientation: its boxes must be those of the turned image, as most programs show it"
    findings.add("warning", "image", f"{by_exif}; --data.exif ignore takes images as they are stored", turned)
    return files


def compare_pictures(splits: list[Split], files: list[list[ImageFile]], findings: Findings) -> None:
    """Note pictures that occur under two names or in two splits."""
    places: dict[bytes, dict[Path, tuple[str, str]]] = defaultdict(dict)
    leaks: dict[bytes, dict[str, str]] = defaultdict(dict)
    for split, of_split in zip(splits, files, strict=True):
        for record, file in zip(split.records, of_split, strict=True):
            if file.digest:
                label = split.label(record)
                places[file.digest].setdefault(record.path, (split.name, label))
                leaks[file.digest].setdefault(split.name, label)
    same = []
    for group in places.values():
        for split in splits:
            labels = [label for name, label in group.values() if name == split.name]
            if len(labels) > 1:
                same.append(" = ".join(labels))
    findings.add("warning", "picture", "under several names in one split", same)
    shared = [" = ".join(labels.values()) for labels in leaks.values() if len(labels) > 1]
    findings.add("warning", "picture", "in more than one split: the evaluation will look better than it is", shared)


def find_unlisted(splits: list[Split], findings: Findings) -> None:
    """Note image files in the folders of the splits that no split lists."""
    listed = {record.path for split in splits for record in split.records}
    folders = {path.parent for path in listed} | {split.folder for split in splits}
    files = {path for folder in folders if folder.is_dir() for path in folder.iterdir()}
    unlisted = sorted(str(path) for path in files - listed if path.suffix.lower() in SUFFIXES)
    findings.add("info", "image file", "in the image folders, but in none of the JSON files checked", unlisted)
