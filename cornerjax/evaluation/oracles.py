"""Which part of a detector limits it: its AP with the truth in place of one part, of several, of all."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Column, Table

from cornerjax.evaluation.average_precision import Metrics
from cornerjax.evaluation.coco import Evaluator, Result

COLUMNS = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")


class Oracle(NamedTuple):
    """An evaluation with the truth in place of some parts of the detector."""

    true: tuple[str, ...]
    metrics: Metrics


def ask_oracles(
    evaluator: Evaluator, params: dict[str, Any], model_state: dict[str, Any], ordinary: Result, parts: Sequence[str]
) -> list[Oracle]:
    """Evaluate with nothing true, each part, all but each, and all; all processes must come here.

    Args:
        ordinary: what the evaluator says of these weights.
        parts: the detector's.
    """
    asked = [evaluator(params, model_state, true=true) for true in combinations(parts)]
    found = zip(combinations(parts), (result.metrics for result in asked), strict=True)
    return [Oracle((), ordinary.metrics), *(Oracle(true, metrics) for true, metrics in found)]


def combinations(parts: Sequence[str]) -> list[tuple[str, ...]]:
    """Each part alone, all but each, all of them; none twice."""
    alone = [(part,) for part in parts]
    but_one = [tuple(other for other in parts if other != part) for part in parts]
    return list(dict.fromkeys([*alone, *but_one, tuple(parts)]))


def verdict(oracles: Sequence[Oracle]) -> str:
    """The sentence that names the part whose truth gains most AP."""
    before = oracles[0].metrics["AP"]
    alone = {oracle.true[0]: oracle.metrics["AP"] for oracle in oracles if len(oracle.true) == 1}
    best = max(alone, key=lambda part: alone[part] - before)
    if not alone[best] > before:
        return "no part alone limits it: the truth of none raises AP"
    every = max(oracles, key=lambda oracle: len(oracle.true)).metrics["AP"]
    return (
        f"the truth in place of its {best} alone raises AP most, from {before:.3f} to {alone[best]:.3f}; "
        f"in place of everything, to {every:.3f}"
    )


def print_oracles(oracles: Sequence[Oracle]) -> None:
    """Print a table, a row for each combination, and the verdict."""
    table = Table(Column("true", no_wrap=True), *(name.replace("_", " ") for name in COLUMNS))
    for name, metrics in by_name(oracles).items():
        table.add_row(name, *("-" if math.isnan(value) else f"{value:.3f}" for value in metrics.values()))
    Console().print(table)
    print(verdict(oracles))


def by_name(oracles: Sequence[Oracle]) -> dict[str, Metrics]:
    """The COLUMNS of each combination, as a table and metrics.json have them: by "nothing", "tags + offsets", "all"."""
    most = max(len(oracle.true) for oracle in oracles)
    names = ["all" if len(oracle.true) == most else " + ".join(oracle.true) or "nothing" for oracle in oracles]
    numbers = [{key: oracle.metrics[key] for key in COLUMNS} for oracle in oracles]
    return dict(zip(names, numbers, strict=True))
