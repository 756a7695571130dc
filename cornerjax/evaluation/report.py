"""An analysis as a folder of files; a folder that holds another evaluation, or anything else, is not replaced."""

import dataclasses
import json
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cornerjax import drawing
from cornerjax.config import InputError
from cornerjax.evaluation.analysis import Analysis
from cornerjax.evaluation.plots import save_plots
from cornerjax.evaluation.voc import mean_voc

OURS = {"metrics.json", "results.json", "pictures", "precision_recall.png", "confidence.png", "errors.png"}
Options = dict[str, Any]


def check_folder(folder: Path, options: Options) -> None:
    """Refuse to replace what is not an evaluation with the same options.

    Args:
        folder: where write_report is going to write.
        options: by name; as they will stand in metrics.json.
    Raises: InputError: naming what is in the way.
    """
    try:
        there = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    except OSError as e:
        raise InputError(f"cannot read {folder}: {e.strerror}; expected a folder for the evaluation") from None
    if others := [name for name in there if name not in OURS]:
        raise InputError(f"{folder} holds {others[0]}, which no evaluation writes; --out names another folder")
    if "metrics.json" not in there:
        return
    try:
        earlier = json.loads((folder / "metrics.json").read_bytes())["options"]
        changed = [name for name in options if earlier.get(name) != _as_json(options[name])]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return  # of a version that did not record its options
    if changed:
        raise InputError(
            f"{folder} holds an evaluation with {changed[0]} {earlier.get(changed[0])} instead of "
            f"{_as_json(options[changed[0]])}; --out names another folder, or remove that one"
        )


def write_report(
    folder: Path,
    analysis: Analysis,
    results: list[dict[str, Any]],
    *,
    options: Options,
    pictures: Mapping[int, np.ndarray] | None = None,
    **about: Any,
) -> None:
    """Write metrics.json, results.json, three plots and pictures/; what was in the folder is replaced in one go.

    Args:
        folder: made if missing, with the folders it lies in; see check_folder.
        results: in COCO's format, as they were analysed.
        options: what the evaluation was made with.
        pictures: (H, W, 3) uint8 BGR, by image id.
        about: more entries of metrics.json, as the step of the checkpoint.
    Raises: InputError: the folder cannot be written.
    """
    unfinished, old = (folder.with_name(f".{folder.name}.{kind}.{os.getpid()}") for kind in ("new", "old"))
    try:
        (unfinished / "pictures").mkdir(parents=True)
        metrics = {**as_dict(analysis), **about, "options": options}
        (unfinished / "metrics.json").write_text(json.dumps(_as_json(metrics), indent=2))
        (unfinished / "results.json").write_text(json.dumps(results))
        save_plots(unfinished, analysis)
        if pictures:
            from cornerjax.inference.files import save_picture  # imports jax, which nothing else here needs

            for image_id, picture in pictures.items():
                save_picture(unfinished / "pictures" / f"{image_id}.jpg", picture)
            save_picture(unfinished / "pictures" / "sheet.jpg", drawing.sheet(list(pictures.values())))
        if folder.exists():
            folder.rename(old)
        try:
            unfinished.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
        shutil.rmtree(old, ignore_errors=True)
    except OSError as e:
        raise InputError(f"cannot write {folder}: {e.strerror}") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def as_dict(analysis: Analysis) -> dict[str, Any]:
    """The numbers of an analysis as metrics.json has them, APs as parts of 1."""
    errors = analysis.errors
    kinds = {name: {"count": errors.counts[name], "dAP50": errors.gains[name]} for name in errors.counts}
    numbers = {
        **analysis.metrics,
        "false_discovery": analysis.false_discovery,
        "errors": kinds,
        "per_class": analysis.per_class,
    }
    if analysis.voc is not None:
        per_class = {name: dataclasses.asdict(ap) for name, ap in analysis.voc.items()}
        numbers["voc"] = {**dataclasses.asdict(mean_voc(analysis.voc)), "per_class": per_class}
    return numbers


def _as_json(value: Any) -> Any:
    """JSON has no nan: null says that there was nothing to find; and no tuples."""
    if isinstance(value, dict):
        return {key: _as_json(entry) for key, entry in value.items()}
    if isinstance(value, (tuple, list)):
        return [_as_json(entry) for entry in value]
    return None if isinstance(value, float) and math.isnan(value) else value
