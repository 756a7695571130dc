"""Training examples as the pipeline makes them, and what of the objects gets lost in them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from cornerjax.check.annotations import Split
from cornerjax.check.findings import Findings
from cornerjax.check.images import Seen
from cornerjax.config import Config
from cornerjax.data import order
from cornerjax.data.crop import Draws, Objects, crop_at
from cornerjax.data.records import Record
from cornerjax.detectors.base import Detector
from cornerjax.ops.pixels import finish_image


class Example(NamedTuple):
    """A training example.

    Attributes:
        image: (H, W, 3) float32, normalised BGR.
        objects: of the crop, mirrored if it is.
        encoded: what the detector's encode gives.
        mirrored: whether it is.
    """

    image: np.ndarray
    objects: Objects
    encoded: dict[str, np.ndarray]
    mirrored: bool


class Fit(NamedTuple):
    """How many objects of an example are what.

    Attributes:
        objects: in the crop.
        one_cell: both corners in one cell.
        collisions: pairs of one class that share a cell.
        ignored: left out of the loss by the detector.
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
        detector: its crop and encode are used.
    """

    def __init__(self, split: Split, config: Config, detector: Detector):
        self.config = config
        self._detector = detector
        self.records = [record for record in split.records if config.data.empty_images or len(record.classes)]
        number = len(self.records)
        places = [order.image_index(position, seed=config.seed, num_images=number) for position in range(number)]
        self.order = [self.records[place] for place in places]
        self._positions = {record.image_id: position for position, record in enumerate(self.order)}

    def make(self, record: Record, image: UInt8[np.ndarray, "h0 w0 3"]) -> Example:
        """That of a record, of the image of the record's size; the same as `data.pipeline.make_example`'s."""
        draws, image, objects = self._crop(record, image)
        encoded = self._detector.encode(objects, self.config)
        pixels = finish_image(image, draws.flip, draws.jitter_order, draws.jitter, draws.lighting, np)
        return Example(np.asarray(pixels), objects, encoded, draws.flip)

    def measure(self, record: Record, image: UInt8[np.ndarray, "h0 w0 3"]) -> Fit | None:
        """What gets lost in that of a record; None if training would not use it."""
        if record.image_id not in self._positions or image.shape[:2] != (record.height, record.width):
            return None
        _, _, objects = self._crop(record, image)
        encoded = self._detector.encode(objects, self.config)
        one_cell, ignored = in_one_cell(encoded), encoded.get("ignored", np.zeros(0, bool))
        return Fit(len(objects["classes"]), int(one_cell.sum()), count_collisions(encoded), int(ignored.sum()))

    def _crop(self, record: Record, image: np.ndarray) -> tuple[Draws, np.ndarray, Objects]:
        return crop_at(self._positions[record.image_id], record, image, self.config, self._detector.crop)


def in_one_cell(encoded: dict[str, np.ndarray]) -> np.ndarray:
    """(n,) bool, of the rows of an encoded example: objects whose two corners fall into one cell."""
    if "tl_cells" not in encoded or "br_cells" not in encoded:  # a detector of other points
        return np.zeros(0, bool)
    return encoded["valid"] & (encoded["tl_cells"] == encoded["br_cells"]).all(1)


def count_collisions(encoded: dict[str, np.ndarray]) -> int:
    """Pairs of objects of one class of which a point falls into the same cell of its map."""
    classes = encoded["classes"]
    pairs = np.zeros((len(classes), len(classes)), bool)
    for name, cells in encoded.items():
        if name.endswith("_cells") and name != "att_cells":
            pairs |= (cells[:, None] == cells).all(-1)
    alike = (classes[:, None] == classes) & encoded["valid"] & encoded["valid"][:, None]
    return int(np.triu(pairs & alike, 1).sum())


def choose(split: Split, seen: Sequence[Seen], examples: Examples, number: int) -> list[Record]:
    """Samples worth drawing: two thirds the first of the epoch, a third those that lose most objects."""
    fits = {record.image_id: image.measured for record, image in zip(split.records, seen, strict=True)}
    usable = [record for record in examples.order if fits[record.image_id]]
    first, rest = usable[: number - number // 3], usable[number - number // 3 :]
    return first + sorted(rest, key=lambda record: -sum(fits[record.image_id][1:]))[: number // 3]


def tell_fit(split: Split, seen: Sequence[Seen], examples: Examples, findings: Findings) -> dict[str, int]:
    """Note what gets lost in the examples; the sums over all of them."""
    total = dict.fromkeys(Fit._fields, 0)
    lost: dict[str, list[tuple[int, str]]] = {"one_cell": [], "collisions": [], "ignored": []}
    for record, image in zip(split.records, seen, strict=True):
        for name, value in image.measured._asdict().items() if image.measured else ():
            total[name] += value
            if value and name in lost:
                lost[name].append((value, split.label(record)))
    worst = {name: sorted(of_name, key=lambda pair: -pair[0]) for name, of_name in lost.items()}
    places = {name: [f"{label}: {value}" for value, label in of_name] for name, of_name in worst.items()}
    add, of = findings.add, f"of {total['objects']} in one epoch of training crops"
    add(
        "warning",
        "object",
        f"with both corners in one cell of the map, {of}",
        places["one_cell"],
        count=total["one_cell"],
    )
    add(
        "warning",
        "pair",
        f"of objects of one class with a corner in the same cell, among {total['objects']} objects "
        "in one epoch of training crops: one of the two cannot be found",
        places["collisions"],
        count=total["collisions"],
    )
    add("info", "object", f"too small, or cut too much, for the loss, {of}", places["ignored"], count=total["ignored"])
    return total
