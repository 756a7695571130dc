"""Sets to be damaged, and what can be done to them."""

import json
import shutil
from pathlib import Path

from PIL import Image


class Folder:
    """A data set to be damaged: image i of the training split is 00000i.jpg, with the id i."""

    def __init__(self, path: Path):
        self.path = path
        self.train, self.val = (self._file(split).read_text() for split in ("train", "val"))
        self.content = json.loads(self.train)

    def _file(self, split: str) -> Path:
        return self.path / "annotations" / f"instances_{split}.json"

    def save(self) -> None:
        self._file("train").write_text(json.dumps(self.content))

    def photo(self, i: int, split: str = "train") -> Path:
        return self.path / "images" / split / f"{i:06d}.jpg"

    def entry(self, i: int) -> dict:
        return next(entry for entry in self.content["images"] if entry["id"] == i)

    def box(self, i: int) -> dict:
        """The first annotation of an image."""
        return next(entry for entry in self.content["annotations"] if entry["image_id"] == i)

    def add_box(self, i: int, box: list, number: int = 0, **fields) -> None:
        fields = {"id": 9000 + i + 100 * number, "image_id": i, "category_id": 1, "iscrowd": 0} | fields
        self.content["annotations"].append(fields | {"bbox": box})

    def turn(self, i: int) -> None:
        exif = Image.Exif()
        exif[0x0112] = 3
        with Image.open(self.photo(i)) as image:
            image.load()
        image.save(self.photo(i), exif=exif)

    def damage(self, i: int) -> None:
        content = bytearray(self.photo(i).read_bytes())
        middle = len(content) // 2
        content[middle : middle + 40] = bytes(i * 37 % 256 for i in range(40))
        self.photo(i).write_bytes(content)

    def as_truncated_png(self, i: int) -> None:
        with Image.open(self.photo(i)) as image:
            image.save(self.photo(i), "png")
        self.photo(i).write_bytes(self.photo(i).read_bytes()[:-4])


# What is done to a set; the level of the finding and a part of its text; where it is said to be.
DAMAGES = {
    "file missing": (lambda f: f.photo(1).unlink(), "error: missing", "train/000001.jpg (id 1)"),
    "file empty": (lambda f: f.photo(2).write_bytes(b""), "error: of 0 bytes", "train/000002.jpg (id 2)"),
    "JPEG truncated": (
        lambda f: f.photo(3).write_bytes(f.photo(3).read_bytes()[:-40]),
        "error: truncated",
        "train/000003.jpg (id 3)",
    ),
    "PNG truncated": (lambda f: f.as_truncated_png(4), "error: truncated", "train/000004.jpg (id 4)"),
    "no image": (lambda f: f.photo(5).write_text("no"), "error: that cannot be decoded", "train/000005.jpg (id 5)"),
    "another size": (
        lambda f: f.entry(6).update(width=128),
        "error: whose size differs",
        "train/000006.jpg (id 6): 127x127, the JSON says 128x127",
    ),
    "turned": (lambda f: f.turn(7), "warning: turned by its EXIF orientation", "train/000007.jpg (id 7)"),
    "damaged data": (
        lambda f: f.damage(22),
        "warning: with damaged data: a part of its pixels is wrong",
        "train/000022.jpg (id 22)",
    ),
    "same picture": (
        lambda f: shutil.copy(f.photo(8), f.photo(9)),
        "warning: under several names",
        "train/000008.jpg (id 8) = train/000009.jpg (id 9)",
    ),
    "file listed twice": (
        lambda f: f.content["images"].append(f.entry(10) | {"id": 110}),
        "warning: listed more than once",
        "train/000010.jpg (ids 10, 110)",
    ),
    "picture in both splits": (
        lambda f: shutil.copy(f.photo(11), f.photo(1, "val")),
        "warning: in more than one split",
        "train/000011.jpg (id 11) = val/000001.jpg (id 1)",
    ),
    "image id twice": (
        lambda f: f.content["images"].append(f.entry(12) | {"file_name": "000013.jpg"}),
        "error: with the same id as another",
        "train/000013.jpg (id 12) and 000012.jpg",
    ),
    "no size": (
        lambda f: f.content["images"].append({"id": 120, "file_name": "000099.jpg", "height": 0, "width": 5}),
        "error: whose height and width",
        "train/000099.jpg (id 120): 5x0",
    ),
    "no file name": (
        lambda f: f.content["images"].append({"id": 121}),
        "error: lacking an integer id or a file_name",
        "train: {'id': 121}",
    ),
    "annotation id twice": (
        lambda f: f.add_box(14, [3, 3, 40, 41], id=f.box(14)["id"]),
        "warning: with the same id as another",
        "train/000014.jpg (id 14), annotation ",
    ),
    "category id twice": (
        lambda f: f.content["categories"].append({"id": 1, "name": "blob"}),
        "error: with the same id as another",
        "train: id 1, circle and blob",
    ),
    "box outside": (
        lambda f: f.add_box(15, [500, 3, 40, 41]),
        "error: entirely outside",
        "train/000015.jpg (id 15), annotation 9015: bbox [500, 3, 40, 41] in 127x127",
    ),
    "box partly outside": (
        lambda f: f.add_box(16, [90, 3, 50, 41]),
        "warning: partly outside",
        "train/000016.jpg (id 16), annotation 9016: bbox [90, 3, 50, 41] in 127x127",
    ),
    "box of width 0": (
        lambda f: f.add_box(17, [9, 3, 0, 41]),
        "warning: of width or height 0",
        "train/000017.jpg (id 17), annotation 9017",
    ),
    "negative size": (
        lambda f: f.add_box(18, [9, 3, 40, -41]),
        "error: whose bbox is not four finite numbers",
        "train/000018.jpg (id 18), annotation 9018: bbox [9, 3, 40, -41]",
    ),
    "NaN": (
        lambda f: f.add_box(19, [9, 3, float("nan"), 41]),
        "error: whose bbox is not four finite numbers",
        "train/000019.jpg (id 19), annotation 9019: bbox [9, 3, nan, 41]",
    ),
    "area in words": (
        lambda f: f.add_box(27, [9, 3, 40, 41], area="12.5"),
        "error: whose area is not a number",
        "train/000027.jpg (id 27), annotation 9027: area '12.5'",
    ),
    "crowd in words": (
        lambda f: f.add_box(28, [9, 3, 40, 41], iscrowd="no"),
        "error: whose iscrowd is not 0 or 1",
        "train/000028.jpg (id 28), annotation 9028: iscrowd 'no'",
    ),
    "three numbers": (
        lambda f: f.add_box(20, [9, 3, 41]),
        "error: whose bbox is not four finite numbers",
        "train/000020.jpg (id 20), annotation 9020: bbox [9, 3, 41]",
    ),
    "box twice": (
        lambda f: f.content["annotations"].append(f.box(21) | {"id": 9021}),
        "warning: with the same class and position as another",
        "train/000021.jpg (id 21), annotation 9021",
    ),
    "unknown image": (
        lambda f: f.add_box(777, [9, 3, 40, 41]),
        "error: of an image that the file does not list",
        "train, annotation 9777: image id 777",
    ),
    "unknown category": (
        lambda f: f.add_box(22, [9, 3, 40, 41], category_id=55),
        "error: of a category that the file does not list",
        "train/000022.jpg (id 22), annotation 9022: category id 55",
    ),
    "too small": (
        lambda f: f.add_box(23, [61, 61, 1.5, 1.5]),
        "warning: with all keypoints in one cell",
        "train/000023.jpg (id 23): 1",
    ),
    "corners in one cell": (
        lambda f: [f.add_box(24, [8.5, 8.5, 60, 40 + 20 * i], i, category_id=2) for i in (0, 1)],
        "warning: of objects of one class",
        "train/000024.jpg (id 24): 1",
    ),
    "more than max_objects": (
        lambda f: [f.add_box(25, [4 * i, 4 * i, 30, 30], i) for i in range(9)],
        "warning: with more than data.max_objects = 8",
        "train/000025.jpg (id 25): ",
    ),
    "crowd": (
        lambda f: f.add_box(26, [9, 3, 40, 41], iscrowd=1),
        "info: left out",
        "train: 1",
    ),
    "file that is not named": (
        lambda f: shutil.copy(f.photo(1, "val"), f.path / "images/train/more.jpg"),
        "info: in the image folders",
        "images/train/more.jpg",
    ),
}
# What else some of them bring with them.
ALSO = {
    "file listed twice": "info: without boxes",
    "image id twice": "warning: listed more than once",
    "box twice": "warning: of objects of one class",
}


def where_found(report: dict, what: str) -> list[str] | None:
    """The examples of the findings of a level and with a text, "level: part of the text"; None if there is none."""
    level, part = what.split(": ", 1)
    found = [f["examples"] for f in report["findings"] if f["level"] == level and part in f["text"]]
    return [example for examples in found for example in examples] if found else None


def damaged(shapes: Path, path: Path, names) -> Path:
    folder = Folder(Path(shutil.copytree(shapes, path)))
    for name in names:
        DAMAGES[name][0](folder)
    folder.save()
    return path


def width_of(picture: Path) -> int:
    with Image.open(picture) as image:
        return image.width
