"""What a run was trained on is known to its evaluations: across moved data, resumed runs and fine-tuning."""

from pathlib import Path

import numpy as np
import pytest

from cornerjax.data.records import Record, Source
from cornerjax.errors import InputError, RunError
from cornerjax.evaluation.trained_on import hashes, overlap, record, sha256, warning


def image(image_id, *, box=(1, 2, 3, 4), label=0, folder="images", name="", height=20, width=30):
    path = Path(folder) / (name or f"{image_id}.jpg")
    boxes, classes = np.array([box], np.float32), np.array([label], np.int32)
    return Record(image_id, path, height, width, boxes, classes)


def source(images):
    return Source(images, ("cat", "dog"), (1, 2), Path("instances.json"))


TRAIN = source([image(i) for i in range(1, 11)])


def test_images_trained_on_are_counted(tmp_path):
    assert overlap(tmp_path, TRAIN) == 0
    assert warning(tmp_path, TRAIN) == ""
    record(tmp_path, TRAIN)
    mixed = source([image(i) for i in range(8, 15)])
    assert overlap(tmp_path, mixed) == 3
    assert warning(tmp_path, mixed) == (
        "warning: 3 of the 7 images evaluated were trained on; their AP says nothing about new images"
    )
    assert warning(tmp_path, source([image(11)])) == ""


@pytest.mark.parametrize(
    "other", [{"box": (1, 2, 3, 5)}, {"label": 1}, {"name": "x.jpg"}, {"height": 21}, {"width": 31}], ids=str
)
def test_another_set_that_counts_from_one_is_another(tmp_path, other):
    record(tmp_path, TRAIN)
    assert overlap(tmp_path, source([image(i, **other) for i in range(1, 11)])) == 0


def test_a_set_that_was_moved_or_sorted_is_the_same(tmp_path):
    record(tmp_path, TRAIN)
    moved = source([image(i, folder="/elsewhere") for i in range(10, 0, -1)])
    assert overlap(tmp_path, moved) == 10
    assert sha256(moved) == sha256(TRAIN)
    assert sha256(source(TRAIN.records[1:])) != sha256(TRAIN)


def test_fine_tuning_keeps_what_its_first_weights_were_trained_on(tmp_path):
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    for folder in (first, second, third):
        folder.mkdir()
    record(first, TRAIN)
    record(second, source([image(20)]), init=first)
    record(third, source([image(30)]), init=second)
    assert overlap(third, source([image(i) for i in (1, 2, 20, 30, 40)])) == 4
    record(third, source([image(30)]))  # resumed, which has no init
    assert overlap(third, TRAIN) == 10
    record(first, source([image(40)]), init=tmp_path / "converted")  # nothing is known of it
    assert overlap(first, source([image(40)])) == 1


def test_a_resumed_run_leaves_the_file_as_it_is(tmp_path):
    record(tmp_path, TRAIN)
    before = (tmp_path / "trained_on.npz").stat()
    record(tmp_path, TRAIN)
    after = (tmp_path / "trained_on.npz").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert [file.name for file in tmp_path.iterdir()] == ["trained_on.npz"]


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 cut short"])
def test_a_damaged_file_is_one_sentence(tmp_path, content):
    (tmp_path / "trained_on.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"trained_on\.npz is damaged; expected the hashes that training wrote$"):
        overlap(tmp_path, TRAIN)


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "run").write_text("")  # permissions would not stop root
    with pytest.raises(RunError, match=rf"^cannot write {tmp_path}/run/trained_on\.npz: Not a directory$"):
        record(tmp_path / "run", TRAIN)


def test_the_hashes_are_the_same_on_every_machine_and_in_every_version():
    assert hashes(source([image(1)])).tolist() == [2479174523143614272]
