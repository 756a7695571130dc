"""COCO-format folders: layouts that open, what is kept, and a sentence for every mistake."""

import json
import logging
import zlib

import cv2
import numpy as np
import pytest

from cornerjax.config import Data
from cornerjax.data.records import check_counts, read_image
from cornerjax.data.source import open_source
from cornerjax.errors import InputError


def write(root, content=None, *, annotations="annotations/instances_train.json", images="images", **changes):
    """Three images of 20 x 30 px; image 7 has two boxes, image 3 a crowd, image 5 nothing."""
    content = content or {
        "images": [{"id": i, "file_name": f"{i}.png", "height": 20, "width": 30} for i in (7, 3, 5)],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 90, "bbox": [1, 2, 3, 4], "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 4, "bbox": [0.5, 0, 40, 10]},
            {"id": 3, "image_id": 3, "category_id": 4, "bbox": [0, 0, 5, 5], "iscrowd": 1},
        ],
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 4, "name": "cat"}],
    }
    content |= changes
    (root / images).mkdir(parents=True, exist_ok=True)
    for image in content["images"]:
        cv2.imwrite(str(root / images / image["file_name"]), np.full((20, 30, 3), image["id"], np.uint8))
    (root / annotations).parent.mkdir(parents=True, exist_ok=True)
    (root / annotations).write_text(json.dumps(content))
    return content


def open_train(root, split="train", **options):
    return open_source(Data(root=str(root), **options), split)


def test_records(tmp_path):
    write(tmp_path)
    source = open_train(tmp_path)
    assert source.class_names == ("cat", "toothbrush")
    assert source.category_ids == (4, 90)
    assert source.annotation_file == tmp_path / "annotations/instances_train.json"
    assert [record.image_id for record in source.records] == [3, 5, 7]
    crowd, empty, first = source.records
    assert first.boxes.tolist() == [[1, 2, 4, 6], [0.5, 0, 40.5, 10]]  # as in the file: not clipped
    assert first.classes.tolist() == [1, 0]
    assert (first.boxes.dtype, first.classes.dtype) == (np.float64, np.int32)
    assert crowd.boxes.shape == empty.boxes.shape == (0, 4)
    assert (read_image(first) == 7).all()


def test_objects_stand_in_the_order_of_their_ids(tmp_path):
    """Those without an id come first, as in the file."""
    ids: list[dict] = [{"id": 8}, {}, {"id": 2}, {"id": None}]
    boxes = [{"image_id": 7, "category_id": 4, "bbox": [i, 1, 2, 2]} | own for i, own in enumerate(ids)]
    write(tmp_path, annotations="annotations/train.json")
    content = json.loads((tmp_path / "annotations/train.json").read_text())
    (tmp_path / "annotations/train.json").write_text(json.dumps(content | {"annotations": boxes}))
    assert open_train(tmp_path).records[-1].boxes[:, 0].tolist() == [1, 3, 2, 0]


def test_crowd_and_empty_images_are_options(tmp_path):
    write(tmp_path)
    assert [len(record.boxes) for record in open_train(tmp_path, crowd=True).records] == [1, 0, 2]
    assert [record.image_id for record in open_train(tmp_path, empty_images=False).records] == [7]
    assert [record.image_id for record in open_train(tmp_path, empty_images=False, crowd=True).records] == [3, 7]


@pytest.mark.parametrize("images", ["images", "images/train", "train", ".", "elsewhere"])
@pytest.mark.parametrize(
    "annotations", ["annotations/instances_train.json", "annotations/train.json", "instances_train.json", "train.json"]
)
def test_layouts(tmp_path, images, annotations):
    write(tmp_path, images=images, annotations=annotations)
    options = {"images": "elsewhere"} if images == "elsewhere" else {}
    for split in ("train", annotations, str(tmp_path / annotations)):
        assert len(open_train(tmp_path, split, **options).records) == 3


def test_the_layout_of_coco_itself(tmp_path):
    write(tmp_path, images="train2017", annotations="annotations/instances_train2017.json")
    assert open_train(tmp_path, "train2017").records[0].path == tmp_path / "train2017/3.png"


def test_a_folder_may_have_the_name_of_a_generated_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "scenes")
    assert len(open_train("scenes").records) == 3


def test_a_split_may_have_a_dot(tmp_path):
    for split in ("train", "train.small"):
        write(tmp_path, images=f"images/{split}", annotations=f"annotations/instances_{split}.json")
    assert open_train(tmp_path, "train.small").records[0].path == tmp_path / "images/train.small/3.png"


def test_boxes_may_cross_the_border(tmp_path):
    boxes = [[-2, -3, 2.5, 3.5], [29, 19, 50, 1], [-10, -10, 100, 100]]
    write(tmp_path, annotations=(file := "annotations/train.json"))
    content = json.loads((tmp_path / file).read_text())
    write(tmp_path, content | {"annotations": [ANNOTATION | {"bbox": box} for box in boxes]}, annotations=file)
    assert len(open_train(tmp_path).records[-1].boxes) == 3


def test_boxes_without_area_are_dropped_and_counted(tmp_path, caplog):
    annotation = {"id": 1, "image_id": 7, "category_id": 4}
    boxes = [[1, 2, 0, 4], [1, 2, 3, 0], [1, 2, 3, 4]]
    write(tmp_path, annotations=(file := "annotations/train.json"))
    content = json.loads((tmp_path / file).read_text())
    write(tmp_path, content | {"annotations": [annotation | {"bbox": box} for box in boxes]}, annotations=file)
    with caplog.at_level(logging.WARNING, logger="cornerjax"):
        assert len(open_train(tmp_path).records[-1].boxes) == 1
    assert caplog.messages == [f"{tmp_path / file}: dropped 2 boxes of width or height 0"]


ANNOTATION = {"id": 11, "image_id": 7, "category_id": 4, "bbox": [1, 2, 3, 4]}
CATEGORY = "needs an integer id of 64 bits and a name"
BAD_CONTENT = {
    "box with NaN": (
        {"annotations": [ANNOTATION | {"bbox": [1, 2, float("nan"), 4]}]},
        r"annotation id 11 has bbox .*nan",
    ),
    "infinite box": (
        {"annotations": [ANNOTATION | {"bbox": [1, 2, float("inf"), 4]}]},
        r"annotation id 11 has bbox .*inf",
    ),
    "negative size": ({"annotations": [ANNOTATION | {"bbox": [1, 2, 3, -4]}]}, r"annotation id 11 .*no negative size"),
    "three numbers": ({"annotations": [ANNOTATION | {"bbox": [1, 2, 3]}]}, r"annotation id 11 .*four finite numbers"),
    "words": ({"annotations": [ANNOTATION | {"bbox": [1, 2, 3, "4"]}]}, r"annotation id 11 .*four finite numbers"),
    "no box": ({"annotations": [ANNOTATION | {"bbox": None}]}, r"annotation id 11 has bbox None"),
    "overflow": (
        {"annotations": [ANNOTATION | {"bbox": [1, 2, 1e300, 4]}]},
        r"11 has bbox .*1e\+300.* of 30x20 pixels",
    ),
    "right of the image": ({"annotations": [ANNOTATION | {"bbox": [30, 2, 3, 4]}]}, r"11 has bbox .*30x20 pixels"),
    "above the image": (
        {"annotations": [ANNOTATION | {"bbox": [1, -4, 3, 4]}]},
        r"11 has bbox \[1, -4, 3, 4\], all of",
    ),
    "image id in a list": ({"annotations": [ANNOTATION | {"image_id": [7]}]}, r"annotation id 11 is of image id \[7\]"),
    "image id not whole": ({"annotations": [ANNOTATION | {"image_id": 7.0}]}, r"annotation id 11 is of image id 7.0"),
    "category id in braces": ({"annotations": [ANNOTATION | {"category_id": {}}]}, r"11 has category id \{\}, which"),
    "unknown image": (
        {"annotations": [ANNOTATION | {"image_id": 99}]},
        r"annotation id 11 is of image id 99, which is",
    ),
    "unknown category": (
        {"annotations": [ANNOTATION | {"category_id": 5}]},
        r"annotation id 11 has category id 5, which",
    ),
    "no images": ({"images": [], "annotations": []}, r"instances_train.json has no images; expected at least one"),
    "no categories": ({"categories": [], "annotations": []}, r'"categories" is empty'),
    "a list missing": ({"annotations": None}, r'instances_train.json has no list "annotations"; expected COCO'),
    "no dictionaries": ({"annotations": [1]}, r'every entry of "annotations" must be an object'),
    "category twice": (
        {"categories": [{"id": 4, "name": "a"}, {"id": 4, "name": "b"}]},
        "two categories have the id 4",
    ),
    "area in words": (
        {"annotations": [ANNOTATION | {"area": "12.5"}]},
        r"11 has area '12\.5'; expected a number",
    ),
    "endless area": ({"annotations": [ANNOTATION | {"area": float("inf")}]}, r"annotation id 11 has area inf"),
    "crowd in words": ({"annotations": [ANNOTATION | {"iscrowd": "0"}]}, r"11 has iscrowd '0'; expected 0 or 1"),
    "box across a country": ({"annotations": [ANNOTATION | {"bbox": [0, 0, 3e9, 5]}]}, r"annotation id 11 has bbox"),
    "category id too large": (
        {"categories": [{"id": 2**63, "name": "a"}]},
        CATEGORY,
    ),
    "category id endless": (
        {"categories": [{"id": 10**4000, "name": "a"}]},
        CATEGORY,
    ),
    "category with a null": ({"categories": [{"id": 4, "name": "a\0"}]}, CATEGORY),
    "half a character": ({"categories": [{"id": 4, "name": "\ud800"}]}, r"'\\ud800'.* needs an integer id of"),
    "category without name": ({"categories": [{"id": 4}]}, CATEGORY),
}


@pytest.mark.parametrize(("changes", "message"), BAD_CONTENT.values(), ids=BAD_CONTENT)
def test_content_that_makes_no_sense_is_refused(tmp_path, changes, message):
    write(tmp_path)
    file = tmp_path / "annotations/instances_train.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(InputError, match=message) as caught:
        open_train(tmp_path)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": 3}, "two images have the id 3"),
        ({"height": 0}, "image id 7 has height and width"),
        ({"width": None}, "image id 7 has height and width"),
        ({"id": 2**63}, "needs an integer id of 64 bits and a file_name"),
        ({"height": 10**400}, "image id 7 has height and width"),
        ({"file_name": "a" * 256}, "needs an integer id of 64 bits and a file_name"),
        ({"id": float("inf")}, "needs an integer id of 64 bits and a file_name"),
        ({"file_name": "\ud800.png"}, "needs an integer id of 64 bits and a file_name"),
        ({"file_name": "a\0.png"}, "needs an integer id of 64 bits and a file_name"),
        ({"file_name": 5}, "needs an integer id of 64 bits and a file_name"),
        ({"file_name": "nope.png", "id": 1}, "image nope.png of .* is missing; looked for .*train/nope.png"),
    ],
)
def test_an_image_entry_that_makes_no_sense_is_refused(tmp_path, change, message):
    content = write(tmp_path)
    content["images"][0] |= change
    content["annotations"] = []
    (tmp_path / "annotations/instances_train.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        open_train(tmp_path)


def test_missing_images_are_counted(tmp_path):
    write(tmp_path)
    (tmp_path / "images/7.png").unlink()
    with pytest.raises(InputError, match=r"image .*images/7.png of .* is missing"):
        open_train(tmp_path)
    (tmp_path / "images/5.png").unlink()
    with pytest.raises(InputError, match=r"image .*images/5.png \(and 1 more\) of .* is missing"):
        open_train(tmp_path)


def test_files_that_are_not_there(tmp_path):
    accepted = "expected one in COCO format, tfds:NAME, tfds:DIR, shapes:SEED or scenes:SEED$"
    for root in (tmp_path / "nowhere", "circles:0"):
        with pytest.raises(InputError, match=f"{root}' is not a folder; {accepted}"):
            open_train(root)
    with pytest.raises(InputError, match=r"split 'train'; looked for .*instances_train.json, .*/train.json"):
        open_train(tmp_path)
    (tmp_path / "train.json").write_text("{")
    with pytest.raises(InputError, match=r"train.json is not JSON"):
        open_train(tmp_path)
    (tmp_path / "train.json").write_text("[]")
    with pytest.raises(InputError, match=r'has no list "images"'):
        open_train(tmp_path)


@pytest.mark.parametrize("spoilt", ["empty", "text", "cut short", "too large", "gone"])
def test_an_unreadable_image_is_named(tmp_path, spoilt):
    write(tmp_path)
    record = open_train(tmp_path).records[-1]
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    jpeg = cv2.imencode(".jpg", noise)[1].tobytes()
    png = bytearray(cv2.imencode(".png", noise)[1].tobytes())
    png[16:24] = (2**16).to_bytes(4, "big") * 2  # width and height
    png[29:33] = zlib.crc32(png[12:29]).to_bytes(4, "big")
    contents = {"empty": b"", "text": b"hello", "cut short": jpeg[:-100], "too large": png, "gone": b""}
    record.path.write_bytes(contents[spoilt])
    if spoilt == "gone":
        record.path.unlink()
    with pytest.raises(InputError, match=r"(cannot read .*images/7\.png|images/7\.png has 4,294,967,296 pixels)"):
        read_image(record)


def test_an_image_of_another_size_is_named(tmp_path):
    write(tmp_path)
    record = open_train(tmp_path).records[-1]
    cv2.imwrite(str(record.path), np.zeros((30, 20, 3), np.uint8))
    with pytest.raises(InputError, match=r"7.png is 20x30 pixels, but the annotation file says 30x20 for image id 7"):
        read_image(record)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "counts", "boxes", "classes"),
    [("bccd", (292, 72), (3941, 945), 3), ("coco_mini", (59, 66), (583 - 6, 560 - 8), 80)],
)
def test_real_data_opens(real_data, name, counts, boxes, classes):
    for split, images, objects in zip(("train", "val"), counts, boxes, strict=True):
        source = open_train(real_data / "data" / name, split)
        assert len(source.records) == images
        assert sum(len(record.boxes) for record in source.records) == objects
        assert len(source.class_names) == classes
        read_image(source.records[0])


def test_a_set_without_boxes_is_not_for_training(tmp_path):
    content = write(tmp_path)
    write(tmp_path, content | {"annotations": []})
    with pytest.raises(InputError, match=r"instances_train\.json: no image has a box to train on; expected at least"):
        check_counts(open_train(tmp_path), 5)


def test_images_with_too_many_objects_are_counted(tmp_path, caplog):
    write(tmp_path)
    with caplog.at_level(logging.WARNING, logger="cornerjax"):
        check_counts(open_train(tmp_path), 1)
    assert "1 images have more than data.max_objects = 1 objects; up to 1 objects are left out" in caplog.text
