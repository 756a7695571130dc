"""Boxes as JSON, CSV and COCO's results; what they may replace."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from cornerjax.detectors.rows import Detections
from cornerjax.errors import InputError
from cornerjax.inference.results import Entry, image_ids, write_results
from cornerjax.inference.written import OURS, only_writer, refuse_to_replace, write

NAMES = ("cat", "dog, small")
TWO = Detections(
    np.array([[1, 2, 11, 22], [0.5, 0, 4, 8]], np.float32),
    np.array([0.75, 0.5], np.float32),
    np.array([1, 0], np.int32),
    NAMES,
)
ENTRIES = [
    Entry("in/b.jpg", "b.jpg", None, 7, TWO),
    Entry("in/c.jpg", "c.jpg", None, 8, TWO.above(0.9)),
    Entry("clip.mp4", None, 3, 9, TWO.above(0.7)),
]


def test_json_has_an_entry_a_photo_and_frame(tmp_path):
    write_results(tmp_path / "new", ENTRIES, ["json"], (5, 3))
    first, second, third = json.loads((tmp_path / "new" / "detections.json").read_text())
    assert first == {
        "file": "in/b.jpg",
        "picture": "b.jpg",
        "boxes": [[1, 2, 11, 22], [0.5, 0, 4, 8]],
        "scores": [0.75, 0.5],
        "classes": ["dog, small", "cat"],
    }
    assert (second["boxes"], second["classes"]) == ([], [])
    assert (third["file"], third["frame"], third["picture"]) == ("clip.mp4", 3, None)
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"detections.json", OURS}


def test_csv_has_a_row_a_box(tmp_path):
    write_results(tmp_path, ENTRIES, ["csv"], (5, 3))
    with (tmp_path / "detections.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["file", "frame", "x1", "y1", "x2", "y2", "score", "class"],
        ["in/b.jpg", "", "1.0", "2.0", "11.0", "22.0", "0.75", "dog, small"],
        ["in/b.jpg", "", "0.5", "0.0", "4.0", "8.0", "0.5", "cat"],
        ["clip.mp4", "3", "1.0", "2.0", "11.0", "22.0", "0.75", "dog, small"],
    ]


def test_coco_has_the_ids_of_the_data_set_and_the_json_says_which_image_is_which(tmp_path):
    write_results(tmp_path, ENTRIES, ["json", "coco"], (5, 3))
    results = json.loads((tmp_path / "results.json").read_text())
    assert results[0] == {"image_id": 7, "category_id": 3, "bbox": [1, 2, 10, 20], "score": 0.75}
    assert [(result["image_id"], result["category_id"]) for result in results] == [(7, 3), (7, 5), (9, 3)]
    assert [e["image_id"] for e in json.loads((tmp_path / "detections.json").read_text())] == [7, 8, 9]


def test_coco_has_the_numbers_that_an_evaluation_writes(tmp_path):
    """Widths and heights as float32 subtracts."""
    found = TWO.above(0.6).scaled(1.1, 0.3)
    write_results(tmp_path, [Entry("b.jpg", None, None, 7, found)], ["coco"], (5, 3))
    (result,) = json.loads((tmp_path / "results.json").read_text())
    x1, y1, x2, y2 = found.boxes[0]
    assert result["bbox"] == [float(value) for value in (x1, y1, x2 - x1, y2 - y1)]


def test_photos_are_counted_in_sorted_order():
    assert image_ids([Path("b.jpg"), Path("a/z.jpg"), Path("c.jpg")], "") == [2, 1, 3]


def test_image_ids_of_an_annotation_file(tmp_path):
    images = [
        {"id": 30, "file_name": "val/a.jpg"},
        {"id": 31, "file_name": "train/a.jpg"},
        {"id": 32, "file_name": "elsewhere/b.jpg"},
        {"id": 33, "file_name": "c.jpg"},
        {"id": 34, "file_name": "c.jpg"},
    ]
    file = tmp_path / "images.json"
    file.write_text(json.dumps({"images": images}))
    assert image_ids([Path("x/val/a.jpg"), Path("x/train/a.jpg"), Path("b.jpg")], str(file)) == [30, 31, 32]
    file.with_name("twice.json").write_text(json.dumps({"images": [*images, {"id": 30, "file_name": "d.jpg"}]}))
    with pytest.raises(InputError, match=r"twice\.json has two images with one id"):
        image_ids([Path("b.jpg")], str(file.with_name("twice.json")))
    for photo, count in [("x/d.jpg", "no"), ("c.jpg", "2"), ("x/a.jpg", "2")]:
        with pytest.raises(InputError, match=rf"images\.json has {count} images with the file_name of {photo}"):
            image_ids([Path(photo)], str(file))


def test_two_photos_of_one_image_are_refused(tmp_path):
    """Their boxes would count as those of one image."""
    file = tmp_path / "images.json"
    file.write_text(json.dumps({"images": [{"id": 30, "file_name": "a.jpg"}]}))
    with pytest.raises(InputError, match=r"x/a\.jpg and y/a\.jpg are both the image 30 of .*; give one of them only$"):
        image_ids([Path("x/a.jpg"), Path("y/a.jpg")], str(file))


@pytest.mark.parametrize("content", ["[]", "{}", '{"images": [{"id": 3}]}', '{"images": [{"file_name": "a.jpg"}]}'])
def test_a_file_that_is_no_annotation_file(tmp_path, content):
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(InputError, match=r'bad\.json is no COCO file: it has no "images" with id and file_name'):
        image_ids([Path("a.jpg")], str(tmp_path / "bad.json"))
    with pytest.raises(InputError, match=r"cannot read .*gone\.json: No such file"):
        image_ids([Path("a.jpg")], str(tmp_path / "gone.json"))


def test_results_of_an_earlier_call_are_replaced_and_nothing_else(tmp_path):
    (tmp_path / "detections.csv").write_text("mine")
    with pytest.raises(InputError, match=r"detections\.csv is there already; give another folder"):
        refuse_to_replace(tmp_path, ["detections.csv"], [])
    (tmp_path / "detections.csv").unlink()
    write_results(tmp_path, ENTRIES, ["json", "csv", "coco"], (5, 3))
    write(tmp_path, "b.jpg", "drawn")
    refuse_to_replace(tmp_path, ["b.jpg", "detections.json", "detections.csv", "results.json"], [])
    (tmp_path / "d.jpg").write_text("mine")
    with pytest.raises(InputError, match=r"d\.jpg is there already"):
        refuse_to_replace(tmp_path, ["b.jpg", "d.jpg"], [])
    (tmp_path / "b.jpg").write_text("my own, in the place of what was drawn")
    with pytest.raises(InputError, match=r"b\.jpg is there already"):
        refuse_to_replace(tmp_path, ["b.jpg"], [])
    (tmp_path / "b.jpg").unlink()
    (tmp_path / "b.jpg").mkdir()
    with pytest.raises(InputError, match=r"b\.jpg is there already"):
        refuse_to_replace(tmp_path, ["b.jpg"], [])


def test_a_line_that_a_full_disk_cut_does_not_spoil_the_next(tmp_path):
    write(tmp_path, "a.jpg", "")
    with (tmp_path / OURS).open("a") as file:
        file.write('\n["b.jpg", "e3b0')
    write(tmp_path, "c\n\udcff.jpg", "")
    (tmp_path / "b.jpg").write_text("")
    refuse_to_replace(tmp_path, ["a.jpg", "c\n\udcff.jpg"], [])
    with pytest.raises(InputError, match=r"b\.jpg is there already"):
        refuse_to_replace(tmp_path, ["b.jpg"], [])


def test_what_is_read_is_never_replaced(tmp_path):
    given = tmp_path / "more" / ".." / "results.json"
    (tmp_path / "more").mkdir()
    with pytest.raises(InputError, match=r"results\.json would overwrite a file that is read"):
        refuse_to_replace(tmp_path, ["results.json"], [given])


def test_one_call_at_a_time_writes_into_a_folder(tmp_path):
    out = tmp_path / "a" / "b"
    in_the_way = pytest.raises(InputError, match=r"another call writes into .*b; wait for it")
    with only_writer(out), in_the_way, only_writer(out):
        pass
    assert not (tmp_path / "a").exists()  # nothing was written
    with only_writer(out):
        write(out, "a.jpg", "drawn")
    with only_writer(out):
        refuse_to_replace(out, ["a.jpg"], [])
    assert sorted(path.name for path in out.iterdir()) == [OURS, "a.jpg"]
