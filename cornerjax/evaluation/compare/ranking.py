"""Which images of an evaluation are worth looking at: those with the most errors, and those with none."""

import math
from typing import NamedTuple

import numpy as np

from cornerjax.evaluation.compare.analysis import Analysis
from cornerjax.evaluation.compare.errors import Kind

STEPS = 100  # of the threshold, over the range of the scores


class ImageScore(NamedTuple):
    """How well the boxes of an image, from a score on, fit its objects, at IoU 0.5."""

    image: int  # the file's own id
    right: int  # found boxes that are right
    wrong: int  # and that are not
    missed: int  # objects that no box has found

    @property
    def f1(self) -> float:
        return 2 * self.right / (2 * self.right + self.wrong + self.missed)


class Scores(NamedTuple):
    """The range of a threshold on the score."""

    low: float
    high: float
    step: float
    start: float  # the best F1 of all boxes together, rounded down to a step; low where nothing right was found


def score_range(analysis: Analysis) -> Scores:
    """A range that holds every score and, where that is possible, goes from 0 to 1."""
    scores, curve = analysis.boxes.found.scores, analysis.curve
    low, high = scores.min(initial=0), scores.max(initial=1)
    step = 10 ** math.ceil(math.log10(high - low)) / STEPS
    low, high = step * math.floor(low / step), step * math.ceil(high / step)
    start = low if curve.best_threshold is None else step * math.floor(curve.best_threshold / step)
    return Scores(*(round(float(value), 9) for value in (low, high, step, start)))


def score_images(analysis: Analysis, threshold: float) -> list[ImageScore]:
    """The images with an object, or a box of this score or more; crowd regions and what is on them do not count."""
    true, found, errors = analysis.boxes.true, analysis.boxes.found, analysis.errors
    shown = (found.scores >= threshold) & (errors.kinds != Kind.IGNORED)
    right = shown & (errors.kinds == Kind.CORRECT)
    hit = np.zeros(len(true.classes), bool)
    hit[errors.true_index[right]] = True
    images, place = np.unique(
        np.concatenate([found.images[right], found.images[shown & ~right], true.images[~hit & ~true.crowd]]),
        return_inverse=True,
    )
    kinds = np.repeat([0, 1, 2], [right.sum(), (shown & ~right).sum(), (~hit & ~true.crowd).sum()])
    counts = np.zeros((len(images), 3), int)
    np.add.at(counts, (place, kinds), 1)
    return [ImageScore(image, *row) for image, row in zip(images.tolist(), counts.tolist(), strict=True)]


def worst_and_best(scores: list[ImageScore], count: int) -> tuple[list[ImageScore], list[ImageScore]]:
    """At most `count` images, three quarters of them the worst: of the lowest F1, of equals those with most errors.

    The best, a quarter and more where fewer have errors, have the highest F1, of equals those with most objects; none
    is among the worst.
    """
    ranked = sorted(scores, key=lambda s: (s.f1, -s.wrong - s.missed, s.image))
    worst = [s for s in ranked if s.f1 < 1][: count - count // 4]
    rest = [s for s in scores if s.right and s not in worst]
    return worst, sorted(rest, key=lambda s: (-s.f1, -s.right, s.image))[: count - len(worst)]
