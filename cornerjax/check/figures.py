"""Figures of a split: how many boxes, of which classes, of which sizes."""

import dataclasses
from collections import Counter
from itertools import pairwise

import numpy as np

from cornerjax.check.annotations import Split
from cornerjax.check.findings import Findings
from cornerjax.config import Config
from cornerjax.text import plain

EDGES_PX = (0, 8, 16, 32, 64, 128, 256, 512)  # of the histogram of longer sides
MEDIUM_PX, LARGE_PX = 32, 96  # sides of squares of the areas at which COCO's medium and large begin


@dataclasses.dataclass(frozen=True)
class Figures:
    """Figures of a split, as they stand in report.json.

    Attributes:
        file: its JSON.
        crowd: number of its crowd boxes.
        objects_mean, objects_most: in an image.
        classes: number of boxes of each.
        longer_side_px: number of boxes from each of EDGES_PX up to the next.
        small, medium, large: number of boxes of COCO's sizes, by the area of the box; COCO's own files say that of the
            object's outline, by which an evaluation sorts them.
    """

    file: str
    images: int
    images_without_boxes: int
    boxes: int
    crowd: int
    objects_mean: float
    objects_most: int
    classes: dict[str, int]
    longer_side_px: dict[str, int]
    small: int
    medium: int
    large: int


def figures_of(split: Split) -> Figures:
    """Count what is in a split."""
    counts = [len(record.classes) for record in split.records]
    boxes = np.concatenate([record.boxes for record in split.records])
    of_class = _boxes_by_name(split)
    sides = boxes[:, 2:] - boxes[:, :2]
    longer, area = sides.max(1, initial=0), sides.prod(1)
    histogram = np.histogram(longer, [*EDGES_PX, np.inf])[0]
    return Figures(
        file=str(split.file),
        images=len(counts),
        images_without_boxes=counts.count(0),
        boxes=len(boxes),
        crowd=split.crowd,
        objects_mean=float(np.mean(counts)),
        objects_most=max(counts),
        classes={name: of_class[name] for name in split.categories.values()},
        longer_side_px={str(edge): int(n) for edge, n in zip(EDGES_PX, histogram, strict=True)},
        small=int((area < MEDIUM_PX**2).sum()),
        medium=int(((area >= MEDIUM_PX**2) & (area < LARGE_PX**2)).sum()),
        large=int((area >= LARGE_PX**2).sum()),
    )


def table(split: Split, figures: Figures, config: Config) -> str:
    """The figures as printed."""
    f = figures
    used = sorted(((n, name) for name, n in f.classes.items() if n), reverse=True)
    ends = [f"{a}-{b}" for a, b in pairwise(EDGES_PX)]
    columns = [*ends, f"{EDGES_PX[-1]}+"]
    width = max(len(column) for column in columns) + 2
    crowd = "treated as ordinary boxes" if config.data.crowd else "left out"
    sizes = (("small", f.small), ("medium", f.medium), ("large", f.large))
    lines = [
        f"{split.name}: {split.file}, images in {split.folder}",
        f"  {f.images} images, {f.images_without_boxes} of them without boxes; {f.boxes} boxes; "
        f"crowd boxes: {f.crowd} ({crowd})",
        f"  objects in an image: {f.objects_mean:.1f} on average, {f.objects_most} at most; "
        f"data.max_objects is {config.data.max_objects}",
        f"  {len(used)} of {len(split.categories)} classes used: "
        + ", ".join(f"{name} {n}" for n, name in used[:12])
        + (f", and {len(used) - 12} more" if len(used) > 12 else ""),
        "  longer side, px  " + "".join(f"{column:>{width}}" for column in columns),
        "  boxes            " + "".join(f"{n:>{width}}" for n in f.longer_side_px.values()),
        "  COCO's sizes, by the area of the box: "
        + ", ".join(f"{n} {name} ({100 * n / max(f.boxes, 1):.0f} %)" for name, n in sizes),
    ]
    return "\n".join(map(plain, lines))


def note_counts(splits: list[Split], config: Config, findings: Findings) -> None:
    """Note what the counts mean for training on the first of the splits and evaluating on the others."""
    train, room = splits[0], config.data.max_objects
    over = [record for record in train.records if len(record.classes) > room]
    lost = sum(len(record.classes) - room for record in over)
    findings.add(
        "warning",
        "image",
        f"with more than data.max_objects = {room} objects; up to {lost} objects are left out of training",
        [f"{train.label(record)}: {len(record.classes)}" for record in over],
    )
    for split in splits:
        if not any(len(record.classes) for record in split.records):
            findings.add("error" if split is train else "warning", "split", "without a box", [split.name])
        empty = [split.label(record) for record in split.records if not len(record.classes)]
        left_out = "" if config.data.empty_images or split is not train else ", not trained on (data.empty_images)"
        findings.add("info", "image", f"without boxes{left_out}", empty)
        crowd = "treated as ordinary" if config.data.crowd else "left out of training"
        findings.add("info", "crowd box", crowd, [f"{split.name}: {split.crowd}"], count=split.crowd)


def compare_classes(splits: list[Split], findings: Findings) -> None:
    """Note the classes that training on the first of the splits will not learn, or that the others will not test.

    Classes are matched by name: their ids and their order may differ.
    """
    train, boxes = splits[0], [_boxes_by_name(split) for split in splits]
    every = dict.fromkeys(name for split in splits for name in split.categories.values())
    unused = [name for name in every if not any(of_split[name] for of_split in boxes)]
    findings.add("warning", "category", "without a box", unused)
    learnt = list(train.categories.values())
    for split, of_split in zip(splits[1:], boxes[1:], strict=True):
        names = list(split.categories.values())
        if not set(names) & set(learnt):
            findings.add("error", "split", f"that has no category in common with {train.name}", [split.name])
            continue
        if names != learnt and sorted(names) == sorted(learnt):
            order = f"with the categories of {train.name} in another order, which is accepted: they are matched by name"
            findings.add("info", "split", order, [split.name])
        only_train, only_split = ([name for name in a if name not in b] for a, b in ((learnt, names), (names, learnt)))
        findings.add("warning", "category", f"in {train.name}, but not in {split.name}", only_train)
        findings.add("warning", "category", f"in {split.name}, but not in {train.name}", only_split)
        unlearnt = [name for name in learnt if of_split[name] and not boxes[0][name]]
        findings.add("warning", "category", f"with boxes in {split.name}, but none in {train.name}", unlearnt)


def _boxes_by_name(split: Split) -> Counter[str]:
    names = list(split.categories.values())
    return Counter(names[i] for record in split.records for i in record.classes.tolist())
