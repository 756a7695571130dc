"""TFDS sets: the batches and records of the same images in a folder, a pack and an index."""

import json
import locale
import shutil
import subprocess
import sys

import pytest
import sets
from etils import epath

from cornerjax.config import Data
from cornerjax.data import tfds as opening
from cornerjax.data.pack import pack
from cornerjax.data.records import read_image
from cornerjax.errors import InputError
from cornerjax.evaluation.trained_on import hashes


@pytest.mark.parametrize("options", [{}, {"crowd": True, "empty_images": False, "render": "device"}], ids=["", "other"])
def test_a_folder_its_pack_and_a_tfds_set_give_the_same_batches(folder, prepared, tmp_path, options):
    pack(Data(root=str(folder)), ["train"], str(tmp_path / "pack"), shard_mb=0.01)
    assert len(list((tmp_path / "pack").glob("*array_record*"))) > 2
    theirs = sets.batches_of(folder, **options)
    sets.assert_same(sets.batches_of(f"tfds:{tmp_path}/pack", **options), theirs)
    sets.assert_same(sets.batches_of("tfds:tiny_boxes", **options), theirs)
    sets.assert_same(sets.batches_of(f"tfds:{prepared}", **options), theirs)


def test_the_set_is_stored_in_another_order(folder, prepared):
    source = sets.open_root(f"tfds:{prepared}")
    stored = [image["id"] for image in json.loads(source.annotation_file.read_text())["images"]]
    assert sorted(stored) == [record.image_id for record in source.records] != stored


def test_records_and_their_hashes_are_those_of_the_folder(folder, prepared):
    ours, theirs = sets.open_root(f"tfds:{prepared}"), sets.open_root(folder)
    sets.assert_same_records(ours, theirs)
    assert (hashes(ours) == hashes(theirs)).all()


def test_a_split_may_be_put_together(prepared):
    assert len(sets.open_root(f"tfds:{prepared}", "train[:2]").records) == 2
    assert len(sets.open_root(f"tfds:{prepared}", "train[:2]+train[4:]").records) == 3


def test_annotations_from_a_bucket_are_utf_8_whatever_the_locale(copied, tmp_path, monkeypatch):
    """A folder stands in for the bucket."""
    text = sets.open_root(f"tfds:{copied}").annotation_file.read_text().replace('"cat"', '"Kätzchen"')
    (copied / "instances_train.json").write_text(text, encoding="utf-8")

    def shards(name, split, make=opening.Shards):
        made = make(name, split)
        made.remote, made.folder = epath.Path(copied), tmp_path / "cache"
        return made

    monkeypatch.setattr(opening, "Shards", shards)
    before = locale.setlocale(locale.LC_CTYPE)
    locale.setlocale(locale.LC_CTYPE, "C")
    try:
        source = sets.open_root(f"tfds:{copied}")
    finally:
        locale.setlocale(locale.LC_CTYPE, before)
    assert source.class_names[0] == "Kätzchen"
    assert source.annotation_file == tmp_path / "cache/instances_train.json"


def test_nothing_of_tfds_is_imported_for_folders(folder):
    code = (
        "import sys, cornerjax; from cornerjax.config import Data; from cornerjax.data.source import open_source\n"
        f"open_source(Data(root={str(folder)!r}), 'train')\n"
        "sys.exit(sum(name in sys.modules for name in ('tensorflow', 'tensorflow_datasets', 'array_record')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.real_data
def test_blood_cells_are_the_same_from_a_folder_a_pack_and_an_index(real_data, tmp_path):
    root, packed = real_data / "data/bccd", tmp_path / "pack"
    pack(Data(root=str(root)), ["train", "val"], str(packed), shard_mb=2.0)
    for split in ("train", "val"):
        sets.assert_same_records(sets.open_root(f"tfds:{packed}", split), sets.open_root(root, split))
    theirs = sets.batches_of(root, 2)
    sets.assert_same(sets.batches_of(f"tfds:{packed}", 2), theirs)
    (packed / "instances_train.json").unlink()  # now the boxes come from the shards
    sets.assert_same(sets.batches_of(f"tfds:{packed}", 2), theirs)


def with_outlines(folder, split="train"):
    """The content of a split's JSON, its objects given outlines."""
    file = folder / f"annotations/instances_{split}.json"
    content = json.loads(file.read_text())
    for entry in content["annotations"]:
        x, y, w, h = entry["bbox"]
        entry["segmentation"] = [[x, y, x + w, y, x, y + h]]
    file.write_text(json.dumps(content))
    return content


@pytest.mark.parametrize(("split", "kept"), [("train[:60%]", [0, 1, 2]), ("train[3:]+train[:1]", [3, 4, 0])])
def test_a_part_of_a_pack_is_cut_from_its_own_annotations(folder, tmp_path, monkeypatch, split, kept):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = shutil.copytree(folder, tmp_path / "folder")
    content, out = with_outlines(root), tmp_path / "pack"
    pack(Data(root=str(root)), ["train"], str(out), shard_mb=0.01)
    there = sorted(out.iterdir())
    whole = {record.image_id: record for record in sets.open_root(root).records}
    for _ in range(2):  # made, and kept
        part = sets.open_root(f"tfds:{out}", split)
        truth = json.loads(part.annotation_file.read_text())
        ids = [sets.IDS[i] for i in kept]
        assert [image["id"] for image in truth["images"]] == ids
        assert truth["annotations"] == [entry for entry in content["annotations"] if entry["image_id"] in ids]
        assert truth["categories"] == content["categories"]
        assert part.category_ids == (4, 90)
        for record in part.records:
            assert record.turned
            assert record.boxes.tobytes() == whole[record.image_id].boxes.tobytes()
            assert sets.encoded(record) == sets.encoded(whole[record.image_id])
    assert sorted(out.iterdir()) == there
    changed = json.loads((out / "instances_train.json").read_text())
    changed["annotations"] = []
    (out / "instances_train.json").write_text(json.dumps(changed))
    assert not any(len(record.classes) for record in sets.open_root(f"tfds:{out}", split).records)


def test_splits_of_a_pack_together(folder, tmp_path):
    root = shutil.copytree(folder, tmp_path / "folder")
    content = sets.write_folder(root, "val")
    for entry in content["images"]:
        entry["id"] += 50
    for entry in content["annotations"]:
        entry["image_id"] += 50
    val = root / "annotations/instances_val.json"
    val.write_text(json.dumps(content))
    pack(Data(root=str(root)), ["train", "val"], str(tmp_path / "pack"))
    both = sets.open_root(f"tfds:{tmp_path / 'pack'}", "val[:2]+train")
    assert sorted(record.image_id for record in both.records) == sorted([*sets.IDS, sets.IDS[0] + 50, sets.IDS[1] + 50])
    for record in both.records:
        assert read_image(record).shape == (record.height, record.width, 3)
    content["categories"][0]["id"] = 91
    (tmp_path / "pack/instances_val.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"split 'val\+train' of tfds:.* is made of val, train, whose categories or"):
        sets.open_root(f"tfds:{tmp_path / 'pack'}", "val+train")
