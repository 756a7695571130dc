"""A small COCO-format folder, and TFDS sets written from it, for test_tfds.py and test_pack.py."""

import json
from pathlib import Path

import cv2
import numpy as np
import tensorflow_datasets as tfds

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
