"""A small COCO-format folder, and TFDS sets written from it, for all tests of such sets."""

import json
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import tensorflow_datasets as tfds

from cornerjax.config import Data
from cornerjax.data.pipeline import make_batches
from cornerjax.data.source import open_source
from cornerjax.detectors import get_detector
from cornerjax.detectors.cornernet import CornerConfig, CornerModel

IDS = (7, 1_000_000, 3, 21, 5)  # in the order of the file, which is not that of the ids
NAMES = ("cat", "toothbrush")


def write_folder(root: Path, split: str = "train") -> dict:
    """Five images of different sizes: one without boxes, one with a crowd, boxes of two decimals, ids in disorder."""
    rng = np.random.default_rng(0)
    images, annotations = [], []
    (root / split).mkdir(parents=True)
    for i, image_id in enumerate(IDS):
        height, width = 61 + 13 * i, 90 - 7 * i
        name = f"{i:03}_{image_id}.{'png' if i == 2 else 'jpg'}"
        cv2.imwrite(str(root / split / name), rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        images.append({"id": image_id, "file_name": name, "height": height, "width": width})
        for k in range(0 if i == 3 else 2 + i):
            size = np.round(rng.uniform(8, 30, 2), 2)
            corner = np.round(rng.uniform(0, [width, height] - size - 0.01), 2)
            annotations.append(
                {
                    "id": 1000 - 10 * i + (k * 7) % 10,
                    "image_id": image_id,
                    "category_id": (4, 90)[k % 2],
                    "bbox": [*corner.tolist(), *size.tolist()],
                    "area": 100 + k,
                    "iscrowd": int(i == 0 and k == 1),
                }
            )
    categories = [{"id": 90, "name": NAMES[1]}, {"id": 4, "name": NAMES[0]}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations").mkdir(exist_ok=True)
    (root / f"annotations/instances_{split}.json").write_text(json.dumps(content))
    return content


def features(**objects) -> tfds.features.FeaturesDict:
    """The features of TFDS's own coco, those of the objects changed; None takes one away."""
    coco = {
        "id": np.int64,
        "area": np.int64,
        "bbox": tfds.features.BBoxFeature(),
        "label": tfds.features.ClassLabel(names=NAMES),
        "is_crowd": np.bool_,
    }
    kept = {name: feature for name, feature in (coco | objects).items() if feature is not None}
    image = {"image": tfds.features.Image(), "image/filename": tfds.features.Text(), "image/id": np.int64}
    return tfds.features.FeaturesDict(image | {"objects": tfds.features.Sequence(kept)})


def examples(root: Path, split: str = "train") -> list[dict]:
    """The examples of a folder, as TFDS's own coco makes them."""
    content = json.loads((root / f"annotations/instances_{split}.json").read_text())
    made = []
    for image in content["images"]:
        height, width = image["height"], image["width"]
        objects = [
            {
                "id": entry["id"],
                "area": entry["area"],
                "bbox": tfds.features.BBox(y / height, x / width, (y + h) / height, (x + w) / width),
                "label": {4: 0, 90: 1}[entry["category_id"]],
                "is_crowd": bool(entry["iscrowd"]),
            }
            for entry in sorted(content["annotations"], key=lambda entry: entry["id"])
            if entry["image_id"] == image["id"]
            for x, y, w, h in [entry["bbox"]]
        ]
        path = root / split / image["file_name"]
        made.append({"image": str(path), "image/filename": path.name, "image/id": image["id"], "objects": objects})
    return made


def write_set(folder: Path, features: tfds.features.FeaturesDict, examples: list[dict], **options) -> Path:
    """A prepared TFDS set with the split "train", two examples a shard."""
    folder.mkdir(parents=True)
    version = tfds.core.Version("1.0.0")
    identity = tfds.core.DatasetIdentity(name="boxes", version=version, data_dir=str(folder), module_name="")
    info = tfds.core.DatasetInfo(builder=identity, features=features)
    writer = tfds.core.SequentialWriter(info, 2, **({"file_format": "array_record"} | options))
    writer.initialize_splits(["train"])
    writer.add_examples({"train": examples})
    writer.close_all()
    return folder


def open_root(root, split="train", **options):
    return open_source(Data(root=str(root), **options), split)


def batches_of(root, count=4, **options):
    data = Data(root=str(root), batch=4, crop_px=(63, 95), crop_border_px=16, max_objects=8, workers=2, **options)
    config = CornerConfig(model=CornerModel(num_classes=2), data=data, seed=3)
    detector = get_detector("cornernet")
    batches = make_batches(open_source(data, "train"), config, encode=detector.encode, render=detector.render)
    return list(islice(batches, count))


def assert_same(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        assert all(a[name].dtype == b[name].dtype and a[name].tobytes() == b[name].tobytes() for name in a)


def count_calls(monkeypatch, module, name):
    """A list that grows by one with every call of a function."""
    calls, function = [], getattr(module, name)

    def counting(*args):
        calls.append(args)
        return function(*args)

    monkeypatch.setattr(module, name, counting)
    return calls


def encoded(record):
    return record.stored.read() if record.stored else record.path.read_bytes()


def assert_same_records(ours, theirs):
    assert ours.class_names == theirs.class_names
    for a, b in zip(ours.records, theirs.records, strict=True):
        assert (a.image_id, a.path.name, a.height, a.width) == (b.image_id, b.path.name, b.height, b.width)
        assert a.boxes.tobytes() == b.boxes.tobytes()
        assert a.classes.tobytes() == b.classes.tobytes()
        assert encoded(a) == encoded(b)
