"""Which part of a detector limits it: its AP with the truth in place of one part, of several, of all."""

from collections.abc import Sequence
from typing import NamedTuple

from cornerjax.detectors.rows import Detections
from cornerjax.evaluation.compare.average_precision import Metrics, average_precision
from cornerjax.evaluation.evaluator import Evaluator
from cornerjax.nn.functional import Tree

COLUMNS = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")


class Oracle(NamedTuple):
    """An evaluation with the truth in place of some parts of the detector."""

    true: tuple[str, ...]
    metrics: Metrics


def evaluate_oracles(
    evaluator: Evaluator,
    params: Tree,
    model_state: Tree,
    ordinary: list[Detections],
    parts: Sequence[str],
    *,
    min_score: float = 0.0,
) -> list[Oracle]:
    """Evaluate with nothing true, each part, all but each, and all; all processes must come here.

    Args:
        ordinary: what the evaluator finds with these weights, for the row of nothing.
        parts: the detector's.
        min_score: boxes with a lower score are dropped, as they were from the ordinary ones.
    """

    def compared(true: tuple[str, ...], detections: list[Detections]) -> Oracle:
        results = evaluator.results([found.above(min_score) for found in detections])
        return Oracle(true, average_precision(evaluator.ground_truth, results, evaluator.image_ids())[0])

    asked = [compared(true, evaluator.find(params, model_state, true=true)) for true in combinations(parts)]
    return [compared((), ordinary), *asked]


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


def by_name(oracles: Sequence[Oracle]) -> dict[str, Metrics]:
    """The COLUMNS of each, as a table and metrics.json have them: "nothing", "tags", "all but tags", "all"."""
    every = max((oracle.true for oracle in oracles), key=len)
    return {_name(oracle.true, every): {key: oracle.metrics[key] for key in COLUMNS} for oracle in oracles}


def _name(true: tuple[str, ...], every: tuple[str, ...]) -> str:
    if true == every:
        return "all"
    if len(true) > 1:
        return "all but " + ", ".join(part for part in every if part not in true)
    return true[0] if true else "nothing"
