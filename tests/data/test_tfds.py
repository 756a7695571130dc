"""TFDS sets: the batches of the same images in a folder, the index and its cache, a sentence for every mistake."""

import json
import locale
import os
import shutil
import subprocess
import sys
from itertools import islice

import numpy as np
import pytest
import sets
import tensorflow_datasets as tfds
from etils import epath

from cornerjax.config import Data
from cornerjax.data import tfds as opening
from cornerjax.data.coco_classes import COCO_CATEGORIES
from cornerjax.data.pack import pack
from cornerjax.data.pipeline import make_batches
from cornerjax.data.records import read_image
from cornerjax.data.source import open_source
from cornerjax.data.tfds_index import to_xywh
from cornerjax.detectors import get_detector
from cornerjax.detectors.cornernet import CornerConfig, CornerModel
from cornerjax.errors import InputError
from cornerjax.evaluation.compare.average_precision import average_precision
from cornerjax.evaluation.compare.entries import Detected
from cornerjax.evaluation.trained_on import hashes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("folder")
    sets.write_folder(root)
    return root


@pytest.fixture(scope="module")
def prepared(folder, tmp_path_factory):
    """A set that TFDS itself prepared, its examples shuffled."""

    class TinyBoxes(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=sets.features())

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for example in sets.examples(folder):
                yield example["image/filename"], example

    data_dir = tmp_path_factory.mktemp("prepared")
    TinyBoxes(data_dir=str(data_dir), file_format="array_record").download_and_prepare()
    tfds.core.add_data_dir(str(data_dir))
    return data_dir / "tiny_boxes/1.0.0"


@pytest.fixture
def copied(prepared, tmp_path):
    """A copy of its own, without an index."""
    shutil.copytree(prepared, tmp_path / "set", ignore=shutil.ignore_patterns("cornerjax_*"))
    return tmp_path / "set"


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


@pytest.mark.parametrize(("height", "width"), [(480, 640), (6000, 9999)])
def test_hundredths_of_a_pixel_come_back_from_parts_of_an_image(height, width):
    rng = np.random.default_rng(0)
    for _ in range(1000):
        x, y, w, h = (int(v) / 100 for v in rng.integers(1, 50 * np.array([width, height, width, height])))
        part = np.array([y / height, x / width, (y + h) / height, (x + w) / width]).astype(np.float32)
        assert to_xywh(part, height, width) == [x, y, w, h]


@pytest.mark.parametrize("options", [{}, {"crowd": True, "empty_images": False, "render": "device"}], ids=["", "other"])
def test_a_folder_its_pack_and_a_tfds_set_give_the_same_batches(folder, prepared, tmp_path, options):
    pack(Data(root=str(folder)), ["train"], str(tmp_path / "pack"), shard_mb=0.01)
    assert len(list((tmp_path / "pack").glob("*array_record*"))) > 2
    theirs = batches_of(folder, **options)
    assert_same(batches_of(f"tfds:{tmp_path}/pack", **options), theirs)
    assert_same(batches_of("tfds:tiny_boxes", **options), theirs)
    assert_same(batches_of(f"tfds:{prepared}", **options), theirs)


def test_the_set_is_stored_in_another_order(folder, prepared):
    source = open_root(f"tfds:{prepared}")
    stored = [image["id"] for image in json.loads(source.annotation_file.read_text())["images"]]
    assert sorted(stored) == [record.image_id for record in source.records] != stored


def test_records_and_their_hashes_are_those_of_the_folder(folder, prepared):
    ours, theirs = open_root(f"tfds:{prepared}"), open_root(folder)
    assert_same_records(ours, theirs)
    assert (hashes(ours) == hashes(theirs)).all()


def test_the_index_is_a_ground_truth(folder, prepared):
    """Boxes of one class are moved by a few pixels; both files say the same of them."""
    measured = []
    for root, ids in ((folder, (4, 90)), (f"tfds:{prepared}", (1, 2))):
        source = open_root(root)
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


def test_a_split_may_be_put_together(prepared):
    assert len(open_root(f"tfds:{prepared}", "train[:2]").records) == 2
    assert len(open_root(f"tfds:{prepared}", "train[:2]+train[4:]").records) == 3


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
    ours = open_root(f"tfds:{sets.write_set(tmp_path / 'voc', voc, examples)}")
    theirs = {record.path.name: record for record in open_root(folder).records}
    assert [record.image_id for record in ours.records] == [1, 2, 3, 4, 5]
    assert [record.path.name for record in ours.records] == sorted(theirs)
    for record in ours.records:
        assert record.boxes.tobytes() == theirs[record.path.name].boxes.tobytes()


def test_cocos_classes_have_cocos_ids(folder, tmp_path):
    names = [name for _, name in COCO_CATEGORIES]
    coco = sets.features(label=tfds.features.ClassLabel(names=names))
    source = open_root(f"tfds:{sets.write_set(tmp_path / 'coco', coco, sets.examples(folder))}")
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
    source = open_root(f"tfds:{written}")
    assert [len(record.classes) for record in source.records] == [2, 3, 4, 0, 6]
    assert [record.path.name for record in source.records] == [f"{i:012}.jpg" for i in range(1, 6)]


def test_the_index_is_made_once_and_again_when_the_set_has_changed(copied, monkeypatch):
    made = count_calls(monkeypatch, opening, "make_index")
    theirs = open_root(f"tfds:{copied}")
    file = copied / "cornerjax_train.json"
    assert theirs.annotation_file == file
    assert_same_records(open_root(f"tfds:{copied}"), theirs)
    assert len(made) == 1
    shard = next(copied.glob("*array_record*"))
    os.utime(shard, (1e9, 1e9))
    open_root(f"tfds:{copied}")
    assert len(made) == 2
    for damage in ("", '{"images": [', "[]", '{"images": [], "annotations": [], "categories": []}'):
        file.write_text(damage)
        assert_same_records(open_root(f"tfds:{copied}"), theirs)
    assert len(made) == 6
    assert not list(copied.glob(".*"))


def test_two_halves_of_a_split_have_an_index_each(copied, monkeypatch):
    made = count_calls(monkeypatch, opening, "make_index")
    halves = "train[:60%]", "train[60%:]"
    first, second = ([open_root(f"tfds:{copied}", half) for half in halves] for _ in range(2))
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
    source = open_root(f"tfds:{sets.write_set(tmp_path / 'text', tfds.features.FeaturesDict(kept), examples)}")
    assert [record.image_id for record in source.records] == [1, 2, 3, 4, 5]
    for record in source.records:
        assert read_image(record).shape == (record.height, record.width, 3)


def test_annotations_from_a_bucket_are_utf_8_whatever_the_locale(copied, tmp_path, monkeypatch):
    """A folder stands in for the bucket."""
    text = open_root(f"tfds:{copied}").annotation_file.read_text().replace('"cat"', '"Kätzchen"')
    (copied / "instances_train.json").write_text(text, encoding="utf-8")

    def shards(name, split, make=opening.Shards):
        made = make(name, split)
        made.remote, made.folder = epath.Path(copied), tmp_path / "cache"
        return made

    monkeypatch.setattr(opening, "Shards", shards)
    before = locale.setlocale(locale.LC_CTYPE)
    locale.setlocale(locale.LC_CTYPE, "C")
    try:
        source = open_root(f"tfds:{copied}")
    finally:
        locale.setlocale(locale.LC_CTYPE, before)
    assert source.class_names[0] == "Kätzchen"
    assert source.annotation_file == tmp_path / "cache/instances_train.json"


def test_where_nothing_may_be_written_the_index_is_kept_elsewhere(copied, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (copied / "cornerjax_train.json").mkdir()  # root may write everywhere, but not this
    source = open_root(f"tfds:{copied}")
    assert source.annotation_file.is_relative_to(tmp_path / "cache/cornerjax")
    monkeypatch.setattr(opening, "make_index", lambda shards: 1 / 0)
    assert open_root(f"tfds:{copied}").annotation_file == source.annotation_file


def test_a_json_of_other_images_is_refused(copied):
    content = json.loads(open_root(f"tfds:{copied}").annotation_file.read_text())
    images = content["images"]
    (copied / "instances_train.json").write_text(json.dumps(content | {"images": [*images[1:], images[0]]}))
    misplaced = open_root(f"tfds:{copied}").records[0]
    with pytest.raises(InputError, match=r"should have the id 3, but the image in its place has the id \d+"):
        read_image(misplaced)
    (copied / "instances_train.json").write_text(json.dumps(content | {"images": images[:3]}))
    with pytest.raises(InputError, match=r"instances_train.json has 3 images, but split 'train' of tfds:.* has 5$"):
        open_root(f"tfds:{copied}")


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
        open_root(f"tfds:{name}", split)
    assert "\n" not in str(caught.value)


def test_another_format_is_refused_with_the_command_that_converts_it(folder, tmp_path):
    sets.write_set(tmp_path / "set", sets.features(), sets.examples(folder), file_format="tfrecord")
    with pytest.raises(
        InputError, match=rf"is stored as tfrecord.*convert_format --dataset_version_dir={tmp_path}/set"
    ):
        open_root(f"tfds:{tmp_path}/set")


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
        open_root(f"tfds:{written}")


def test_shards_that_are_damaged_or_gone_are_named(copied):
    root = f"tfds:{copied}"
    open_root(root)
    record = open_root(root).records[0]
    shard = next(copied.glob("*array_record*"))
    shard.write_bytes(shard.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"^cannot read .*set/002_3\.png: cannot read example \d of tfds:.*") as caught:
        read_image(record)
    assert "\n" not in str(caught.value)
    shard.unlink()
    with pytest.raises(InputError, match=rf"{shard} of tfds:.* is missing; prepare the set again"):
        open_root(root)
    (copied / "dataset_info.json").write_text("{")
    with pytest.raises(InputError, match=r"dataset_info\.json is not JSON"):
        open_root(root)
    shutil.rmtree(copied)
    with pytest.raises(InputError, match=r"the folder .*set is gone; is the data directory still there"):
        read_image(record)


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
        assert_same_records(open_root(f"tfds:{packed}", split), open_root(root, split))
    theirs = batches_of(root, 2)
    assert_same(batches_of(f"tfds:{packed}", 2), theirs)
    (packed / "instances_train.json").unlink()  # now the boxes come from the shards
    assert_same(batches_of(f"tfds:{packed}", 2), theirs)


def test_a_pipe_is_not_waited_for(copied):
    (copied / "features.json").unlink()
    os.mkfifo(copied / "features.json")
    with pytest.raises(InputError, match=r"features\.json: it is no regular file"):
        open_root(f"tfds:{copied}")


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
        open_root(f"tfds:{copied}")
    assert "payload_of_a_set" not in sys.modules


def test_a_split_without_examples(tmp_path):
    written = sets.write_set(tmp_path / "set", sets.features(), [])
    with pytest.raises(InputError, match=r"^split 'train' of tfds:.*set has no examples; expected at least one$"):
        open_source(Data(root=f"tfds:{written}"), "train")
