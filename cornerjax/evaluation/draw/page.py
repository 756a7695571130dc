"""An analysis as a page: one HTML file with everything in it, which no network is needed for."""

import dataclasses
import datetime
import io
import itertools
import math
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jinja2
import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

from cornerjax.data.records import Source
from cornerjax.evaluation.compare.analysis import Analysis
from cornerjax.evaluation.compare.average_precision import NAMES
from cornerjax.evaluation.compare.ranking import score_images, score_range, worst_and_best
from cornerjax.evaluation.compare.voc import mean_voc
from cornerjax.evaluation.draw.plots import (
    KEYPOINT_COLOURS,
    KIND_COLOURS,
    LAYER_COLOUR,
    draw_confidence,
    draw_precision_recall,
)
from cornerjax.progress import progress
from cornerjax.text import number

MEANINGS = {
    "correct": "the first box on an object of its class, at IoU 0.5 or more",
    "class": "on an object of another class",
    "localisation": "of the right class, but overlaps the object too little",
    "both": "overlaps an object of another class too little",
    "duplicate": "on an object that a box of a higher score has found",
    "background": "on nothing",
    "missed": "objects that no box is on",
    "ignored": "on a crowd region, or beyond the boxes that count",
}
COLUMNS = {
    **{"boxes": "boxes", "AP": "AP", "AP50": "AP50", "threshold": "best F1 at"},
    **{"F1": "F1", "precision": "precision", "recall": "recall"},
}
VOC_COLUMNS = {"all_points": "VOC AP", "eleven_points": "11-point"}
RANKING = {
    "worst": "lowest F1 with the boxes of score %g and more, of equals those with most errors",
    "best": "highest F1 with the boxes of score %g and more, of equals those with most objects",
}
MANY_CLASSES = 12  # from which on there is a field to search them
# What plots draw in black and white follows the colours of the page.
_THEMED = {"#000000": "currentColor", "#444444": "currentColor", "#ffffff": "var(--card)"}
_THEMED |= {"#e6e6e6": "var(--line)", "#cccccc": "var(--line)", "#c8c8c8": "var(--faint)"}


def make_page(
    analysis: Analysis,
    images: int,
    *,
    about: Mapping[str, object],
    notes: Sequence[str] = (),
    source: Source | None = None,
    predictor: Any = None,
) -> str:
    """The page of an analysis.

    Args:
        images: shown at most, see ranking.worst_and_best.
        about: what was evaluated, by heading; the first is the title.
        notes: sentences that whoever reads the numbers has to know.
        source: of the images; None: none are shown.
        predictor: an inference.predictor.Predictor (its type would import jax, which nothing else here needs) for the
            heat maps of images; None: there are none.
    Raises: InputError: an image cannot be read.
    """
    scores = score_range(analysis)
    worst, best = worst_and_best(score_images(analysis, scores.start), images if source else 0)
    cards: list[Any] = []
    if source:
        from cornerjax.evaluation.draw.cards import make_card  # imports jax, which nothing else here needs

        records = {record.image_id: record for record in source.records}
        chosen = [*worst, *best]
        made = (make_card(analysis, score, records[score.image], predictor=predictor) for score in chosen)
        cards = list(progress(made, total=len(chosen), what="making the report"))
    return _template().render(
        analysis=analysis,
        about=about,
        notes=notes,
        date=datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        headlines=_headlines(analysis),
        errors=_errors(analysis),
        columns=COLUMNS | (VOC_COLUMNS if analysis.voc else {}),
        per_class=_per_class(analysis),
        many=len(analysis.per_class) > MANY_CLASSES,
        meanings=MEANINGS,
        colours=KIND_COLOURS,
        plots={
            "Precision and recall": _svg(draw_precision_recall(analysis), width=10.0),
            "The threshold on the score": _svg(draw_confidence(analysis.curve), width=6.6),
        },
        cards={"worst": cards[: len(worst)], "best": cards[len(worst) :]},
        layers=_layers(cards[0].layers, predictor) if cards and predictor else {},
        ranking=RANKING,
        has_images=source is not None,
        scores=scores,
    )


def _layers(names: Iterable[str], predictor: Any) -> dict[str, list[tuple[str, str]]]:
    """The legend, (label, colour), of each layer that can be laid over the images, by its name."""
    keypoints, *others = names
    labels = [keypoint.label for keypoint in predictor.detector.keypoints]
    return {keypoints: list(zip(labels, itertools.cycle(KEYPOINT_COLOURS), strict=False))} | {
        name: [(name, LAYER_COLOUR)] for name in others
    }


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cornerjax.evaluation.draw"),
        autoescape=True,  # names of classes and files are data
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "short": "{:g}".format}
    return environment.get_template("report.html")


def _headlines(analysis: Analysis) -> list[tuple[str, str, dict[str, float]]]:
    """(heading, what it is, {name: number}) of each group."""
    metrics = analysis.metrics
    groups = [
        ("Average precision", "", {name: metrics[name] for name in NAMES[:6]}),
        ("Average recall", "with 1, 10 and 100 boxes an image", {name: metrics[name] for name in NAMES[6:]}),
        ("False discovery rate", "1 - AP at low IoUs: how much is on nothing", analysis.false_discovery),
    ]
    if analysis.masks is not None:
        masks = {name: analysis.masks[name] for name in NAMES[:6]}
        groups.insert(1, ("Average precision of masks", "", masks))
    if analysis.voc:
        mean = mean_voc(analysis.voc)
        groups.append(
            ("PASCAL VOC", "mean AP at IoU 0.5", {"all points": mean.all_points, "11 points": mean.eleven_points})
        )
    return groups


def _errors(analysis: Analysis) -> list[dict[str, str | int | float]]:
    """The rows of the table of errors; parts are of the longest bar, in percent."""
    counts, gained = analysis.error_counts, analysis.errors.gains
    most = max(1, *counts.values())
    gains = {name: 0 if math.isnan(gain) else max(0, gain) for name, gain in gained.items()}
    largest = max(gains.values()) or 1
    return [
        {
            "name": name,
            "count": count,
            "count_part": 100 * count / most,
            "gain": gained[name],
            "gain_part": 100 * gains[name] / largest,
        }
        for name, count in counts.items()
    ]


def _per_class(analysis: Analysis) -> dict[str, dict[str, int | float]]:
    rows = analysis.per_class
    if analysis.voc is None:
        return rows
    return {name: row | dataclasses.asdict(analysis.voc[name]) for name, row in rows.items()}


def _svg(figure: Figure, *, width: float) -> Markup:
    """A figure as an element of the page, in its colours and its type."""
    figure.set_size_inches(width, 4.2)
    content = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # the browser has the letters
        figure.savefig(content, format="svg", transparent=True, metadata=nothing)
    drawing = content.getvalue().partition("<svg")[2]
    attributes, _, drawing = drawing.partition(">")
    box = re.search(r'viewBox="[^"]+"', attributes)
    # Ids of groups, which would occur twice on the page; nothing refers to them.
    drawing = re.sub(r' id="[a-z0-9]+_\d+"', "", drawing).replace("xlink:href", "href")
    for colour, themed in _THEMED.items():
        drawing = drawing.replace(colour, themed)
    return Markup(f'<svg xmlns="http://www.w3.org/2000/svg" {box[0] if box else ""}>{drawing}')
