"""Pictures of an analysis: curves of precision and recall, the effect of the threshold, the errors."""

import warnings
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cornerjax.evaluation.compare.analysis import Analysis
from cornerjax.evaluation.compare.curves import RECALLS, Curve, mean_precision
from cornerjax.evaluation.compare.errors import ERRORS

ALL_CLASSES = 10  # with more, only the best and the worst have a colour and a name
EXTREMES = 5
DPI = 110
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bb5500", "#332288", "#999933", "#444444")

KIND_COLOURS = {
    **{"correct": "#27ae60", "class": "#e0457b", "localisation": "#eda72a", "both": "#9b5de5", "duplicate": "#17b3c7"},
    **{"background": "#e4572e", "missed": "#3d7eff", "ignored": "#8d99a6"},
}  # of boxes, wherever they are drawn or counted
KEYPOINT_COLOURS = ("#d4f52a", "#ff6ef5", "#5ef0ff", "#ff9d4d", "#b18cff")  # of heat maps; unlike those of the boxes
LAYER_COLOUR = "#ffffff"  # of a detector's further maps


def save_plots(folder: Path, analysis: Analysis) -> None:
    """Write precision_recall.png, confidence.png and errors.png.

    Raises: OSError: one cannot be written.
    """
    figures = {
        "precision_recall": draw_precision_recall(analysis),
        "confidence": draw_confidence(analysis.curve),
        "errors": draw_errors(analysis),
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # names of classes may be in any script
        for name, figure in figures.items():
            figure.savefig(folder / f"{name}.png", dpi=DPI)


def draw_precision_recall(analysis: Analysis) -> Figure:
    """The precision that goes with each recall: left the mean of all classes at two IoUs, right each class at 0.5.

    The curves are COCO's, interpolated at 101 recalls: the mean height of one is the AP written beside it.
    """
    figure = Figure(figsize=(12, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (iou, rows), colour in zip(analysis.precision.items(), COLOURS, strict=False):
        known = rows[~np.isnan(rows[:, 0])]
        if len(known):
            label = f"IoU {iou}: AP{iou * 100:.0f} {mean_precision(rows):.3f}"
            left.plot(RECALLS, known.mean(0), color=colour, label=label, linewidth=2)
    _frame(left, f"Mean of {_number(int((analysis.boxes.totals() > 0).sum()), 'class', 'classes')}", "recall")
    left.set_ylabel("precision")

    aps = {label: float(row.mean()) for label, row in enumerate(analysis.precision[0.5]) if not np.isnan(row[0])}
    ranked = sorted(aps, key=aps.__getitem__, reverse=True)
    few = len(ranked) <= ALL_CLASSES
    named = ranked if few else [*ranked[:EXTREMES], *ranked[-EXTREMES:]]
    rows = analysis.precision[0.5]
    for other in set(ranked) - set(named):
        right.plot(RECALLS, rows[other], color="#c8c8c8", linewidth=0.7)
    for i, one in enumerate(named):
        text = f"{aps[one]:.3f} {_short(analysis.boxes.class_names[one])}"
        style = "--" if not few and i >= EXTREMES else "-"
        right.plot(RECALLS, rows[one], color=COLOURS[i], linestyle=style, linewidth=1.7, label=text)
    _frame(right, "Classes at IoU 0.5" if few else f"At IoU 0.5: the {EXTREMES} best and worst classes", "recall")
    if ranked:
        left.legend(loc="best")
        right.legend(title="AP50, class", loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9)
    return figure


def draw_confidence(curve: Curve) -> Figure:
    """Precision, recall and F1 of all boxes together at IoU 0.5, over the threshold on their score.

    Made from the matches themselves, not interpolated.
    """
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    if not len(curve.thresholds):
        axes.set_title("Nothing found")
        return figure
    everything = min(0, curve.thresholds[-1])  # below the lowest score nothing changes
    lines = {"precision": curve.precision, "recall": curve.recall, "F1": curve.f1}
    for (name, values), colour in zip(lines.items(), COLOURS, strict=False):
        x, y = np.append(curve.thresholds, everything), np.append(values, values[-1])
        axes.step(x, y, where="post", color=colour, label=name, linewidth=2)
    _frame(axes, "All boxes of all classes at IoU 0.5", "boxes with this score and more")
    if (best := curve.best) is not None:
        at = curve.thresholds[best]
        text = (
            f"best F1 {curve.f1[best]:.3f} from {at:.3f} on:\n"
            f"precision {curve.precision[best]:.3f}, recall {curve.recall[best]:.3f}"
        )
        axes.axvline(at, color="#444444", linestyle=":", label=text)
        axes.plot([at], [curve.f1[best]], "o", color="#444444")
    axes.set_xlim(everything, max(1, curve.thresholds[0]))
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return figure


def draw_errors(analysis: Analysis) -> Figure:
    """What each kind of error costs in AP50, and how many there are from the score of the best F1 on."""
    errors, threshold = analysis.errors, analysis.curve.best_threshold
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    gains = [100 * errors.gains[name] for name in ERRORS]
    counts = [analysis.error_counts[name] for name in ERRORS]
    for axes, values, form in ((left, gains, "{:.2f}"), (right, counts, "{:,}")):
        bars = axes.barh(ERRORS, np.nan_to_num(values), color=[KIND_COLOURS[name] for name in ERRORS])
        axes.bar_label(bars, [form.format(value) for value in values], padding=4)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.15)
    left.invert_yaxis()
    left.set_title(f"AP50 gained by mending it, any score, in points (AP50 is {100 * errors.ap50:.1f})", fontsize=11)
    scores = "of any score" if threshold is None else f"with a score of {threshold:.3f} or more, where F1 is best"
    right.set_title(f"How many: boxes {scores}", fontsize=11)
    return figure


def _frame(axes: Axes, title: str, x: str) -> None:
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel=x)
    axes.set_title(title, fontsize=11)
    axes.grid(color="#e6e6e6")
    axes.spines[["top", "right"]].set_visible(False)


def _number(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _short(name: str, most: int = 24) -> str:
    name = name if len(name) <= most else f"{name[: most - 1]}…"
    return name.replace("$", r"\$")  # no formula
