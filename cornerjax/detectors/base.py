"""The contract: what one detector is to the rest of the package, and the box results that all of them give."""

import dataclasses
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from flax import nnx

from cornerjax.config import Config, Model, Test
from cornerjax.errors import InputError

Outputs = list[dict[str, Any]]  # one dict of named maps a stack, (b, h, w, ...), raw: heat maps are logits


class Candidates(NamedTuple):
    """Boxes before non-maximum suppression, best first; rejected ones have score -1."""

    boxes: Any  # (b, k, 4) x1 y1 x2 y2, from a detector's decode in map cells
    scores: Any  # (b, k)
    classes: Any  # (b, k) int32
    corner_scores: Any  # (b, k, 2) what merging weighs the first and the second corner of a box by


class Found(NamedTuple):
    """Boxes after non-maximum suppression, best first, in pixels of the images; places left over have score -1."""

    boxes: Any  # (b, n, 4)
    scores: Any  # (b, n)
    classes: Any  # (b, n)


class Truth(NamedTuple):
    """What is true of a test image, to take the place of what the network says of it."""

    objects: dict[str, np.ndarray]  # "boxes" (n, 4) float32 x1 y1 x2 y2 in pixels of the image, "classes" (n,)
    parts: Collection[str]  # which of the detector's `parts` are replaced; the others stay as predicted


class Targets(NamedTuple):
    """The truth of a batch of network inputs."""

    encoded: dict[str, Any]  # of a detector's encode, (b, ...)
    replaced: dict[str, Any]  # part -> (b,) bool


@dataclasses.dataclass(frozen=True)
class Detections:
    """The boxes found in one image.

    Attributes:
        boxes: (n, 4) float32, x1 y1 x2 y2 in pixels of the image.
        scores: (n,) float32, best first.
        classes: (n,) int32, from 0.
        class_names: name of each class.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.scores)

    def above(self, score: float) -> "Detections":
        """Those with at least this score."""
        keep = self.scores >= score
        return self._rows(keep)

    def of_classes(self, names: Collection[str]) -> "Detections":
        """Those of the classes with these names."""
        return self._rows(np.isin(self.classes, [i for i, name in enumerate(self.class_names) if name in names]))

    def scaled(self, x: float, y: float) -> "Detections":
        """The same in an image whose width is x times as large, and whose height y times."""
        return dataclasses.replace(self, boxes=self.boxes * np.array([x, y, x, y], np.float32))

    def to_supervision(self) -> Any:
        """The same as `supervision.Detections`, with the names of the classes under data["class_name"].

        Raises: ImportError: supervision is not installed.
        """
        try:
            import supervision
        except ImportError:
            raise ImportError("to_supervision needs the package supervision; pip install supervision") from None
        names = np.array([self.class_names[label] for label in self.classes], np.str_)
        return supervision.Detections(
            xyxy=self.boxes, confidence=self.scores, class_id=self.classes.astype(int), data={"class_name": names}
        )

    @classmethod
    def from_supervision(cls, found: Any, class_names: Sequence[str]) -> "Detections":
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
        return Detections(self.boxes[rows], self.scores[rows], self.classes[rows], self.class_names)


class Finder(Protocol):
    """A test procedure: from images of a bucket to boxes. It keeps what it has compiled."""

    def bucket(self, height: int, width: int) -> Hashable:
        """What images must share to be taken together; InputError for an image too small."""
        ...

    def rows(self, bucket: Any, largest: int) -> int:
        """How many images of a bucket fit into memory together, at most `largest`."""
        ...

    def prepare(self, image: np.ndarray, truth: Truth | None = None) -> Any:
        """What can be done for one (H, W, 3) uint8 BGR image on the host, in a thread.

        All images that are taken together have a truth or none has; config.data.max_objects has room for the objects.
        """
        ...

    def __call__(self, params: dict, model_state: dict, images: Sequence[Any], bucket: Any, rows: int) -> Found:
        """Boxes of up to `rows` prepared images of a bucket; the shapes depend on bucket and rows only."""
        ...

    def in_phases(self, phase: Callable[[str, Callable], Callable]) -> "Finder":
        """The same procedure with every step on the device compiled by itself; `phase(name, step)` is called for it."""
        ...


@runtime_checkable
class Detector(Protocol):
    """Everything in which detectors differ. An object of this kind holds no state; DETECTORS has one of each.

    `encode` runs on the host for one example, `render` for one example on either side (`xp` is numpy or jax.numpy,
    shapes are static), `loss` and `decode` on the device for a batch. A detector with a training crop of its own has
    `crop`, of the form of `data.crop.crop_example`; for the others it is None. One with a test procedure of its own has
    `detect`, (apply, config) -> Finder; for the others it is None.
    """

    defaults: Model  # the published network
    test_defaults: Test  # and how it was tested
    crop_px: tuple[int, int]  # and the height and width of its training examples
    parts: tuple[str, ...]  # of its outputs, of which each can be replaced by the truth

    @property
    def crop(self) -> Callable | None:
        """A training crop of its own."""
        ...

    @property
    def detect(self) -> Callable | None:
        """A test procedure of its own."""
        ...

    def build(self, model: Model, rngs: np.random.Generator | None) -> nnx.Module:
        """The network: `model(images, train=) -> Outputs`; without `rngs` all weights are zero, to be filled."""
        ...

    def stride(self, model: Model) -> int:
        """Image pixels a cell of the output maps."""
        ...

    def check(self, config: Config) -> None:
        """Refuse, with an InputError, a network that cannot be built and a training crop that does not fit it."""
        ...

    def input_size(self, height: int, width: int, model: Model) -> tuple[int, int]:
        """The legal size, at least the given one, to pad an image to."""
        ...

    def encode(self, objects: dict[str, np.ndarray], config: Config) -> dict[str, np.ndarray]:
        """Objects of one crop -> every integer and mask of its targets, in fixed shapes, decided once, on the host."""
        ...

    def render(self, encoded: dict[str, Any], config: Config, xp: Any) -> dict[str, Any]:
        """Draw the heat maps of one encoded example."""
        ...

    def counts(self, targets: dict[str, Any], config: Config) -> dict[str, Any]:
        """The numbers that the loss of a batch is divided by: sums over its images."""
        ...

    def loss(
        self, outputs: Outputs, targets: dict[str, Any], config: Config, counts: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Scalars by name, with "total"; with the counts of a batch, the share in them that a part of it has."""
        ...

    def decode(self, outputs: Outputs, config: Config) -> Candidates:
        """Raw maps of the last stack -> candidate boxes in cells."""
        ...

    def with_truth(self, outputs: Outputs, targets: Targets, config: Config) -> Outputs:
        """Raw maps of the last stack, the parts that are to be replaced as a network without mistakes would give them.

        What the others say stays as it is, to the bit. config.data.crop_px is the size of the network's input.
        """
        ...

    def torch_names(self, model: Model) -> dict[str, str]:
        """Key of a released checkpoint -> dotted path of our variable."""
        ...
