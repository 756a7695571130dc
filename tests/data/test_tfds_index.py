"""The index of a TFDS set: what it says of every kind of set, and where it is kept."""

import json
import os

import numpy as np
import pytest
import sets
import tensorflow_datasets as tfds

from cornerjax.data import tfds as opening
from cornerjax.data.coco_classes import COCO_CATEGORIES
from cornerjax.data.records import read_image
from cornerjax.data.tfds_index import to_xywh
from cornerjax.errors import InputError
from cornerjax.evaluation.compare.average_precision import average_precision
from cornerjax.evaluation.compare.entries import Detected


@pytest.mark.parametrize(("height", "width"), [(480, 640), (6000, 9999)])
def test_hundredths_of_a_pixel_come_back_from_parts_of_an_image(height, width):
    rng = np.random.default_rng(0)
    for _ in range(1000):
        x, y, w, h = (int(v) / 100 for v in rng.integers(1, 50 * np.array([width, height, width, height])))
        part = np.array([y / height, x / width, (y + h) / height, (x + w) / width]).astype(np.float32)
        assert to_xywh(part, height, width) == [x, y, w, h]


def test_the_index_is_a_ground_truth(folder, prepared):
    """Boxes of one class are moved by a few pixels; both files say the same of them."""
    measured = []
    for root, ids in ((folder, (4, 90)), (f"tfds:{prepared}", (1, 2))):
        source = sets.open_root(root)
        assert source.category_ids == ids
        truth = json.loads(source.annotation_file.read_text())
        found = [
            Detected(
                image_id=entry["image_id"],
                category_id=entry["category_id"],
                score=1 / entry["id"],
                bbox=[entry["bbox"][0] + entry["id"] % 4, *entry["bbox"][1:]],
            )
            for entry in truth["annotations"]
        ]
        measured.append(average_precision(truth, found, sets.IDS))
    assert measured[0][0]["AP"] < 1
    np.testing.assert_equal(measured[0], measured[1])


def test_ids_that_a_set_does_not_have(folder, tmp_path):
    """Pascal VOC's features: file names in sorted order number the images; what is difficult counts as a crowd."""
    voc = sets.features(id=None, area=None, is_crowd=None, is_difficult=np.bool_)
    voc = tfds.features.FeaturesDict({name: feature for name, feature in voc.items() if name != "image/id"})
    examples = sets.examples(folder)[::-1]
    for example in examples:
        del example["image/id"]
        example["objects"] = [
            {"bbox": o["bbox"], "label": o["label"], "is_difficult": o["is_crowd"]} for o in example["objects"]
        ]
    ours = sets.open_root(f"tfds:{sets.write_set(tmp_path / 'voc', voc, examples)}")
    theirs = {record.path.name: record for record in sets.open_root(folder).records}
    assert [record.image_id for record in ours.records] == [1, 2, 3, 4, 5]
    assert [record.path.name for record in ours.records] == sorted(theirs)
    for record in ours.records:
        assert record.boxes.tobytes() == theirs[record.path.name].boxes.tobytes()


def test_cocos_classes_have_cocos_ids(folder, tmp_path):
    names = [name for _, name in COCO_CATEGORIES]
    coco = sets.features(label=tfds.features.ClassLabel(names=names))
    source = sets.open_root(f"tfds:{sets.write_set(tmp_path / 'coco', coco, sets.examples(folder))}")
    assert source.category_ids == tuple(i for i, _ in COCO_CATEGORIES)
    assert source.class_names == tuple(names)


def test_other_names_of_features(folder, tmp_path):
    """Open Images has other things in "objects", and masks that are no business of ours."""
    inner = {"bbox": tfds.features.BBoxFeature(), "type": tfds.features.ClassLabel(names=sets.NAMES)}
    boxes = tfds.features.Sequence(inner | {"mask": tfds.features.Image(shape=(None, None, 1))})
    other = {"image": tfds.features.Image(), "objects": tfds.features.Sequence({"label": np.int64}), "bobjects": boxes}
    mask = np.zeros((4, 4, 1), np.uint8)
    examples = [
        {
            "image": example["image"],
            "objects": [{"label": 1}],
            "bobjects": [{"bbox": o["bbox"], "type": o["label"], "mask": mask} for o in example["objects"]],
        }
        for example in sets.examples(folder)
    ]
    written = sets.write_set(tmp_path / "other", tfds.features.FeaturesDict(other), examples)
    source = sets.open_root(f"tfds:{written}")
    assert [len(record.classes) for record in source.records] == [2, 3, 4, 0, 6]
    assert [record.path.name for record in source.records] == [f"{i:012}.jpg" for i in range(1, 6)]


def test_the_index_is_made_once_and_again_when_the_set_has_changed(copied, monkeypatch):
    made = sets.count_calls(monkeypatch, opening, "make_index")
    theirs = sets.open_root(f"tfds:{copied}")
    file = theirs.annotation_file
    assert file.name == "cornerjax_train.json"
    sets.assert_same_records(sets.open_root(f"tfds:{copied}"), theirs)
    assert len(made) == 1
    shard = next(copied.glob("*array_record*"))
    os.utime(shard, (1e9, 1e9))
    sets.open_root(f"tfds:{copied}")
    assert len(made) == 2
    for damage in ("", '{"images": [', "[]", '{"images": [], "annotations": [], "categories": []}'):
        file.write_text(damage)
        sets.assert_same_records(sets.open_root(f"tfds:{copied}"), theirs)
    assert len(made) == 6
    assert not list(file.parent.glob(".*"))


def test_two_halves_of_a_split_have_an_index_each(copied, monkeypatch):
    made = sets.count_calls(monkeypatch, opening, "make_index")
    halves = "train[:60%]", "train[60%:]"
    first, second = ([sets.open_root(f"tfds:{copied}", half) for half in halves] for _ in range(2))
    assert first[0].annotation_file != first[1].annotation_file
    assert len(made) == 2
    for once, again in zip(first, second, strict=True):
        assert once.annotation_file == again.annotation_file
        listed = {image["id"] for image in json.loads(once.annotation_file.read_text())["images"]}
        assert listed == {record.image_id for record in once.records}


def test_ids_of_images_may_be_text(folder, tmp_path):
    """As those of Open Images, say: the index numbers the images by their names."""
    kept = dict(sets.features().items()) | {"image/id": tfds.features.Text()}
    examples = [example | {"image/id": f"id{example['image/id']}"} for example in sets.examples(folder)]
    source = sets.open_root(f"tfds:{sets.write_set(tmp_path / 'text', tfds.features.FeaturesDict(kept), examples)}")
    assert [record.image_id for record in source.records] == [1, 2, 3, 4, 5]
    for record in source.records:
        assert read_image(record).shape == (record.height, record.width, 3)


def test_the_index_is_kept_in_the_users_cache_only(copied, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before = sorted(copied.iterdir())
    source = sets.open_root(f"tfds:{copied}")
    assert source.annotation_file.is_relative_to(tmp_path / "cache/cornerjax")
    assert sorted(copied.iterdir()) == before
    monkeypatch.setattr(opening, "make_index", lambda shards: 1 / 0)
    monkeypatch.chdir(tmp_path)
    assert sets.open_root("tfds:./set").annotation_file == source.annotation_file
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc")
    monkeypatch.setattr(opening, "make_index", lambda shards: {"images": [], "annotations": [], "categories": []})
    with pytest.raises(InputError, match=r"^cannot write /proc/cornerjax/.*; XDG_CACHE_HOME names another cache$"):
        sets.open_root(f"tfds:{copied}")
