"""What predict.py is given: which photos, videos and cameras are meant, and what their results are called."""

import glob
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from cornerjax.data.coco_entries import MOST_BYTES
from cornerjax.errors import InputError
from cornerjax.files import cut, is_folder, place_of
from cornerjax.text import short

IMAGES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
VIDEOS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")
ACCEPTED = f"images ({' '.join(IMAGES)}) and videos ({' '.join(VIDEOS)})"
CAMERA = "camera:"


class Inputs(NamedTuple):
    """The files and cameras to predict on, each once."""

    photos: list[Path]
    videos: list[Path]
    cameras: list[int]


def find_inputs(given: Iterable[str | os.PathLike[str]]) -> Inputs:
    """The files and cameras that are meant.

    Args:
        given: a file is itself, a folder is the images and videos in it, a pattern with *, ?, [] or ** the images and
            videos it matches, all in the order of their names; camera:N is a camera by its number.
    Raises: InputError: a path does not exist, is of no accepted kind, or a folder or pattern has no file of one.
    """
    found: dict[Path, Path] = {}  # by the file itself: it may be given in two ways
    cameras: list[int] = []
    for path in given:
        if not str(path):  # to Path it is the current folder
            raise InputError(f"a path is empty; expected an image, a video, a folder, a pattern or {CAMERA}N")
        if str(path).startswith(CAMERA):
            cameras.append(_camera(str(path)))
        else:
            found |= {place_of(file): file for file in _files(str(path)) if place_of(file) not in found}
    files = list(found.values())
    photos = [file for file in files if file.suffix.lower() in IMAGES]
    return Inputs(photos, [file for file in files if file.suffix.lower() in VIDEOS], list(dict.fromkeys(cameras)))


def _camera(given: str) -> int:
    number = given.removeprefix(CAMERA)
    if not re.fullmatch("[0-9]{1,4}", number):
        raise InputError(f"{short(given)} is no camera; expected {CAMERA} and its number, as {CAMERA}0")
    return int(number)


def _files(given: str) -> list[Path]:
    path = Path(given)
    if is_folder(path):
        inside = _accepted(path.iterdir())
        if not inside:
            raise InputError(f"folder {path} has no images and no videos; accepted are {ACCEPTED}")
        return inside
    if os.path.lexists(path):
        if not _accepted([path]):
            kind = f"ends in {path.suffix}" if path.suffix else "has no ending"
            raise InputError(f"{path} {kind}; accepted are {ACCEPTED}")
        return [path]
    if not glob.has_magic(given):
        raise InputError(f"{path} does not exist; expected an image, a video, a folder, a pattern or {CAMERA}N")
    there = glob.glob(given, recursive=True)
    matched = _accepted(map(Path, there))
    if not matched:
        what = f"none of the {len(there)} that {given} matches is" if there else f"{given} matches nothing; expected"
        raise InputError(f"{what} an image or a video; accepted are {ACCEPTED}")
    return matched


def _accepted(files: Iterable[Path]) -> list[Path]:
    return sorted(file for file in files if file.suffix.lower() in IMAGES + VIDEOS and not os.path.isdir(file))


def output_names(inputs: Inputs) -> list[str]:
    """A file name for the picture of each photo, then for each video and camera: its own with .jpg or .mp4.

    Where two would be the same, they get numbers.
    """
    wanted = [(photo.stem, ".jpg") for photo in inputs.photos] + [(video.stem, ".mp4") for video in inputs.videos]
    names: list[str] = []
    taken: set[str] = set()
    numbers: dict[str, int] = {}  # how far each name is taken
    for stem, suffix in wanted + [(f"camera_{number}", ".mp4") for number in inputs.cameras]:
        name = first = _name(stem, suffix)
        while name.lower() in taken:
            numbers[first.lower()] = number = numbers.get(first.lower(), 1) + 1
            name = _name(stem, f"_{number}{suffix}")
        taken.add(name.lower())
        names.append(name)
    return names


def _name(stem: str, end: str) -> str:
    """The name with its end, cut before it where file systems would not take it."""
    return cut(stem, MOST_BYTES - len(end)) + end
