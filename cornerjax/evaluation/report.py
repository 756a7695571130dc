"""The results of an evaluation for people: a folder of files, a table on the terminal."""

import json
import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cornerjax import drawing
from cornerjax.config import InputError
from cornerjax.evaluation.coco import Evaluator, Result
from cornerjax.inference.files import save_picture

SIZES = ("small", "medium", "large")


def write_report(folder: Path, evaluator: Evaluator, result: Result, *, pictures: int = 16, **about: Any) -> None:
    """Write `metrics.json`, `results.json` and `pictures/`; what was in the folder is replaced in one go.

    Args:
        folder: usually workdir/eval.
        pictures: at most so many images are drawn, evenly over the data set.
        about: more entries of metrics.json, as the step of the checkpoint.
    Raises: InputError: the folder cannot be written.
    """
    unfinished, old = (folder.with_name(f".{folder.name}.{kind}.{os.getpid()}") for kind in ("new", "old"))
    source = evaluator.source
    try:
        (unfinished / "pictures").mkdir(parents=True)
        metrics = {**result.metrics, "per_class": result.per_class, **about}
        (unfinished / "metrics.json").write_text(json.dumps(_without_nan(metrics), indent=2))
        (unfinished / "results.json").write_text(json.dumps(result.results))
        drawn = {source.records[i].image_id: evaluator.picture(result, i) for i in evaluator.shown(pictures)}
        for image_id, picture in drawn.items():
            save_picture(unfinished / "pictures" / f"{image_id}.jpg", picture)
        if drawn:
            save_picture(unfinished / "pictures" / "sheet.jpg", drawing.sheet(list(drawn.values())))
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


def print_tables(result: Result) -> None:
    """Print COCO's twelve numbers and the AP of every class; "-" where there is nothing to find."""
    console = Console()
    columns = [("AP", "AP"), ("AP50", "AP50"), ("AP75", "AP75"), *((f"AP_{s}", f"AP {s}") for s in SIZES)]
    console.print(_table({heading: [result.metrics[name]] for name, heading in columns}))
    columns = [(f"AR_{s}", f"AR {s}") for s in ("1", "10", "100", *SIZES)]
    console.print(_table({heading: [result.metrics[name]] for name, heading in columns}))
    classes = {name: [numbers[name] for numbers in result.per_class.values()] for name in ("AP", "AP50")}
    console.print(_table({"class": list(result.per_class), **classes}))


def _table(columns: dict[str, Sequence[str | float]]) -> Table:
    table = Table()
    for heading, cells in columns.items():
        table.add_column(heading, justify="right" if cells and isinstance(cells[0], float) else "left")
    for row in zip(*columns.values(), strict=True):
        table.add_row(*(escape(cell) if isinstance(cell, str) else _shown(cell) for cell in row))
    return table


def _shown(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _without_nan(value: Any) -> Any:
    """JSON has no nan: null says that there was nothing to find."""
    if isinstance(value, dict):
        return {key: _without_nan(entry) for key, entry in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
