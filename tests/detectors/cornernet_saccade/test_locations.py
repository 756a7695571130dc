"""Places against the recorded numbers of CornerNet-Saccade, bit for bit: a last digit decides about a whole crop."""

import jax.numpy as jnp
import numpy as np
import pytest

from cornerjax.detectors.cornernet_saccade.locations import attention_locations, box_locations, choose_locations
from cornerjax.ops.peaks import keep_peaks

STRIDES, ZOOMS = (16, 8, 4), (1.0, 2.0, 4.0)


@pytest.fixture(scope="module")
def recorded(golden):
    return golden("post/saccade.npz")


def test_attention_peaks_match_the_original(recorded):
    for i in range(3):
        peaks = keep_peaks(jnp.asarray(recorded[f"att_in{i}"].transpose(0, 2, 3, 1)))
        finite = np.where(np.isfinite(peaks), peaks, 0)
        np.testing.assert_array_equal(finite.transpose(0, 3, 1, 2), recorded[f"att_nms{i}"])


@pytest.mark.parametrize("case", range(4))
def test_places_of_attention_match_the_original(recorded, case):
    skip_same, threshold, height, width = recorded[f"decatt{case}_args"].tolist()
    found = attention_locations(
        [recorded[f"att_nms{i}"][:, 0] for i in range(3)],
        threshold=threshold,
        strides=STRIDES,
        zooms=ZOOMS,
        scales=recorded[f"decatt{case}_scales"],
        offsets=recorded["decatt_offsets"],
        height=int(height),
        width=int(width),
        skip_same=bool(skip_same),
    )
    np.testing.assert_array_equal(found, recorded[f"decatt{case}_out_f64"])


@pytest.mark.parametrize(
    ("limit", "expected"), [({}, [1.5, 3]), ({"max_scale": 2.0}, [1.5]), ({"max_view_scale": 1.4}, [])]
)
def test_attention_is_not_followed_beyond_the_limits(limit, expected):
    maps = [np.ones((1, 1, 1), np.float32)] * 3
    found = attention_locations(
        maps,
        threshold=0.3,
        strides=STRIDES,
        zooms=ZOOMS,
        scales=np.array([1.5]),
        offsets=np.zeros((1, 2), np.int32),
        height=9,
        width=9,
        **limit,
    )
    assert found[:, 2].tolist() == expected
    assert found.shape[1] == 4


def test_places_outside_the_image_are_left_out():
    attention = np.ones((1, 3, 4), np.float32)
    found = attention_locations(
        [attention],
        threshold=0.3,
        strides=[16],
        zooms=[1.0],
        scales=np.array([2.0]),
        offsets=np.array([[-1, -8]], np.int32),
        height=15,
        width=16,
    )
    np.testing.assert_array_equal(found[:, :2], [[7, 0], [7, 8]])  # not -1 and 15, -8 and 16


def test_places_of_boxes_match_the_original(recorded):
    found = box_locations(recorded["ref_in"][:, :4], recorded["ref_in"][:, 4])
    np.testing.assert_array_equal(found, recorded["ref_out"])


def test_a_point_is_no_place():
    boxes = np.array([[5, 5, 5, 5], [5, 5, 5, 8]], np.float32)
    np.testing.assert_array_equal(box_locations(boxes, np.ones(2, np.float32)), [[6.5, 5, 8, 1]])


@pytest.mark.parametrize(
    ("given", "apart_px", "expected"),
    [("locnms", 16.0, "locnms16"), ("locnms_uniq", 16.0, "locnms_uniq16"), ("locnms_uniq", 15.0, "locnms_uniq15")],
)
def test_chosen_places_match_the_original(recorded, given, apart_px, expected):
    locations, expected = recorded[f"{given}_in_f64"], recorded[f"{expected}_out_f64"]
    chosen = choose_locations(locations, apart_px=apart_px, row_or_column=True)
    np.testing.assert_array_equal(chosen, expected)
    first = choose_locations(locations, apart_px=apart_px, row_or_column=True, num=7)
    np.testing.assert_array_equal(first, expected[:7])


def test_no_places_are_no_choice(recorded):
    chosen = choose_locations(np.zeros((0, 4)), row_or_column=True)
    assert chosen.shape == recorded["locnms_empty_out"].shape
    assert choose_locations(np.ones((3, 4)), num=0).shape == (0, 4)


def test_places_on_one_row_are_two_unless_asked_for():
    best, same_row, near = [50, 50, 2, 0.9], [50, 90, 2, 0.8], [58, 58, 2, 0.7]
    locations = np.array([near, best, same_row])
    np.testing.assert_array_equal(choose_locations(locations), [best, same_row])
    np.testing.assert_array_equal(choose_locations(locations, row_or_column=True), [best])
    other_scale = np.array([best, [50, 50, 1.6, 0.8], [50, 50, 2.6, 0.7]])  # ratios 1.25 and 0.77
    np.testing.assert_array_equal(choose_locations(other_scale), other_scale)


@pytest.mark.parametrize(("run", "stage"), [("one", 0), ("two", 0), ("two", 1)])
def test_the_next_places_of_a_whole_image_match_the_original(golden, run, stage):
    recorded = golden("e2e/saccade_stages.npz")
    crops, offsets, expected, rows = (
        recorded[f"{run}.{name}"]
        for name in (f"locations.{stage}_f64", f"offsets.{stage}", f"locations.{stage + 1}_f64", f"raw_dets.{stage}")
    )
    scales = crops[:, 2]
    boxes = rows[..., :4] / np.float32(64 / 255) / scales.astype(np.float32)[:, None, None]
    boxes = (boxes + offsets[:, None, [1, 0, 1, 0]]).reshape(-1, 4)
    of_attention = attention_locations(
        [recorded[f"{run}.att_after_nms.{stage}.{i}"][:, 0] for i in range(3)],
        threshold=0.3,
        strides=STRIDES,
        zooms=ZOOMS,
        scales=scales,
        offsets=offsets,
        height=240,
        width=320,
        skip_same=stage > 0,
    )
    every = np.concatenate([of_attention, box_locations(boxes, rows[..., 4].ravel())])
    np.testing.assert_array_equal(choose_locations(every, row_or_column=True, num=len(expected)), expected)
