"""TFDS sets that cannot be used: a sentence for every mistake."""

import json
import os
import shutil
import sys

import pytest
import sets
import tensorflow_datasets as tfds

from cornerjax.config import Data
from cornerjax.data.records import read_image
from cornerjax.data.source import open_source
from cornerjax.errors import InputError


def test_a_json_of_other_images_is_refused(copied):
    content = json.loads(sets.open_root(f"tfds:{copied}").annotation_file.read_text())
    images = content["images"]
    (copied / "instances_train.json").write_text(json.dumps(content | {"images": [*images[1:], images[0]]}))
    misplaced = sets.open_root(f"tfds:{copied}").records[0]
    with pytest.raises(InputError, match=r"should have the id 3, but the image in its place has the id \d+"):
        read_image(misplaced)
    (copied / "instances_train.json").write_text(json.dumps(content | {"images": images[:3]}))
    with pytest.raises(InputError, match=r"instances_train.json has 3 images, but split 'train' of tfds:.* has 5$"):
        sets.open_root(f"tfds:{copied}")


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("cocco/2017", "train", r"TFDS knows no set 'cocco'; similar ones are coco, ref_coco$"),
        ("coco/2017", "train", r"not prepared .*builder\('coco/2017', file_format='array_record'\)\.download_and_prep"),
        ("a b", "train", "tfds:a b cannot be opened: Parsing builder name string a b failed"),
        ("./nowhere", "train", r"tfds:\./nowhere has no dataset_info\.json; expected a folder that"),
        ("tiny_boxes", "validation", "^tfds:tiny_boxes has no split 'validation'; it has train$"),
        ("tiny_boxes", "train[", "^tfds:tiny_boxes has no split 'train\\['; it has train$"),
    ],
)
def test_names_that_cannot_be_opened(prepared, name, split, message):
    with pytest.raises(InputError, match=message) as caught:
        sets.open_root(f"tfds:{name}", split)
    assert "\n" not in str(caught.value)


def test_another_format_is_refused_with_the_command_that_converts_it(folder, tmp_path):
    sets.write_set(tmp_path / "set", sets.features(), sets.examples(folder), file_format="tfrecord")
    with pytest.raises(
        InputError, match=rf"is stored as tfrecord.*convert_format --dataset_version_dir={tmp_path}/set"
    ):
        sets.open_root(f"tfds:{tmp_path}/set")


@pytest.mark.parametrize("missing", ["bbox", "label", "absolute"])
def test_a_set_without_boxes_is_refused(folder, tmp_path, missing):
    other = {"bbox": tfds.features.BBoxFeature(bbox_format="YXYX")} if missing == "absolute" else {missing: None}
    written = sets.write_set(tmp_path / "set", sets.features(**other), [])
    info = json.loads((written / "dataset_info.json").read_text())
    info["splits"][0]["shardLengths"] = ["1"]  # one without shards cannot be opened
    (written / "dataset_info.json").write_text(json.dumps(info))
    (written / "boxes-train.array_record-00000").write_bytes(b"")
    with pytest.raises(
        InputError, match=r"not a detection set: expected .* has image, image/filename, image/id, objects$"
    ):
        sets.open_root(f"tfds:{written}")


def test_shards_that_are_damaged_or_gone_are_named(copied):
    root = f"tfds:{copied}"
    sets.open_root(root)
    record = sets.open_root(root).records[0]
    shard = next(copied.glob("*array_record*"))
    shard.write_bytes(shard.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"^cannot read .*set/002_3\.png: cannot read example \d of tfds:.*") as caught:
        read_image(record)
    assert "\n" not in str(caught.value)
    shard.unlink()
    with pytest.raises(InputError, match=rf"{shard} of tfds:.* is missing; prepare the set again"):
        sets.open_root(root)
    (copied / "dataset_info.json").write_text("{")
    with pytest.raises(InputError, match=r"dataset_info\.json is not JSON"):
        sets.open_root(root)
    shutil.rmtree(copied)
    with pytest.raises(InputError, match=r"the folder .*set is gone; is the data directory still there"):
        read_image(record)


def test_a_pipe_is_not_waited_for(copied):
    (copied / "features.json").unlink()
    os.mkfifo(copied / "features.json")
    with pytest.raises(InputError, match=r"features\.json: it is no regular file"):
        sets.open_root(f"tfds:{copied}")


@pytest.mark.parametrize("form", ["present", "of older versions", "one in the other"])
def test_a_set_names_no_class_that_is_imported(copied, tmp_path, monkeypatch, form):
    (tmp_path / "payload_of_a_set.py").write_text("raise SystemExit('it ran')")
    monkeypatch.syspath_prepend(tmp_path)
    evil = "payload_of_a_set.Text"
    legacy = {
        "type": "tensorflow_datasets.core.features.features_dict.FeaturesDict",
        "content": {"image": {"type": evil, "content": {}}},
    }
    described = json.loads((copied / "features.json").read_text())
    if form == "present":
        described["featuresDict"]["features"]["image/filename"]["pythonClassName"] = evil
    elif form == "of older versions":
        described = legacy
    else:
        described["featuresDict"]["features"]["image"]["jsonFeature"] = {"json": json.dumps(legacy)}
    (copied / "features.json").write_text(json.dumps(described))
    with pytest.raises(InputError, match=r"has a feature of class 'payload_of_a_set\.Text'; accepted are those of "):
        sets.open_root(f"tfds:{copied}")
    assert "payload_of_a_set" not in sys.modules


def test_a_split_without_examples(tmp_path):
    written = sets.write_set(tmp_path / "set", sets.features(), [])
    with pytest.raises(InputError, match=r"^split 'train' of tfds:.*set has no examples; expected at least one$"):
        open_source(Data(root=f"tfds:{written}"), "train")
