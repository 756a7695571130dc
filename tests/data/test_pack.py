"""Packs of COCO-format folders: sets that TFDS opens, whole or not there, and a sentence for every mistake."""

import json
import logging
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import sets
import tensorflow_datasets as tfds
from PIL import Image

from cornerjax.config import Data
from cornerjax.data import pack as packing
from cornerjax.data.pack import pack
from cornerjax.data.records import read_image
from cornerjax.data.source import open_source
from cornerjax.errors import InputError


@pytest.fixture
def folder(tmp_path):
    sets.write_folder(tmp_path / "folder")
    return tmp_path / "folder"


def packed(folder, out, splits=("train",), **options):
    pack(Data(root=str(folder)), splits, str(out), **({"shard_mb": 0.01} | options))
    return out


def test_plain_tfds_reads_a_pack(folder, tmp_path):
    out = packed(folder, tmp_path / "pack")
    content = json.loads((folder / "annotations/instances_train.json").read_text())
    builder = tfds.builder_from_directory(str(out))
    assert builder.info.features["objects"]["label"].names == list(sets.NAMES)
    examples = list(builder.as_data_source("train"))
    assert [example["image/id"] for example in examples] == list(sets.IDS)  # the order of the file
    assert [example["image/filename"].decode() for example in examples] == [i["file_name"] for i in content["images"]]
    for theirs, ours in zip(sets.examples(folder), examples, strict=True):
        with Image.open(theirs["image"]) as image:
            np.testing.assert_array_equal(ours["image"], image)
        objects = ours["objects"]
        assert [int(i) for i in objects["id"]] == [o["id"] for o in theirs["objects"]]
        assert [bool(i) for i in objects["is_crowd"]] == [o["is_crowd"] for o in theirs["objects"]]
        assert [int(i) for i in objects["label"]] == [o["label"] for o in theirs["objects"]]
        np.testing.assert_allclose(
            np.reshape(objects["bbox"], (-1, 4)), np.reshape([o["bbox"] for o in theirs["objects"]], (-1, 4)), rtol=1e-6
        )


def test_images_and_annotation_file_stay_as_they_are(folder, tmp_path):
    out = packed(folder, tmp_path / "pack")
    file = "instances_train.json"
    assert (out / file).read_bytes() == (folder / "annotations" / file).read_bytes()
    for record in open_source(Data(root=f"tfds:{out}"), "train").records:
        assert record.stored
        assert record.stored.read() == (folder / "train" / record.path.name).read_bytes()


def test_a_pack_may_have_several_splits(folder, tmp_path):
    sets.write_folder(folder, "val")
    out = packed(folder, tmp_path / "pack", ("train", str(folder / "annotations/instances_val.json")))
    for split in ("train", "val"):
        assert len(open_source(Data(root=f"tfds:{out}"), split).records) == 5


def test_an_annotation_file_may_lack_ids_and_areas_and_boxes_may_reach_out(folder, tmp_path, caplog):
    file = folder / "annotations/instances_train.json"
    content = json.loads(file.read_text())
    boxes = [[-5, -5.123, 200, 300], [1, 2, 0, 4], [10.3333333, 20, 5, 6]]
    content["annotations"] = [{"image_id": 7, "category_id": 4, "bbox": box} for box in boxes]
    file.write_text(json.dumps(content))
    with caplog.at_level(logging.ERROR, logger="cornerjax"):
        out = packed(folder, tmp_path / "pack")
    first = open_source(Data(root=f"tfds:{out}"), "train").records[2]
    assert first.boxes.tobytes() == open_source(Data(root=str(folder)), "train").records[2].boxes.tobytes()
    objects = tfds.builder_from_directory(str(out)).as_data_source("train")[0]["objects"]
    assert objects["bbox"][0].tolist() == [0, 0, 1, 1]
    assert [int(i) for i in objects["id"]] == [1, 2, 3]
    assert [int(i) for i in objects["area"]] == [60000, 0, 30]


@pytest.mark.parametrize("odd", [2**63, -(2**70), 1.5, "a"])
def test_objects_get_numbers_where_one_has_an_id_that_is_no_whole_number_of_64_bits(folder, tmp_path, odd):
    file = folder / "annotations/instances_train.json"
    content = json.loads(file.read_text())
    boxes = [{"id": i, "image_id": 7, "category_id": 4, "bbox": [x, 2, 5, 6]} for i, x in ((9, 20), (odd, 10), (2, 30))]
    file.write_text(json.dumps(content | {"annotations": boxes}))
    out = packed(folder, tmp_path / "pack")
    objects = tfds.builder_from_directory(str(out)).as_data_source("train")[0]["objects"]
    assert [int(i) for i in objects["id"]] == [1, 2, 3]
    for root in (f"tfds:{out}", str(folder)):
        assert open_source(Data(root=root), "train").records[2].boxes[:, 0].tolist() == [10, 30, 20]


def test_a_bad_image_is_named(folder, tmp_path):
    file = folder / "train/002_3.png"
    file.write_bytes(file.read_bytes()[:-30])  # its header is whole
    record = open_source(Data(root=f"tfds:{packed(folder, tmp_path / 'pack')}"), "train").records[0]
    with pytest.raises(InputError, match=r"cannot read .*pack/002_3\.png as an image"):
        read_image(record)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"splits": ()}, r"--split is \[\]; expected one or more"),
        ({"splits": ("train", "train")}, "expected one or more of different names"),
        ({"splits": ("train", "nope")}, "no annotation file for split 'nope'"),
        ({"splits": ("a b",)}, "TFDS takes letters, digits, _ and - as the name of a split"),
        ({"out": "gs://bucket/pack"}, "is not a local folder; pack into one and copy it there"),
        ({"out": "/proc/nowhere/pack"}, "cannot write /proc/nowhere/pack: No such file"),
        ({"root": "tfds:coco/2017"}, "is a TFDS set already"),
        ({"root": "nowhere"}, "'nowhere' is not a folder"),
        ({"shard_mb": 0.0}, "--shard-mb is 0.0; accepted is more than 0"),
    ],
)
def test_options_that_make_no_sense(folder, tmp_path, options, message):
    given = {"root": folder, "out": tmp_path / "pack", "splits": ("train",), "shard_mb": 1.0} | options
    with pytest.raises(InputError, match=message) as caught:
        packed(given["root"], given["out"], given["splits"], shard_mb=given["shard_mb"])
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_classes_of_the_splits_are_matched_by_name(folder, tmp_path):
    """TFDS has one list of labels for all splits; the splits may have other ids, another order and more classes."""
    content = sets.write_folder(folder, "val")
    content["categories"] = [{"id": 1, "name": "dog"}, {"id": 2, "name": "toothbrush"}, {"id": 3, "name": "cat"}]
    for entry in content["annotations"]:
        entry["category_id"] = {4: 3, 90: 2}[entry["category_id"]]
    (folder / "annotations/instances_val.json").write_text(json.dumps(content))
    out = packed(folder, tmp_path / "pack", ("train", "val"))
    builder = tfds.builder_from_directory(str(out))
    assert builder.info.features["objects"]["label"].names == ["cat", "toothbrush", "dog"]
    train, val = ([list(e["objects"]["label"]) for e in builder.as_data_source(split)] for split in ("train", "val"))
    assert train == val
    assert {label for labels in train for label in labels} == {0, 1}
    assert open_source(Data(root=f"tfds:{out}"), "val").class_names == ("dog", "toothbrush", "cat")


def test_two_categories_of_the_same_name_are_refused(folder, tmp_path):
    content = sets.write_folder(folder, "val")
    renamed = [{"id": 4, "name": "dog"}, {"id": 90, "name": "dog"}]
    (folder / "annotations/instances_val.json").write_text(json.dumps(content | {"categories": renamed}))
    with pytest.raises(InputError, match=r"instances_val.json: two categories have the name 'dog', .*rename or merge"):
        packed(folder, tmp_path / "pack", ("train", "val"))


def test_what_is_there_is_not_written_over(folder, tmp_path):
    out = tmp_path / "pack"
    out.mkdir()
    packed(folder, out)
    before = sorted(path.name for path in out.iterdir())
    with pytest.raises(InputError, match="pack exists already"):
        packed(folder, out)
    assert sorted(path.name for path in out.iterdir()) == before


def test_the_current_folder_and_mount_points_are_refused(folder, tmp_path, monkeypatch, small_disk):
    monkeypatch.setattr(packing, "open_source", lambda *_: pytest.fail("read before it was refused"))
    (tmp_path / "here").mkdir()
    (tmp_path / "link").symlink_to(small_disk)
    monkeypatch.chdir(tmp_path / "here")
    for out in (".", "../here", small_disk, tmp_path / "link"):
        with pytest.raises(
            InputError,
            match=r"^--out .* is the current folder or a mount point; expected a new folder",
        ):
            packed(folder, out)
    assert not list((tmp_path / "here").iterdir())


@pytest.mark.parametrize("parent", ["/proc/nowhere", "file", "file/deep"])
def test_where_nothing_may_be_written_nothing_is_read(folder, tmp_path, monkeypatch, parent):
    monkeypatch.setattr(packing, "open_source", lambda *_: pytest.fail("read before it was refused"))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"^cannot write .*/pack: (No such file|Not a directory)"):
        packed(folder, tmp_path / parent / "pack")


def test_a_pack_may_lie_deep_and_a_mistake_makes_no_folders(folder, tmp_path):
    with pytest.raises(InputError, match="no annotation file"):
        packed(folder, tmp_path / "a/b/pack", ("nope",))
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    out = packed(folder, tmp_path / "a/b/pack")
    assert len(open_source(Data(root=f"tfds:{out}"), "train").records) == 5
    assert [path.name for path in (tmp_path / "a/b").iterdir()] == ["pack"]


def test_a_full_disk_leaves_nothing_behind(folder, small_disk):
    for i in range(60):  # more than there is room for
        shutil.copy(folder / "train/000_7.jpg", folder / f"train/{i}.jpg")
    content = json.loads((folder / "annotations/instances_train.json").read_text())
    image = content["images"][0]
    content["images"] += [image | {"id": 100 + i, "file_name": f"{i}.jpg"} for i in range(60)]
    (folder / "annotations/instances_train.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"cannot write .*No space left on device"):
        packed(folder, small_disk / "pack", shard_mb=0.001)
    assert not list(small_disk.iterdir())


def test_the_command(folder, tmp_path):
    command = [sys.executable, "-m", "cornerjax", "pack", "--root", str(folder), "--split", "train"]
    run = subprocess.run([*command, "--out", str(tmp_path / "pack")], capture_output=True, text=True)
    assert run.returncode == 0
    assert re.fullmatch(r"(packing train: \d+/\d+\n)*", run.stderr)  # a slow machine tells of its progress
    assert run.stdout == f"written: {tmp_path}/pack; next: --data.root tfds:{tmp_path}/pack\n"
    again = subprocess.run([*command, "--out", str(tmp_path / "pack")], capture_output=True, text=True)
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr.startswith("error: --out")


@pytest.mark.parametrize("content", [b"a private key", b""])
def test_no_file_of_another_kind_is_packed(folder, tmp_path, content):
    (folder / "train/002_3.png").write_bytes(content)
    with pytest.raises(InputError, match=r"cannot read .*train/002_3\.png as an image"):
        packed(folder, tmp_path / "pack")
    assert not (tmp_path / "pack").exists()


@pytest.mark.parametrize("name", ["/etc/passwd", "../train/002_3.png"])
def test_no_file_from_outside_is_packed(folder, tmp_path, name):
    file = folder / "annotations/instances_train.json"
    content = json.loads(file.read_text())
    (tmp_path / "elsewhere.png").write_bytes((folder / "train/002_3.png").read_bytes())
    content["images"][0]["file_name"] = name if ".." in name else str(tmp_path / "elsewhere.png")
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match="lies outside the data set; expected images of its folder"):
        packed(folder, tmp_path / "pack")


def test_what_cannot_be_read_is_not_said_to_be_what_cannot_be_written(folder, tmp_path):
    image = sorted((folder / "train").glob("*_7.jpg"))[0]
    image.unlink()
    image.symlink_to(image)
    with pytest.raises(InputError, match=r"cannot read .*_7\.jpg: Too many levels of symbolic links"):
        packed(folder, tmp_path / "pack")
