"""Photos on disk: which files are meant, what is found in each, pictures and a JSON of it."""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from cornerjax.checkpoint import write_atomically
from cornerjax.cli import progress
from cornerjax.config import InputError
from cornerjax.data.images import load_image
from cornerjax.detectors.base import Detections
from cornerjax.drawing import draw_boxes
from cornerjax.inference.predictor import Predictor
from cornerjax.inference.procedure import THREADS

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
TOGETHER = 16  # photos in memory at a time


def find_photos(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The files meant: a file is itself, a folder is the images in it, in the order of their names.

    Raises: InputError: a path does not exist, or a folder has no image.
    """
    photos: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise InputError(f"{path} does not exist; expected an image or a folder of images")
        inside = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
        if not inside:
            raise InputError(f"folder {path} has no images; expected files that end in {', '.join(sorted(SUFFIXES))}")
        photos += inside
    return photos


def predict_to_folder(predictor: Predictor, photos: Sequence[Path], out: Path, *, min_score: float) -> list[InputError]:
    """Write a drawn picture of every photo, and `detections.json`, last:
    [{"file", "picture", "boxes": [[x1, y1, x2, y2], ...], "scores", "classes": names}, ...], in pixels of the photo.

    Args:
        out: made if missing; pictures are named after their photos. Of what is there, only the files of an earlier
            call are replaced.
        min_score: boxes with a lower score are left out.
    Returns: one error for each photo that could not be read; all the others are written.
    Raises: InputError: no photo could be read, the folder cannot be written, or it holds files of others where the
        results would go; then nothing is written.
    """
    names = picture_names(photos)
    photos_there = {photo.resolve() for photo in photos}
    for name in names:
        if (out / name).resolve() in photos_there:
            raise InputError(f"the picture {out / name} would overwrite a photo; give another folder for the pictures")
    entries, errors = [], []
    try:
        _refuse_to_replace(out, names)
        everything = zip(photos, names, predict_files(predictor, photos), strict=True)
        for photo, name, seen in progress(everything, total=len(photos), what="predicting"):
            if isinstance(seen, InputError):
                errors.append(seen)
                continue
            image, found = seen[0], seen[1].above(min_score)
            picture = draw_boxes(image, found.boxes, found.classes, class_names=found.class_names, scores=found.scores)
            out.mkdir(parents=True, exist_ok=True)
            save_picture(out / name, picture)
            entries.append({"file": str(photo), "picture": name, **as_json(found)})
        if entries:
            write_atomically(out / "detections.json", json.dumps(entries, indent=1))
    except OSError as e:
        raise InputError(f"cannot write {out}: {e.strerror}") from None
    if errors and not entries:
        raise InputError("; ".join(map(str, errors)))
    return errors


def _refuse_to_replace(out: Path, names: Iterable[str]) -> None:
    """Whatever is there under a name that we are going to use must be ours: `detections.json` says what is."""
    index = out / "detections.json"
    ours: list[str] = []
    if index.exists():
        try:
            entries = json.loads(index.read_bytes())
            ours = [entry["picture"] for entry in entries]
        except (OSError, ValueError, TypeError, KeyError):
            entries = None
        if not isinstance(entries, list):
            raise InputError(f"{index} was not written by predict.py; give another folder for the results")
    for name in names:
        if (out / name).exists() and name not in ours:
            raise InputError(f"{out / name} is there already; give another folder for the results, or remove it")


def predict_files(
    predictor: Predictor, photos: Sequence[Path]
) -> Iterator[tuple[UInt8[np.ndarray, "H W 3"], Detections] | InputError]:
    """Yield (BGR image, detections) of every photo in order, or what is wrong with it; few are in memory at a time."""

    def read(photo: Path) -> np.ndarray | InputError:
        try:
            image = load_image(photo)
            predictor.check_size(image, photo)
        except InputError as e:
            return e
        return image

    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(photos), TOGETHER):
            images = list(pool.map(read, photos[start : start + TOGETHER]))
            found = iter(predictor([image[..., ::-1] for image in images if isinstance(image, np.ndarray)]))
            for image in images:
                yield image if isinstance(image, InputError) else (image, next(found))


def picture_names(photos: Sequence[Path]) -> list[str]:
    """A file name for the picture of each photo: its own with .jpg, with a number where two would be the same."""
    names: list[str] = []
    taken: set[str] = set()
    for photo in photos:
        name, number = f"{photo.stem}.jpg", 1
        while name.lower() in taken:
            number += 1
            name = f"{photo.stem}_{number}.jpg"
        taken.add(name.lower())
        names.append(name)
    return names


def as_json(found: Detections) -> dict[str, list]:
    """The boxes, scores and names of classes of one photo, as plain lists."""
    return {
        "boxes": found.boxes.tolist(),
        "scores": found.scores.tolist(),
        "classes": [found.class_names[label] for label in found.classes],
    }


def save_picture(path: Path, picture: UInt8[np.ndarray, "H W 3"]) -> None:
    """Write a JPEG; whoever reads it finds all of it.

    Raises: OSError: it cannot be written.
    """
    _, content = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content.tobytes())
    temporary.replace(path)
