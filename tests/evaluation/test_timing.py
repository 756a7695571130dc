"""What the timing of an evaluation says; how long things take is not asserted."""

import colour_detector
import cv2
import numpy as np
import pytest
from colour_detector import DETECTOR, NAMES, WEIGHTS, draw

from cornerjax.config import Config, Test
from cornerjax.data.records import Record, Source, read_image
from cornerjax.errors import InputError
from cornerjax.evaluation.tables.timing import print_timing
from cornerjax.evaluation.timing import measure, peak_memory
from cornerjax.inference.batching import BatchPredictor

SIZES = [(40, 40), (50, 61), (33, 47), (20, 30), (64, 50)]


@pytest.fixture
def source(tmp_path):
    records = []
    for i, (height, width) in enumerate(SIZES):
        path = tmp_path / f"{i}.png"
        cv2.imwrite(str(path), draw(height, width, (2, 3, 14, 17)))
        records.append(Record(i, path, height, width, np.zeros((0, 4), np.float32), np.zeros(0, np.int32)))
    return Source(records, NAMES, (1, 2), tmp_path)


@pytest.fixture(scope="module")
def procedure():
    return BatchPredictor(DETECTOR, colour_detector.apply, Config(test=Test(batch=2)), NAMES)


def test_every_phase_is_measured(procedure, source, capsys):
    timing = measure(procedure, WEIGHTS, {}, source, images=9)
    assert set(timing.phases) == {"load", "prepare", "network", "decode", "NMS"}
    assert all(ms.median > 0 and ms.mean > 0 for ms in timing.phases.values())
    assert timing.one_by_one == pytest.approx(1000 / sum(ms.mean for ms in timing.phases.values()))
    assert timing.as_it_runs > 0
    assert (timing.images, timing.batch) == (5, 2)
    assert timing.buckets == {"((63, 63),)": 3, "((31, 31),)": 1, "((95, 63),)": 1}
    print_timing(timing)
    printed = capsys.readouterr().out
    for text in ("network", "images/s if one phase waits for the other", "peak memory of the", "3 in ((63, 63),)"):
        assert text in printed


def test_in_phases_it_finds_the_same_boxes(procedure, source):
    seen = []

    def phase(name, step):
        def told(*args):
            seen.append(name)
            return step(*args)

        return told

    image = read_image(source.records[1])
    finder = procedure.procedure
    found = [
        each(WEIGHTS, {}, [each.preprocess(image)], each.bucket(*image.shape[:2]), 1)
        for each in (finder, finder.in_phases(phase))
    ]
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert seen == ["network", "decode", "NMS"]


def test_memory_is_that_of_the_process_where_devices_do_not_say():
    peak, of = peak_memory()
    assert of in ("device", "process")
    assert peak > 10_000_000


def test_no_images_are_refused(procedure, source):
    with pytest.raises(InputError, match="0 images to time; accepted is 1 or more"):
        measure(procedure, WEIGHTS, {}, source, images=0)
