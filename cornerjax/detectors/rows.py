"""Boxes on their way from a network's maps to the user."""

import dataclasses
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from cornerjax.data.geometry import is_points
from cornerjax.detectors.octagons import filled, octagons
from cornerjax.errors import InputError

if TYPE_CHECKING:
    import supervision

Array = jax.Array | np.ndarray
Extra = dict[str, Array]


class Candidates(NamedTuple):
    """Boxes before non-maximum suppression, best first; rejected ones have score -1.

    Attributes:
        boxes: x1 y1 x2 y2, from a detector's decode in map cells.
        scores: in [0, 1].
        classes: from 0, int32.
        extra: what else belongs to a row, (b, k, ...): it follows the boxes through every sort and suppression. Fields
            ending in "_points" are x, y and are moved and mirrored with the boxes. "corner_scores" (b, k, 2), if it is
            there, is what merging weighs the top-left and the bottom-right corner of a box by; otherwise its score is.
    """

    boxes: Float[Array, "b k 4"]
    scores: Float[Array, "b k"]
    classes: Int[Array, "b k"]
    extra: Extra


class Found(NamedTuple):
    """Boxes after non-maximum suppression, best first, in pixels of the images; places left over have score -1."""

    boxes: Float[Array, "b n 4"]
    scores: Float[Array, "b n"]
    classes: Int[Array, "b n"]
    extra: Extra


@dataclasses.dataclass(frozen=True)
class Detections:
    """The boxes found in one image.

    Attributes:
        boxes: (n, 4) float32, x1 y1 x2 y2 in pixels of the image.
        scores: (n,) float32, best first.
        classes: (n,) int32, from 0.
        class_names: name of each class.
        extra: what else the detector says of each box, (n, ...) by name, such as "extreme_points" (n, 4, 2), x, y in
            pixels of the image.
        size: height and width of the image; None: not known.
    """

    boxes: Float[np.ndarray, "n 4"]
    scores: Float[np.ndarray, "n"]
    classes: Int[np.ndarray, "n"]
    class_names: tuple[str, ...]
    extra: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    size: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def above(self, score: float) -> "Detections":
        """Those with at least this score."""
        keep = self.scores >= score
        return self._rows(keep)

    def of_classes(self, names: Collection[str]) -> "Detections":
        """Those of the classes with these names; text is one name."""
        names = [names] if isinstance(names, str) else names
        return self._rows(np.isin(self.classes, [i for i, name in enumerate(self.class_names) if name in names]))

    @property
    def polygons(self) -> Float[np.ndarray, "n p 2"] | None:
        """A rough outline of each object, x, y in pixels of the image: the octagon of its extreme points.

        None: the detector finds no such points.
        """
        points = self.extra.get("extreme_points")
        return None if points is None else octagons(points)

    def scaled(self, x: float, y: float) -> "Detections":
        """The same in an image whose width is x times as large, and whose height y times."""
        by = np.array([x, y], np.float32)
        size = self.size and (round(self.size[0] * y), round(self.size[1] * x))
        extra = {name: values * by if is_points(name) else values for name, values in self.extra.items()}
        return dataclasses.replace(self, boxes=self.boxes * np.tile(by, 2), extra=extra, size=size)

    def to_supervision(self) -> "supervision.Detections":
        """The same as `supervision.Detections`, with the names of the classes under data["class_name"].

        Where the detector finds extreme points, the masks are their octagons.

        Raises: ImportError: supervision is not installed.
        """
        try:
            import supervision
        except ImportError:
            raise ImportError("to_supervision needs the package supervision; pip install supervision") from None
        names = np.array([self.class_names[label] for label in self.classes], np.str_)
        polygons = self.polygons if self.size else None
        return supervision.Detections(
            xyxy=self.boxes,
            mask=None if polygons is None or self.size is None else filled(polygons, *self.size),
            confidence=self.scores,
            class_id=self.classes.astype(int),
            data={"class_name": names},
        )

    @classmethod
    def from_supervision(cls, found: "supervision.Detections", class_names: Sequence[str]) -> "Detections":
        """Boxes of a `supervision.Detections`; its masks, tracks and other data are left out.

        Args:
            found: with class_id; boxes without confidence, as true ones are, get the score 1.
            class_names: the name of each class_id.
        Raises: InputError: found has no class_id, or one that class_names lacks.
        """
        if found.class_id is None and len(found):
            raise InputError("these supervision detections have no class_id; every box needs a class")
        boxes, classes = np.asarray(found.xyxy, np.float32), np.asarray(found.class_id if len(found) else [], np.int32)
        if len(classes) and not (classes.min() >= 0 and classes.max() < len(class_names)):
            raise InputError(
                f"supervision detections have class_id {classes.min()} to {classes.max()}; "
                f"with {len(class_names)} class names, 0 to {len(class_names) - 1} are accepted"
            )
        scores = np.ones(len(classes)) if found.confidence is None else found.confidence
        best = np.argsort(-np.asarray(scores, np.float32), kind="stable")
        together = cls(boxes.reshape(-1, 4), np.asarray(scores, np.float32), classes, tuple(class_names))
        return together._rows(best)

    def _rows(self, rows: np.ndarray) -> "Detections":
        extra = {name: values[rows] for name, values in self.extra.items()}
        boxes, scores, classes = self.boxes[rows], self.scores[rows], self.classes[rows]
        return dataclasses.replace(self, boxes=boxes, scores=scores, classes=classes, extra=extra)
