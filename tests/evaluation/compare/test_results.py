"""Mistakes in files that others have written are one sentence each."""

import json
from typing import Any

import pytest

from cornerjax.errors import InputError
from cornerjax.evaluation.compare.results import read_ground_truth, read_results

TRUTH: Any = {
    "images": [{"id": 5}, {"id": 9, "width": 0}],
    "categories": [{"id": 3, "name": "cat"}],
    "annotations": [{"image_id": 5, "category_id": 3, "bbox": [1, 2, 40, 40]}],
}
FOUND: Any = {"image_id": 5, "category_id": 3, "bbox": [1, 2, 40, 40], "score": 0.9}


@pytest.fixture
def written(tmp_path):
    """written("a.json", content) -> its path; a text is written as it is."""

    def write(name, content):
        (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
        return tmp_path / name

    return write


def test_files_without_images_and_with_the_least_there_must_be(written):
    file = written("gt.json", TRUTH)
    truth = read_ground_truth(file)
    assert truth == TRUTH
    assert read_results(written("boxes.json", [FOUND]), truth, file) == [FOUND]
    assert read_results(written("boxes.json", []), truth, file) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", r"boxes\.json is not JSON"),
        ({"annotations": []}, r"boxes\.json is no list; expected COCO's results"),
        ([FOUND, 7], r"boxes\.json: entry 1 is 7; expected {"),
        ([FOUND | {"image_id": 6}], r"entry 0 has image_id 6; expected one of the ids of .*gt\.json"),
        ([FOUND | {"image_id": "5"}], r"entry 0 has image_id '5'; expected"),
        ([FOUND, FOUND | {"category_id": 1}], r"entry 1 has category_id 1; expected one of the ids of .*gt\.json"),
        ([FOUND | {"bbox": [1, 2, 3]}], r"entry 0 has bbox \[1, 2, 3\]; expected four finite numbers"),
        ([FOUND | {"bbox": [1, 2, -3, 4]}], r"no negative size"),
        ([FOUND | {"score": float("nan")}], r"boxes\.json: entry 0 has score nan; expected a finite number"),
        ([{k: v for k, v in FOUND.items() if k != "score"}], r"entry 0 has score None"),
    ],
)
def test_a_mistake_in_results_is_named(written, content, message):
    file = written("gt.json", TRUTH)
    with pytest.raises(InputError, match=message):
        read_results(written("boxes.json", content), TRUTH, file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": []}, r'gt\.json: "images" is empty'),
        ({"images": [{"id": 5}, {"id": 5}]}, r'two entries of "images" have the id 5'),
        ({"images": [{"id": "5"}]}, r"needs an integer id"),
        ({"categories": [{"id": 3}]}, r"a category also a name"),
        ({"annotations": [{"image_id": 1, "category_id": 3}]}, r'annotation 0 has image_id 1; .*"images"'),
        ({"annotations": [{"image_id": 5, "category_id": 3}]}, r"annotation 0 has bbox None"),
        ({"annotations": None}, r'has no list "annotations"'),
    ],
)
def test_a_mistake_in_the_ground_truth_is_named(written, change, message):
    with pytest.raises(InputError, match=message):
        read_ground_truth(written("gt.json", TRUTH | change))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*none\.json: No such file"):
        read_results(tmp_path / "none.json", TRUTH, tmp_path / "gt.json")
