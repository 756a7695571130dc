"""True and found boxes of a data set as arrays, and COCO's answer to which found box is which true one."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from cornerjax.evaluation.compare.entries import Annotation, Category, Detected, GroundTruth

MAX_DETECTIONS = 100  # boxes of a class that count in an image, as in COCO


@dataclasses.dataclass(frozen=True)
class TrueBoxes:
    """The objects of a data set.

    Attributes:
        boxes: x1 y1 x2 y2 in pixels.
        box_areas: width x height, as the file has them: x2 - x1 is not always that width.
        images: the file's own id of the image of each.
        classes: from 0, in the order of the category ids.
        areas: what COCO calls small, medium and large by: the area of the object, or of the box if the file has none.
        crowd: regions that hold many objects; boxes found on them are neither right nor wrong.
        difficult: objects that do not count in PASCAL VOC.
    """

    boxes: Float[np.ndarray, "m 4"]
    box_areas: Float[np.ndarray, "m"]
    images: Int[np.ndarray, "m"]
    classes: Int[np.ndarray, "m"]
    areas: Float[np.ndarray, "m"]
    crowd: Bool[np.ndarray, "m"]
    difficult: Bool[np.ndarray, "m"]


@dataclasses.dataclass(frozen=True)
class FoundBoxes:
    """What a detector found, in any order; boxes, their areas, images and classes as in TrueBoxes."""

    boxes: Float[np.ndarray, "n 4"]
    box_areas: Float[np.ndarray, "n"]
    images: Int[np.ndarray, "n"]
    classes: Int[np.ndarray, "n"]
    scores: Float[np.ndarray, "n"]


@dataclasses.dataclass(frozen=True)
class Boxes:
    """Everything that is compared; two classes of the same name are told apart by their ids."""

    class_names: tuple[str, ...]
    true: TrueBoxes
    found: FoundBoxes

    def totals(self, required: Bool[np.ndarray, "m"] | None = None) -> Int[np.ndarray, "c"]:
        """True boxes to be found, of each class; all but crowd regions if not told."""
        required = ~self.true.crowd if required is None else required
        return np.bincount(self.true.classes[required], minlength=len(self.class_names))

    def overlaps(self, found: Int[np.ndarray, "n"], true: Int[np.ndarray, "m"]) -> Float[np.ndarray, "n m"]:
        """Of these rows, what COCO compares: IoU, with a crowd region the part of the found box that lies on it."""
        areas = self.found.box_areas[found], self.true.box_areas[true]
        return overlaps(self.found.boxes[found], self.true.boxes[true], areas=areas, crowd=self.true.crowd[true])


@dataclasses.dataclass(frozen=True)
class Matches:
    """Which found box is which true one, at one IoU.

    Attributes:
        required: true boxes that are to be found.
        true_index: row of the true box that a found box is matched with; -1: none.
        ignored: found boxes that do not count: those matched with a true box that is not required, and those beyond
            the MAX_DETECTIONS best of their class in their image.
        found_index: row of the found box that is matched with a required true one; -1: none.
    """

    required: Bool[np.ndarray, "m"]
    true_index: Int[np.ndarray, "n"]
    ignored: Bool[np.ndarray, "n"]
    found_index: Int[np.ndarray, "m"]

    @property
    def right(self) -> Bool[np.ndarray, "n"]:
        """The true positives."""
        return (self.true_index >= 0) & ~self.ignored


def as_arrays(ground_truth: GroundTruth, results: Sequence[Detected], image_ids: Iterable[int]) -> Boxes:
    """Arrays of a COCO ground truth and of results in COCO's format.

    Args: as in average_precision. Rows are in the order of the lists, less those of images that do not count.
    """
    images = set(image_ids)
    truth = [entry for entry in ground_truth["annotations"] if entry["image_id"] in images]
    found = [entry for entry in results if entry["image_id"] in images]
    names = labels(ground_truth["categories"])
    order = {category_id: i for i, category_id in enumerate(names)}

    def shared(
        entries: Sequence[Annotation] | Sequence[Detected],
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        boxes = np.array([entry["bbox"] for entry in entries], np.float64).reshape(-1, 4)
        box_areas = boxes[:, 2] * boxes[:, 3]
        boxes[:, 2:] += boxes[:, :2]
        classes = np.array([order[entry["category_id"]] for entry in entries], np.int64)
        return boxes, box_areas, np.array([entry["image_id"] for entry in entries], np.int64), classes

    def marked(name: str) -> np.ndarray:
        return np.array([bool(entry.get(name)) for entry in truth], bool)

    boxes, box_areas, its_images, classes = shared(truth)
    given = np.array([entry.get("area") for entry in truth], np.float64)  # nan: none
    areas = np.where(np.isnan(given), box_areas, given)
    return Boxes(
        tuple(names.values()),
        TrueBoxes(boxes, box_areas, its_images, classes, areas, marked("iscrowd"), marked("difficult")),
        FoundBoxes(*shared(found), np.array([entry["score"] for entry in found], np.float64)),
    )


def labels(categories: list[Category]) -> dict[int, str]:
    """Category id -> name, in the order of the ids; names that occur twice are told apart by their ids."""
    given = [category["name"] for category in categories]
    taken, names = set(given), {}
    for category in sorted(categories, key=lambda category: category["id"]):
        name = category["name"]
        while given.count(category["name"]) > 1 and name in taken:
            name = f"{name} {category['id']}"
        taken.add(name)
        names[category["id"]] = name
    return names


def by_image(boxes: Boxes) -> Iterator[tuple[Int[np.ndarray, "m"], Int[np.ndarray, "n"]]]:
    """Yield (rows of true boxes, rows of found boxes, best first) of every image that has any, by increasing id."""
    images = np.union1d(boxes.true.images, boxes.found.images)
    true = np.argsort(boxes.true.images, kind="stable")
    found = np.lexsort((-boxes.found.scores, boxes.found.images))
    true_ends = np.searchsorted(boxes.true.images[true], images, side="right")[:-1]
    found_ends = np.searchsorted(boxes.found.images[found], images, side="right")[:-1]
    if len(images):
        yield from zip(np.split(true, true_ends), np.split(found, found_ends), strict=True)


def overlaps(
    found: Float[np.ndarray, "n 4"],
    true: Float[np.ndarray, "m 4"],
    *,
    areas: tuple[Float[np.ndarray, "n"], Float[np.ndarray, "m"]],
    crowd: Bool[np.ndarray, "m"] | None = None,
) -> Float[np.ndarray, "n m"]:
    """IoU of every found box with every true one; with a crowd region, the part of the found box that lies on it.

    Args:
        areas: of the found and of the true boxes.
    Source: pycocotools, common/maskApi.c, bbIou; the same to the last bit, as an IoU may be a threshold exactly.
    """
    sides = np.minimum(found[:, None, 2:], true[None, :, 2:]) - np.maximum(found[:, None, :2], true[None, :, :2])
    shared = np.maximum(sides, 0).prod(-1)
    own, other = areas[0][:, None], areas[1]
    union = own + other - shared
    if crowd is not None:
        union = np.where(crowd, own, union)
    return np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)


def match(boxes: Boxes, *, iou: float = 0.5) -> Matches:
    """Give every true box the best-scored found box that overlaps it enough, as COCO does; see match_at."""
    return match_at(boxes, [iou])[0]


def match_at(boxes: Boxes, ious: Sequence[float], *, required: Bool[np.ndarray, "m"] | None = None) -> list[Matches]:
    """Match at several IoUs.

    Of the true boxes of its class in its image that are still free, a found box takes the one it overlaps most; one
    that is not required only where there is no other, and then it is ignored. Crowd regions are always free.

    Args:
        ious: least overlaps, in (0, 1].
        required: true boxes that are to be found; all but crowd regions if not told.
    Source: pycocotools, cocoeval.py, evaluateImg.
    """
    true, found = boxes.true, boxes.found
    required = ~true.crowd if required is None else required & ~true.crowd
    least = np.minimum(np.array(ious, np.float64), 1 - 1e-10)  # so that an IoU of 1 may be rounded
    true_index = np.full((len(least), len(found.scores)), -1)
    beyond = _rank(found) >= MAX_DETECTIONS
    for true_rows, found_rows in by_image(boxes):
        found_rows = found_rows[~beyond[found_rows]]
        same = found.classes[found_rows, None] == true.classes[true_rows]
        crowd, wanted = true.crowd[true_rows], required[true_rows]
        overlap = boxes.overlaps(found_rows, true_rows) * same
        free = np.ones((len(least), len(true_rows)), bool)
        for row in np.flatnonzero((overlap >= least.min()).any(1)):
            best, enough = _choose(overlap[row], free & wanted, least)
            if not wanted.all():
                other, also = _choose(overlap[row], (free | crowd) & ~wanted, least)
                best, enough = np.where(enough, best, other), enough | also
            at = np.flatnonzero(enough)
            free[at, best[at]] = False
            true_index[at, found_rows[row]] = true_rows[best[at]]
    return [_matches(index, required, beyond) for index in true_index]


def _choose(
    overlap: Float[np.ndarray, "m"], allowed: Bool[np.ndarray, "t m"], least: Float[np.ndarray, "t"]
) -> tuple[Int[np.ndarray, "t"], Bool[np.ndarray, "t"]]:
    """The true box that is overlapped most, and whether it is enough; of equals the last, as in pycocotools."""
    here = np.where(allowed, overlap, 0)[:, ::-1]
    first = here.argmax(1)
    return here.shape[1] - 1 - first, here[np.arange(len(here)), first] >= least


def _matches(
    true_index: Int[np.ndarray, "n"], required: Bool[np.ndarray, "m"], beyond: Bool[np.ndarray, "n"]
) -> Matches:
    matched = np.flatnonzero(true_index >= 0)
    ignored, found_index = beyond.copy(), np.full(len(required), -1)
    ignored[matched] = ~required[true_index[matched]]
    right = matched[~ignored[matched]]
    found_index[true_index[right]] = right
    return Matches(required, true_index, ignored, found_index)


def _rank(found: FoundBoxes) -> Int[np.ndarray, "n"]:
    """The place, from 0, of every box among those of its class and image."""
    order = np.lexsort((-found.scores, found.classes, found.images))
    images, classes = found.images[order], found.classes[order]
    starts = np.ones(len(order), bool)
    starts[1:] = (images[1:] != images[:-1]) | (classes[1:] != classes[:-1])
    position = np.arange(len(order))
    rank = np.empty(len(order), np.int64)
    rank[order] = position - np.maximum.accumulate(np.where(starts, position, 0))
    return rank
