"""Corners joined to boxes, against the originals' decoding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cornerjax.detectors.tags import decode_corners, pair_corners
from cornerjax.ops.keypoints import Peaks

FILES = ["cornernet", "squeeze", "saccade", "kernel1"]
MAPS = ("tl_heat", "br_heat", "tl_tag", "br_tag", "tl_off", "br_off")


@pytest.mark.parametrize("name", FILES)
def test_boxes_match_the_original(golden, name):
    recorded = golden(f"decode/{name}.npz")
    k, window, num = (int(recorded[f"kw_{key}"]) for key in ("K", "kernel", "num_dets"))
    maps = {key: jnp.asarray(recorded[key].transpose(0, 2, 3, 1)) for key in MAPS}
    decode = functools.partial(
        decode_corners,
        top_k=k,
        max_pairs=num,
        window=window,
        tag_distance=float(recorded["kw_ae_threshold"]),
        no_border=bool(recorded.get("kw_no_border")),
    )
    found = jax.jit(decode)(maps)
    assert found.boxes.shape == (2, num, 4)
    np.testing.assert_array_equal((found.scores > -1).sum(1), recorded["n_valid"])
    for i, n in enumerate(recorded["n_valid"]):
        columns = found.boxes, found.scores[..., None], found.extra["corner_scores"], found.classes[..., None]
        # As sets: equal scores may come in another order.
        ours = np.array(sorted(np.concatenate([np.asarray(c[i, :n], np.float32) for c in columns], 1).tolist()))
        np.testing.assert_allclose(ours, sorted(recorded["dets"][i, :n].tolist()), atol=1e-5)
        assert (np.diff(found.scores[i]) <= 0).all()


def pairs(tl_points, br_points, *, tl_tags=(0.0, 0.0), br_tags=(0.0, 0.0), br_classes=(0, 0), scores=(0.8, 0.4), num=9):
    def corners(points, classes):
        cells = np.zeros((2, 2), np.int32)
        return Peaks(*(jnp.asarray([a]) for a in (points, scores, classes, cells)))

    apart = jnp.abs(jnp.array([tl_tags])[:, :, None] - jnp.array([br_tags])[:, None]) > 0.5
    return pair_corners(corners(tl_points, (0, 0)), corners(br_points, br_classes), apart, num=num)


def test_pairs_are_rejected_for_the_right_reasons():
    tl, br = [[1.0, 1.0], [2.0, 2.0]], [[4.0, 4.0], [2.0, 5.0]]
    every = pairs(tl, br)
    np.testing.assert_allclose(every.scores[0], [0.8, 0.6, 0.6, 0.4], rtol=1e-6)
    np.testing.assert_array_equal(every.boxes[0, 0], [1, 1, 4, 4])

    def kept(**change):
        return int((pairs(tl, br, **change).scores >= 0).sum())

    assert kept() == 4  # x 2 to x 2 has no width, and stands
    assert kept(br_classes=(0, 1)) == 2
    assert kept(br_tags=(0.5, 0.51)) == 2  # a difference of exactly the limit stands
    assert kept(scores=(0.8, 0.0)) == 4
    assert kept(scores=(0.8, -1.0)) == 1  # below 0: no corner
    assert int((pairs(tl, [[4.0, 4.0], [1.99, 5.0]]).scores >= 0).sum()) == 3
    assert int((pairs(tl, [[4.0, 4.0], [5.0, 1.99]]).scores >= 0).sum()) == 3
    assert pairs(tl, br, num=3).scores.shape == (1, 3)


def two_peaks(tl, br):
    """Maps of 4 x 4 cells with one peak each, at tl and br, given as x, y; offsets are half a cell."""
    heat = jnp.full((1, 4, 4, 1), -9.0)
    maps = {f"{side}_heat": heat.at[0, y, x, 0].set(3.0) for side, (x, y) in (("tl", tl), ("br", br))}
    for side in ("tl", "br"):
        maps |= {f"{side}_tag": jnp.zeros((1, 4, 4, 1)), f"{side}_off": jnp.full((1, 4, 4, 2), 0.5)}
    return maps


def test_a_map_without_peaks_for_all_places_gives_no_false_boxes():
    found = decode_corners(two_peaks((1, 1), (2, 2)), top_k=8, max_pairs=10, window=5)
    assert (found.scores >= 0).sum() == 1
    np.testing.assert_array_equal(found.boxes[0, 0], [1.5, 1.5, 2.5, 2.5])


def test_non_peaks_fill_up_with_score_0_when_asked_for():
    found = decode_corners(two_peaks((1, 1), (2, 2)), top_k=16, max_pairs=256, window=5, non_peaks=True)
    score = jax.nn.sigmoid(3.0)
    np.testing.assert_array_equal(found.boxes[0, 0], [1.5, 1.5, 2.5, 2.5])
    assert (found.scores >= 0).sum() == 100  # of x1 <= x2 there are 1 + 2 + 3 + 4, and as many of y
    # The peaks with each other; the top-left one with the 8 other cells it can reach, the bottom-right one likewise.
    np.testing.assert_allclose(found.scores[0, :18], [score] + [score / 2] * 16 + [0])
    assert not found.scores[0, 17:100].any()


@pytest.mark.parametrize(
    ("tl", "br", "rejected"),
    [
        ((1, 1), (2, 2), False),
        ((0, 1), (2, 2), True),
        ((1, 0), (2, 2), True),
        ((1, 1), (3, 2), True),
        ((1, 1), (2, 3), True),
    ],
)
def test_corners_on_the_border_make_no_boxes_when_asked_for(tl, br, rejected):
    find = functools.partial(decode_corners, two_peaks(tl, br), top_k=8, max_pairs=10, window=7)
    assert bool((find(no_border=True).scores < 0).all()) == rejected
    assert (find().scores >= 0).sum() == 1


def test_bfloat16_maps_give_float32_boxes():
    shapes = {"heat": 2, "tag": 1, "off": 2}
    maps = {f"{s}_{m}": jnp.zeros((1, 4, 4, c), jnp.bfloat16) for s in ("tl", "br") for m, c in shapes.items()}
    found = decode_corners(maps, top_k=4, max_pairs=5)
    assert {found.boxes.dtype, found.scores.dtype} == {np.dtype("float32")}
