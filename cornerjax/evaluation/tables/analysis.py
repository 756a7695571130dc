"""An analysis on the terminal."""

import math
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cornerjax.evaluation.compare.analysis import Analysis
from cornerjax.evaluation.compare.errors import ERRORS
from cornerjax.evaluation.compare.false_discovery import SIZES
from cornerjax.evaluation.compare.voc import VocAP, mean_voc
from cornerjax.text import number, plain

LONG = 30  # of more classes, only the best and the worst are printed
EXTREMES = 10


def print_tables(analysis: Analysis) -> None:
    """Print every number; "-" where there is nothing to find."""
    console = Console()
    metrics = analysis.metrics
    columns = [("AP", "AP"), ("AP50", "AP50"), ("AP75", "AP75"), *((f"AP_{s}", f"AP {s}") for s in SIZES)]
    console.print(_table({heading: [metrics[name]] for name, heading in columns}))
    if analysis.masks is not None:
        console.print(_table({f"mask {heading}": [analysis.masks[name]] for name, heading in columns}))
    elif analysis.no_masks:
        console.print(f"no AP of masks: {analysis.no_masks}", highlight=False)
    columns = [(f"AR_{s}", f"AR {s}") for s in ("1", "10", "100", *SIZES)]
    console.print(_table({heading: [metrics[name]] for name, heading in columns}))
    console.print(_table({name.replace("_", " "): [rate] for name, rate in analysis.false_discovery.items()}))
    console.print(_errors(analysis))
    console.print(_caption(analysis), highlight=False)
    console.print(_classes(analysis.per_class))
    if analysis.voc is not None:
        console.print(_voc(analysis.voc))


def _errors(analysis: Analysis) -> Table:
    columns: dict[str, Sequence[str | float | int]] = {
        "error": ERRORS,
        "boxes": [analysis.error_counts[name] for name in ERRORS],
        "dAP50": [analysis.errors.gains[name] for name in ERRORS],
    }
    return _table(columns)


def _caption(analysis: Analysis) -> str:
    """What the numbers of _errors are; not rich's caption, which would be as narrow as the table."""
    threshold = analysis.curve.best_threshold
    if threshold is None:
        counted = "of any score, as none is right"
    else:
        counted = f"with a score of {threshold:.3f} or more, where F1 is best"
    return f"boxes: {counted}\ndAP50: the AP50 gained if those of any score were mended"


def _classes(per_class: dict[str, dict[str, int | float]]) -> Table:
    ranked, caption = _extremes({name: numbers["AP"] for name, numbers in per_class.items()})
    columns: dict[str, Sequence[str | float | int]] = {"class": ranked}
    headings = {"boxes": "boxes", "AP": "AP", "AP50": "AP50", "threshold": "best F1 at"}
    headings |= {"precision": "precision", "recall": "recall"}
    for name, heading in headings.items():
        columns[heading] = [per_class[ranked_name][name] for ranked_name in ranked]
    return _table(columns, caption=caption)


def _voc(results: dict[str, VocAP]) -> Table:
    ranked, caption = _extremes({name: ap.all_points for name, ap in results.items()})
    aps = [*(results[name] for name in ranked), mean_voc(results)]
    columns: dict[str, Sequence[str | float | int]] = {
        "VOC, IoU 0.5": [*ranked, "mAP"],
        "AP": [ap.all_points for ap in aps],
        "11-point": [ap.eleven_points for ap in aps],
    }
    return _table(columns, caption=caption)


def _extremes(aps: dict[str, float]) -> tuple[list[str], str]:
    """The classes to be printed and a word on those that are not: all of few, of many the best and the worst."""
    if len(aps) <= LONG:
        return list(aps), ""
    known = sorted((name for name in aps if not math.isnan(aps[name])), key=aps.__getitem__, reverse=True)
    if len(known) <= 2 * EXTREMES:
        return known, "metrics.json has all classes"
    return [*known[:EXTREMES], *known[-EXTREMES:]], f"the {EXTREMES} best and worst; metrics.json has all classes"


def _table(columns: dict[str, Sequence[str | float | int]], *, caption: str = "") -> Table:
    table = Table(caption=caption or None, caption_justify="left")
    for heading, cells in columns.items():
        table.add_column(heading, justify="left" if cells and isinstance(cells[0], str) else "right")
    for row in zip(*columns.values(), strict=True):
        table.add_row(*(escape(plain(cell)) if isinstance(cell, str) else number(cell) for cell in row))
    return table
