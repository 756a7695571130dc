"""The JSON file of a split, read to its end however much is wrong with it; `data/coco.py` stops at the first error."""

import dataclasses
from collections import defaultdict
from pathlib import Path

import numpy as np

from cornerjax.check.findings import Findings
from cornerjax.config import Data
from cornerjax.data import coco, coco_entries, extreme_points
from cornerjax.data.coco import ImageEntry, ObjectEntry, Place
from cornerjax.data.coco_entries import Json
from cornerjax.data.extreme_points import Finder
from cornerjax.data.records import Record
from cornerjax.data.source import refuse_unused
from cornerjax.errors import InputError
from cornerjax.files import is_folder
from cornerjax.text import short

BEYOND_PX = 1.0  # a box may reach so far beyond its image: files round


@dataclasses.dataclass(frozen=True)
class Split:
    """One split, without the entries that training cannot use.

    Attributes:
        name: what it is called.
        file: its JSON.
        folder: of its images, or of the larger files that hold them.
        records: of its images, with the boxes that training would see.
        categories: id -> name, in the order of the ids; classes count in this order.
        crowd: number of its crowd boxes.
    """

    name: str
    file: Path
    folder: Path
    records: list[Record]
    categories: dict[int, str]
    crowd: int

    def label(self, record: Record) -> str:
        """What findings call an image."""
        inside = record.path.is_relative_to(self.folder)  # a file_name may be a whole path
        file = record.path.relative_to(self.folder) if inside else record.path
        return _label(self.name, file, record.image_id)


def read_split(data: Data, split: str, findings: Findings, name: str = "") -> Split:
    """Read a split and note everything that is wrong with its entries.

    Args:
        data: root, images, crowd and needs are used.
        split: as for `data.source.open_source`.
        name: what it is called in findings; by the name of its file if not given.
    Raises: InputError: the folder, a JSON with COCO's three lists, or every image is missing.
    """
    refuse_unused(data)
    file, content, place = _open(data, split)
    name = name or Path(split).stem.removeprefix("instances_")
    categories = _categories(content["categories"], name, findings)
    images = _images(content["images"], name, findings)
    if not images:
        raise InputError(f"{file} has no image with an id, a file_name, a height and a width; expected at least one")
    folder = None
    if place is None:
        folder = _folder(Path(data.root), split, data.images, file, images)
        place = coco.in_folder(folder, data)
    reader = _Objects(name, images, categories, findings, data)
    reader.read(content["annotations"])
    records = coco.make_records(images.values(), reader.objects, categories, place, needs=data.needs)
    return Split(name, file, folder or records[0].folder, records, categories, reader.crowds)


def _open(data: Data, split: str) -> tuple[Path, Json, Place | None]:
    """The JSON of a split, its content, and where the images lie, if not in a folder."""
    root = data.root
    if root.startswith("tfds:"):
        from cornerjax.data.tfds import find_split  # not before it is needed: it imports tensorflow_datasets

        return find_split(data, root.removeprefix("tfds:"), split)
    if not is_folder(root):
        raise InputError(f"{root!r} is not a folder; expected one in COCO format")
    try:
        file = coco.annotation_file(Path(root), split)
    except InputError as e:
        raise InputError(f"{e}; --splits names others") from None
    return file, coco.read_annotations(file), None


def _label(split: str, file: Path | str, image_id: int) -> str:
    return f"{split}/{file} (id {image_id})"


def _categories(entries: list[Json], split: str, findings: Findings) -> dict[int, str]:
    categories: dict[int, str] = {}
    nameless, repeated = [], []
    for entry in entries:
        if not coco_entries.is_id(entry.get("id")) or not coco_entries.is_name(entry.get("name")):
            nameless.append(f"{split}: {short(entry)}")
        elif entry["id"] in categories:
            repeated.append(f"{split}: id {entry['id']}, {categories[entry['id']]} and {entry['name']}")
        else:
            categories[entry["id"]] = entry["name"]
    names = list(categories.values())
    namesakes = [f"{split}: {name} (id {i})" for i, name in categories.items() if names.count(name) > 1]
    findings.add("error", "category", "lacking an integer id or a name", nameless)
    findings.add("error", "category", "with the same id as another", repeated)
    findings.add("error", 'list "categories"', "without an entry", [] if entries else [split])
    findings.add("warning", "category", "with the same name as another", namesakes)
    ids = sorted(categories)
    if ids and ids != list(range(1, len(ids) + 1)):
        findings.add(
            "info",
            "category id",
            f"from {ids[0]} to {ids[-1]}: not 1, 2, 3 ..., which is accepted",
            [split],
            count=len(ids),
        )
    return dict(sorted(categories.items()))


def _images(entries: list[Json], split: str, findings: Findings) -> dict[int, ImageEntry]:
    """Id -> image, in the order of the ids; of two with one id the first."""
    images: dict[int, ImageEntry] = {}
    nameless, sizeless, repeated, files = [], [], [], defaultdict(list)
    for entry in entries:
        if not coco_entries.is_id(entry.get("id")) or not coco_entries.is_file_name(entry.get("file_name")):
            nameless.append(f"{split}: {short(entry)}")
            continue
        image_id, name, sizes = entry["id"], entry["file_name"], [entry.get("height"), entry.get("width")]
        files[Path(name)].append(image_id)
        if not all(map(coco_entries.is_side, sizes)):
            sizeless.append(f"{_label(split, name, image_id)}: {short(sizes[1])}x{short(sizes[0])}")
        elif image_id in images:
            repeated.append(f"{_label(split, name, image_id)} and {images[image_id].file_name}")
        else:
            images[image_id] = ImageEntry(image_id, name, entry["height"], entry["width"])
    twice = [f"{split}/{file} (ids {', '.join(map(str, ids))})" for file, ids in files.items() if len(ids) > 1]
    findings.add("error", "image entry", "lacking an integer id or a file_name", nameless)
    findings.add("error", "image", "whose height and width are not positive integers", sizeless)
    findings.add("error", "image", "with the same id as another", repeated)
    listed = "listed more than once: the boxes of one entry are background in the others"
    findings.add("warning", "image file", listed, twice)
    return dict(sorted(images.items()))


def _folder(root: Path, split: str, images: str, file: Path, entries: dict[int, ImageEntry]) -> Path:
    """The folder of the images: where the first one is found that is not missing."""
    first_error: InputError | None = None
    for image in entries.values():
        try:
            return coco.image_folder(root, split, images, file, image.file_name)
        except InputError as e:
            first_error = first_error or e
    assert first_error is not None
    raise InputError(f"none of the {len(entries)} images can be found: {first_error}")


class _Objects:
    """The annotations of a split, each assigned to its image or noted as wrong."""

    def __init__(
        self,
        split: str,
        images: dict[int, ImageEntry],
        categories: dict[int, str],
        findings: Findings,
        data: Data,
    ):
        self.objects: dict[int, list[ObjectEntry]] = defaultdict(list)
        self.crowds = 0
        self._split, self._images, self._categories, self._crowd = split, images, categories, data.crowd
        self._extremes = Finder(data) if extreme_points.NAME in data.needs else None
        self._findings = findings
        self._noted: dict[str, list[str]] = defaultdict(list)

    def read(self, entries: list[Json]) -> None:
        ids, boxes = set(), set()
        for entry in coco.in_order(entries):
            if (annotation_id := str(entry.get("id"))) in ids and "id" in entry:
                self._note("id taken", entry, "")
            ids.add(annotation_id)
            if not self._is_sound(entry):
                continue
            image_id, box, category_id = entry["image_id"], entry["bbox"], entry["category_id"]
            if (key := (image_id, category_id, *box)) in boxes:
                self._note("twice", entry, f"{self._categories[category_id]} {box}")
                # Training uses both, and so does all that is counted here.
            boxes.add(key)
            points: dict[str, np.ndarray] = {}
            if self._extremes:
                own = extreme_points.own_points(entry)
                if own is not None and not extreme_points.are_in_order(own):
                    self._note("out of order", entry, f"{extreme_points.NAME} {own.tolist()}")
                    continue
                before = self._extremes.missing
                found = self._extremes(entry, self._images[image_id].height, self._images[image_id].width)
                if self._extremes.missing > before:
                    self._note("no extremes", entry, "")
                if found is None:
                    continue
                points[extreme_points.NAME] = found
            self.objects[image_id].append(ObjectEntry([float(v) for v in box], category_id, points))
        self._add_findings(len(entries))

    def _is_sound(self, entry: Json) -> bool:
        """Whether training would use it as an object."""
        image_id, category_id, box = entry.get("image_id"), entry.get("category_id"), entry.get("bbox")
        if type(image_id) is not int or image_id not in self._images:
            return self._note("unknown image", entry, f"image id {short(image_id)}")
        if type(category_id) is not int or category_id not in self._categories:
            return self._note("unknown category", entry, f"category id {short(category_id)}")
        if not coco_entries.is_box(box):
            return self._note("no box", entry, f"bbox {short(box)}")
        assert box is not None
        for key, is_right, _ in coco_entries.OTHERS:
            if not is_right(entry.get(key)):
                return self._note(key, entry, f"{key} {short(entry[key])}")
        if entry.get("iscrowd"):
            self.crowds += 1
            if not self._crowd:
                return False
        if box[2] == 0 or box[3] == 0:
            return self._note("flat", entry, f"bbox {box}")
        height, width = self._images[image_id].height, self._images[image_id].width
        if coco_entries.is_outside(box, height, width):
            return self._note("outside", entry, f"bbox {box} in {width}x{height}")
        if min(box[:2]) < -BEYOND_PX or box[0] + box[2] > width + BEYOND_PX or box[1] + box[3] > height + BEYOND_PX:
            self._note("beyond", entry, f"bbox {box} in {width}x{height}")
        return True

    def _note(self, what: str, entry: Json, value: str) -> bool:
        image_id = entry.get("image_id")
        image = self._images.get(image_id) if type(image_id) is int else None
        where = _label(self._split, image.file_name, image.image_id) if image else self._split
        self._noted[what].append(f"{where}, annotation {short(entry.get('id'))}" + (f": {value}" if value else ""))
        return False

    def _add_findings(self, total: int) -> None:
        noted, add = self._noted, self._findings.add
        add("error", "annotation", "of an image that the file does not list", noted["unknown image"])
        add("error", "annotation", "of a category that the file does not list", noted["unknown category"])
        add("error", "box", f"whose bbox is not {coco_entries.BOX}", noted["no box"])
        for key, _, expected in coco_entries.OTHERS:
            add("error", "annotation", f"whose {key} is not {expected}", noted[key])
        add("error", "box", "entirely outside its image", noted["outside"])
        mostly = 2 * len(noted["beyond"]) > total
        hint = "; is bbox really x, y, width, height, and not x1, y1, x2, y2?" if mostly else ""
        add("warning", "box", f"partly outside its image, clipped in training{hint}", noted["beyond"])
        add("warning", "box", "of width or height 0, left out of training", noted["flat"])
        add("warning", "box", "with the same class and position as another in its image", noted["twice"])
        add("warning", "annotation", "with the same id as another", noted["id taken"])
        if self._extremes:
            text = f"whose {extreme_points.NAME} are not {extreme_points.IN_ORDER}"
            add("error", "annotation", text, noted["out of order"])
            what = "left out of training" if self._extremes.otherwise == "segmentation" else "which get substitutes"
            text = f"without {extreme_points.NAME} or a segmentation to make them from, {what}"
            add("warning", "object", text, noted["no extremes"])
        largest = [max(entry.bbox) for of_image in self.objects.values() for entry in of_image]
        if largest and max(largest) <= 1:
            text = "of at most 1 px, as all in the split; bbox must be in pixels, not in fractions of the image's size"
            add("error", "box", text, [self._split], count=len(largest))
