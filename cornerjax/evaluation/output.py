"""An analysis as a folder of files; a folder that holds another evaluation, or anything else, is not replaced."""

import contextlib
import dataclasses
import json
import math
import os
import re
import shutil
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from cornerjax import drawing
from cornerjax.errors import InputError
from cornerjax.evaluation.compare.analysis import Analysis
from cornerjax.evaluation.compare.entries import Detected
from cornerjax.evaluation.compare.voc import mean_voc
from cornerjax.evaluation.draw.plots import save_plots
from cornerjax.evaluation.options import EXTRAS
from cornerjax.files import (
    cut,
    is_left,
    json_if_there,
    locked_folder,
    only_one,
    place_of,
    sha256_of,
    unfinished_folder,
)

METRICS = "metrics.json"
FILES = {
    METRICS,
    "results.json",
    "report.html",
    "pictures",
    "precision_recall.png",
    "confidence.png",
    "errors.png",
}
SHEET_PX = 800  # longer side of a picture on the sheet
Options = Mapping[str, object]


def check_folder(
    folder: Path, options: Options, *, extras: Collection[str] = (), inputs: Collection[Path] = ()
) -> None:
    """Refuse a folder that cannot be replaced, or that is not an evaluation with the same options.

    Args:
        folder: where write_folder is going to write; without links, as of Path.resolve.
        options: by name; as they will stand in metrics.json.
        extras: of EXTRAS, those that are going to be in metrics.json.
        inputs: files that are read.
    Raises: InputError: naming what is in the way.
    """
    if folder == Path.cwd() or os.path.ismount(folder):
        what = "the current folder" if folder == Path.cwd() else "where a file system begins"
        raise InputError(f"{folder} is {what} and cannot be replaced; --out names another folder")
    if read := [file for file in inputs if place_of(file).is_relative_to(folder)]:
        raise InputError(f"{folder} is going to be replaced, but {read[0]} in it is read; --out names another folder")
    try:
        above = next(path for path in folder.parents if path.exists())
        if not folder.exists():
            _recover(folder)
        there = _names(folder) if folder.exists() else []
    except OSError as e:
        raise InputError(f"cannot read {folder}: {e.strerror}; expected a folder for the evaluation") from None
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"cannot write {folder}: {above} is no folder that can be written to")
    if others := _others(folder, there):
        raise InputError(f"{folder} holds {others[0]}, which no evaluation writes; --out names another folder")
    if there:
        _compare(folder, options, extras)
    try:
        _recover(folder)
    except OSError as e:
        raise InputError(f"cannot write {folder}: {e.strerror}") from None


@contextlib.contextmanager
def only_evaluation(folder: Path) -> Iterator[None]:
    """Keep other evaluations from writing a folder meanwhile.

    Raises: InputError: one is at it, or nothing can be written beside it.
    """
    with contextlib.ExitStack() as stack:
        busy = f"another evaluation is going to write {folder}; wait for it, or give another --out"
        try:
            stack.enter_context(only_one(folder.with_name(f".{cut(folder.name, 200)}.cornerjax-lock"), busy))
        except OSError as e:
            raise InputError(f"cannot write {folder}: {e.strerror}") from None
        yield


def _names(folder: Path) -> list[str]:
    """What lies in a folder and in its pictures/."""
    pictures = folder / "pictures"
    paths = [*folder.iterdir(), *(pictures.iterdir() if pictures.is_dir() else [])]
    # A folder has a slash at its end, but for the one that an evaluation makes.
    return sorted(path.relative_to(folder).as_posix() + "/" * (path.is_dir() and path != pictures) for path in paths)


def _others(folder: Path, names: Iterable[str]) -> list[str]:
    """Of the names of _names those of what no evaluation has written, or somebody has changed since."""
    metrics = json_if_there(folder / METRICS)
    hashes = metrics.get("files") if isinstance(metrics, dict) else None
    ours = hashes if isinstance(hashes, dict) else None  # older versions have kept none
    return [name for name in names if not _is_known(name) or not _is_as_written(folder, name, ours)]


def _is_known(name: str) -> bool:
    return name in FILES or bool(re.fullmatch(r"pictures/(sheet|0|-?[1-9][0-9]*)\.jpg", name))


def _is_as_written(folder: Path, name: str, hashes: Mapping[str, object] | None) -> bool:
    if hashes is None or name in (METRICS, "pictures"):
        return True
    try:
        return sha256_of(folder / name) == hashes.get(name)
    except OSError:
        return False


def _compare(folder: Path, options: Options, extras: Collection[str]) -> None:
    """Refuse what is no evaluation, and one that differs.

    Raises: InputError: naming the difference.
    """
    metrics = json_if_there(folder / METRICS)
    if not isinstance(metrics, dict) or not isinstance(metrics.get("options"), dict):
        raise InputError(f"{folder} holds files, but no metrics.json of an evaluation; --out names another folder")
    if lost := [name for name in EXTRAS if name in metrics and name not in extras]:
        raise InputError(
            f"{folder} holds an evaluation with --{lost[0]}, which would be lost; give it here too, "
            "--out names another folder, or remove that one"
        )
    earlier = {"exif": options.get("exif")} | metrics["options"]  # those of older versions do not say it
    if changed := [name for name in options if earlier.get(name) != _as_json(options[name])]:
        raise InputError(
            f"{folder} holds an evaluation with {changed[0]} {earlier.get(changed[0])} instead of "
            f"{_as_json(options[changed[0]])}; --out names another folder, or remove that one"
        )


def write_folder(
    folder: Path,
    analysis: Analysis,
    results: Sequence[Detected],
    *,
    options: Options,
    pictures: Iterable[tuple[int, np.ndarray]] = (),
    page: str = "",
    **about: object,
) -> None:
    """Write metrics.json, results.json, three plots and pictures/; what was in the folder is replaced in one go.

    Args:
        folder: made if missing, with the folders it lies in; see check_folder.
        results: in COCO's format, as they were analysed.
        options: what the evaluation was made with.
        pictures: of image ids, (H, W, 3) uint8 BGR; drawn one by one, so that one is in memory at a time.
        page: of page.make_page, for report.html; empty: none.
        about: more entries of metrics.json, as the step of the checkpoint.
    Raises: InputError: the folder cannot be written, or an image cannot be drawn.
    """
    try:
        with unfinished_folder(folder) as unfinished:
            (unfinished / "results.json").write_text(json.dumps(results))
            save_plots(unfinished, analysis)
            if page:
                (unfinished / "report.html").write_text(page, encoding="utf-8")
            _save_pictures(unfinished / "pictures", pictures)
            hashes = {name: sha256_of(unfinished / name) for name in _names(unfinished) if name != "pictures"}
            metrics = {**as_dict(analysis), **about, "options": options, "files": hashes}
            (unfinished / METRICS).write_text(json.dumps(_as_json(metrics), indent=2))
            _exchange(unfinished, folder)
    except OSError as e:
        raise InputError(f"cannot write {folder}: {e.strerror}") from None


def _exchange(unfinished: Path, folder: Path) -> None:
    """Put a finished evaluation in the place of the one before it, if there is one.

    Raises: OSError: it cannot be moved; the one before is in its place then.
    """
    if not folder.exists():
        unfinished.rename(folder)
        return
    old = folder.with_name(f".{folder.name}.old.{uuid.uuid4().hex}")
    with locked_folder(folder):
        folder.rename(old)
        try:
            unfinished.rename(folder)
        except BaseException:
            if not folder.exists():
                old.rename(folder)
            raise
        _keep_others(old, folder)
        shutil.rmtree(old, ignore_errors=True)


def _recover(folder: Path) -> None:
    """Put back an evaluation that a process killed within _exchange had moved away.

    Raises: OSError: it cannot be moved.
    """
    ours = re.compile(rf"\.{re.escape(folder.name)}\.old\.[0-9a-f]{{32}}", re.DOTALL)
    for name in os.listdir(folder.parent) if folder.parent.is_dir() else []:
        old = folder.with_name(name)
        if ours.fullmatch(name) and (old / METRICS).is_file() and is_left(old):
            if not folder.exists():
                old.rename(folder)
                continue
            _keep_others(old, folder)
            shutil.rmtree(old, ignore_errors=True)


def _keep_others(old: Path, folder: Path) -> None:
    """Move what somebody has put into the old folder, since check_folder looked at it, into the new one.

    What has the name of a new file gets ".kept" behind it.

    Raises: OSError: it cannot be moved.
    """
    for name in _others(old, _names(old)):
        target = folder / name
        (old / name).rename(target.with_name(f"{target.name}.kept") if target.exists() else target)


def _save_pictures(folder: Path, pictures: Iterable[tuple[int, np.ndarray]]) -> None:
    small = []
    folder.mkdir()
    for image_id, picture in pictures:
        from cornerjax.inference.files import reduced, save_picture  # imports jax, which nothing else here needs

        save_picture(folder / f"{image_id}.jpg", picture)
        small.append(reduced(picture, SHEET_PX))
    if small:
        save_picture(folder / "sheet.jpg", drawing.sheet(small))


def as_dict(analysis: Analysis) -> dict[str, object]:
    """The numbers of an analysis as metrics.json has them, APs as parts of 1."""
    gains = analysis.errors.gains
    kinds = {name: {"count": count, "dAP50": gains[name]} for name, count in analysis.error_counts.items()}
    numbers: dict[str, object] = {
        **analysis.metrics,
        "false_discovery": analysis.false_discovery,
        "errors": kinds,
        "errors_from_score": analysis.curve.best_threshold,
        "per_class": analysis.per_class,
    }
    if analysis.masks is not None:
        numbers["masks"] = analysis.masks
    if analysis.voc is not None:
        per_class = {name: dataclasses.asdict(ap) for name, ap in analysis.voc.items()}
        numbers["voc"] = {**dataclasses.asdict(mean_voc(analysis.voc)), "per_class": per_class}
    return numbers


def _as_json(value: object) -> object:
    """JSON has no nan: null says that there was nothing to find; and no tuples."""
    if isinstance(value, Mapping):
        return {key: _as_json(entry) for key, entry in value.items()}
    if isinstance(value, (tuple, list)):
        return [_as_json(entry) for entry in value]
    return None if isinstance(value, float) and math.isnan(value) else value
