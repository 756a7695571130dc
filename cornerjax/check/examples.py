"""Training examples as the pipeline makes them, and which of their objects the targets cannot hold."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

from cornerjax.check.annotations import Split
from cornerjax.check.findings import Findings
from cornerjax.config import Config
from cornerjax.data import order
from cornerjax.data.crop import Draws, Objects, crop_at
from cornerjax.data.records import Record
from cornerjax.detectors.base import Detector
from cornerjax.ops.pixels import finish_image


class TrainingExample(NamedTuple):
    """A training example.

    Attributes:
        image: float32, normalised BGR.
        objects: of the crop, mirrored if it is.
        encoded: what the detector's encode gives.
        maps: what its render gives.
        mirrored: whether it is.
    """

    image: Float[np.ndarray, "H W 3"]
    objects: Objects
    encoded: dict[str, np.ndarray]
    maps: dict[str, np.ndarray]
    mirrored: bool


class Fit(NamedTuple):
    """How the objects of an example fit into its targets.

    Attributes:
        objects: in the crop.
        one_cell: objects whose keypoints all fall into one cell.
        collisions: pairs of objects of one class that share a cell.
        ignored: objects that the detector leaves out of the loss.
    """

    objects: int
    one_cell: int
    collisions: int
    ignored: int


class Examples:
    """The examples of the first epoch, one of each image that training would use.

    Args:
        split: to train on.
        config: with model.num_classes filled in.
        detector: its keypoints, crop, encode and render are used.
    Attributes:
        detector: as given.
        keypoints: the names of its keypoints.
        order: the records as the epoch takes them.
    """

    def __init__(self, split: Split, config: Config, detector: Detector):
        self.config, self.detector = config, detector
        self.keypoints = [keypoint.name for keypoint in detector.keypoints]
        records = [record for record in split.records if config.data.empty_images or len(record.classes)]
        number = len(records)
        self.order = [records[order.image_index(i, seed=config.seed, num_images=number)] for i in range(number)]
        self._positions = {record.image_id: position for position, record in enumerate(self.order)}

    def make(self, record: Record, image: UInt8[np.ndarray, "h0 w0 3"]) -> TrainingExample:
        """The example of a record, of the image of the record's size; the same as `data.examples.make_example`'s."""
        draws, image, objects = self._crop(record, image)
        encoded = self.detector.encode(objects, self.config)
        maps = {name: np.asarray(value) for name, value in self.detector.render(encoded, self.config, np).items()}
        pixels = finish_image(image, draws.flip, draws.jitter_order, draws.jitter, draws.lighting, np)
        return TrainingExample(np.asarray(pixels), objects, encoded, maps, draws.flip)

    def measure(self, record: Record, image: UInt8[np.ndarray, "h0 w0 3"]) -> Fit | None:
        """How the objects of a record's example fit; None if training would not use the record."""
        if record.image_id not in self._positions or image.shape[:2] != (record.height, record.width):
            return None
        _, _, objects = self._crop(record, image)
        encoded = self.detector.encode(objects, self.config)
        one_cell, collisions = in_one_cell(encoded, self.keypoints), count_collisions(encoded, self.keypoints)
        return Fit(len(objects["classes"]), int(one_cell.sum()), collisions, int(ignored(encoded).sum()))

    def _crop(self, record: Record, image: np.ndarray) -> tuple[Draws, np.ndarray, Objects]:
        return crop_at(self._positions[record.image_id], record, image, self.config, self.detector.crop)


def in_one_cell(encoded: dict[str, np.ndarray], keypoints: Sequence[str]) -> Bool[np.ndarray, "n"]:
    """Of the rows of an encoded example: objects whose keypoints, where they are several, all fall into one cell."""
    if len(keypoints) < 2:
        return np.zeros(len(encoded["valid"]), bool)
    first, *others = (encoded[f"{name}_cells"] for name in keypoints)
    return encoded["valid"] & np.logical_and.reduce([(first == cells).all(1) for cells in others])


def count_collisions(encoded: dict[str, np.ndarray], keypoints: Sequence[str]) -> int:
    """Pairs of objects of one class of which a keypoint falls into the same cell of its map."""
    classes, valid = encoded["classes"], encoded["valid"]
    alike = (classes[:, None] == classes) & valid & valid[:, None]
    cells = [encoded[f"{name}_cells"] for name in keypoints]
    shared = np.logical_or.reduce([(own[:, None] == own).all(-1) for own in cells])
    return int(np.triu(shared & alike, 1).sum())


def ignored(encoded: dict[str, np.ndarray]) -> Bool[np.ndarray, "n"]:
    """Of the rows of an encoded example: objects that the detector leaves out of the loss."""
    return encoded.get("ignored", np.zeros(len(encoded["valid"]), bool))


def choose(examples: Examples, fits: Mapping[int, Fit], number: int) -> list[Record]:
    """Samples worth drawing: two thirds the first of the epoch, a third those in which most objects are lost.

    Args:
        fits: of the image ids that were measured.
    """
    usable = [record for record in examples.order if record.image_id in fits]
    first, rest = usable[: number - number // 3], usable[number - number // 3 :]
    return first + sorted(rest, key=lambda record: -sum(fits[record.image_id][1:]))[: number // 3]


def note_fit(split: Split, fits: Mapping[int, Fit], findings: Findings) -> dict[str, int]:
    """Note which objects are lost in the examples of a split.

    Args:
        fits: of the image ids that were measured.
    Returns: the fields of Fit, summed over all examples.
    """
    measured = [(split.label(record), fits[record.image_id]) for record in split.records if record.image_id in fits]
    total = {name: sum(getattr(fit, name) for _, fit in measured) for name in Fit._fields}
    objects = f"{total['objects']} objects in one epoch of training crops"

    def worst(field: str) -> list[str]:
        values = sorted(((getattr(fit, field), label) for label, fit in measured), key=lambda pair: -pair[0])
        return [f"{label}: {value}" for value, label in values if value]

    one_cell = f"with all keypoints in one cell of the map, among {objects}"
    findings.add("warning", "object", one_cell, worst("one_cell"), count=total["one_cell"])
    shared = "of objects of one class with a keypoint in the same cell, so that only one of the two can be found"
    findings.add("warning", "pair", f"{shared}, among {objects}", worst("collisions"), count=total["collisions"])
    left_out = f"left out of the loss as too small or too much cut off, among {objects}"
    findings.add("info", "object", left_out, worst("ignored"), count=total["ignored"])
    return total
