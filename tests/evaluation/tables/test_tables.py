"""What an evaluation prints."""

import json
from pathlib import Path

import pytest

from cornerjax.evaluation.compare.analysis import analyse
from cornerjax.evaluation.compare.entries import Detected, GroundTruth
from cornerjax.evaluation.tables.analysis import print_tables

CASES = Path(__file__).parents[2] / "golden" / "metrics"


@pytest.fixture(scope="module")
def analysis():
    truth, results = (json.loads((CASES / "voc_sample85" / f"{name}.json").read_text()) for name in ("gt", "dets"))
    return analyse(truth, results, [image["id"] for image in truth["images"]], voc=True)


def test_tables_of_many_classes_fit_a_screen(analysis, capsys):
    print_tables(analysis)
    printed = capsys.readouterr().out
    headings = ("AP small", "AR 100", "FD 25", "localisation", "best F1 at", "mAP", "sofa")
    for text in (*headings, "352", "0.253 or more, where F1", "0.310", "0.317"):
        assert text in printed
    assert "lamp" not in printed  # nothing to be found
    assert max(map(len, printed.splitlines())) <= 80
    assert len(printed.splitlines()) < 90


def test_masks_that_cannot_be_compared_are_spoken_of(analysis, capsys):
    print_tables(analysis)
    assert "mask" not in capsys.readouterr().out  # there are none
    box, outline = [1.0, 1.0, 8.0, 8.0], [[1, 1, 9, 1, 9, 9, 1, 9]]
    truth = GroundTruth(
        images=[{"id": 1, "height": 20, "width": 20}],
        categories=[{"id": 1, "name": "cat"}],
        annotations=[{"image_id": 1, "category_id": 1, "bbox": box}],
    )
    found = Detected(image_id=1, category_id=1, bbox=box, score=1, segmentation=outline)
    print_tables(analyse(truth, [found], [1]))
    assert "no AP of masks: no true box has a segmentation\n" in capsys.readouterr().out
