"""Code of the README, run as it stands there."""

import json
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from cornerjax.config import Data
from cornerjax.data.classes import align_classes
from cornerjax.data.source import open_source

README = Path(__file__).parents[1] / "README.md"
# Of each image a split has: (class, x) of objects that are ten pixels wide, from the first pixel, number 1, on.
SPLITS = {"train": [[("king", 5)], [("ace", 20), ("king", 40)]], "val": [[("ace", 30)], [("king", 10)]]}


def code(words: str) -> str:
    """The one part of the README's Python, between empty lines, that has these words."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    parts = [part for block in blocks for part in block.split("\n\n")]
    (found,) = [part for part in parts if words in part]
    return found


class StandIn:
    """What the code asks of supervision.DetectionDataset, which numbers classes as it meets them in a folder."""

    def __init__(self, images, annotations):
        self.files = {file: ET.parse(Path(annotations, file.stem + ".xml")) for file in sorted(Path(images).iterdir())}

    @classmethod
    def from_pascal_voc(cls, images, annotations):
        return cls(images, annotations)

    def as_coco(self, images, annotations):
        Path(images).mkdir(parents=True)
        Path(annotations).parent.mkdir(parents=True, exist_ok=True)
        content: dict[str, list] = {"images": [], "annotations": [], "categories": []}
        names: list[str] = []
        for i, (file, xml) in enumerate(self.files.items()):
            Path(images, file.name).write_bytes(file.read_bytes())
            content["images"].append({"id": i, "file_name": file.name, "height": 60, "width": 80})
            for thing in xml.iter("object"):
                name = thing.findtext("name", "")
                names += [] if name in names else [name]
                x1, y1, x2, y2 = (
                    int(thing.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax")
                )
                box = {"bbox": [x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1], "category_id": names.index(name)}
                content["annotations"].append({"id": len(content["annotations"]), "image_id": i, **box})
        content["categories"] = [{"id": i, "name": name} for i, name in enumerate(names)]
        Path(annotations).write_text(json.dumps(content))


@pytest.fixture(params=["stand-in", "installed"])
def supervision(request, monkeypatch):
    if request.param == "installed":
        pytest.importorskip("supervision", reason="supervision is not installed, and need not be")
    else:
        module = ModuleType("supervision")
        module.__dict__["DetectionDataset"] = StandIn
        monkeypatch.setitem(sys.modules, "supervision", module)


def write_voc(folder: Path, images: list) -> None:
    for kind in ("JPEGImages", "Annotations"):
        (folder / kind).mkdir(parents=True)
    for i, objects in enumerate(images):
        cv2.imwrite(str(folder / "JPEGImages" / f"{i}.jpg"), np.full((60, 80, 3), 90, np.uint8))
        xml = f"<filename>{i}.jpg</filename><size><width>80</width><height>60</height><depth>3</depth></size>"
        for name, x in objects:
            box = f"<xmin>{x}</xmin><ymin>1</ymin><xmax>{x + 9}</xmax><ymax>10</ymax>"
            xml += f"<object><name>{name}</name><bndbox>{box}</bndbox></object>"
        (folder / "Annotations" / f"{i}.xml").write_text(f"<annotation>{xml}</annotation>")


def test_voc_with_a_folder_a_split(supervision, tmp_path, monkeypatch):
    """Their classes, which stand in another order, are the same to a run."""
    monkeypatch.chdir(tmp_path)
    for name, images in SPLITS.items():
        write_voc(Path("VOC") / name, images)
    exec(code("import supervision") + "\n" + code('from_pascal_voc(f"VOC/{name}/'), {})
    train, val = (open_source(Data(root="mine"), name) for name in SPLITS)
    val = align_classes(val, train.class_names, train.annotation_file)
    assert sorted(train.class_names) == ["ace", "king"]
    assert val.class_names == train.class_names
    for source, images in ((train, SPLITS["train"]), (val, SPLITS["val"])):
        for record, objects in zip(source.records, images, strict=True):
            assert [source.class_names[label] for label in record.classes] == [name for name, _ in objects]
            np.testing.assert_array_equal(record.boxes, [(x - 1, 0, x + 9, 10) for _, x in objects])
