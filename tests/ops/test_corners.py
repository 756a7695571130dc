import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cornerjax.ops import decode_corners, gather_cells, keep_peaks, top_cells
from cornerjax.ops.pairs import Corners, pair_corners
from cornerjax.ops.top_k import block_top_k

FILES = ["cornernet", "squeeze", "saccade", "kernel1"]
MAPS = ("tl_heat", "br_heat", "tl_tag", "br_tag", "tl_off", "br_off")


@pytest.mark.parametrize("name", FILES)
def test_boxes_match_the_original(golden, name):
    recorded = golden(f"decode/{name}.npz")
    k, window, num = (int(recorded[f"kw_{key}"]) for key in ("K", "kernel", "num_dets"))
    maps = {key: jnp.asarray(recorded[key].transpose(0, 2, 3, 1)) for key in MAPS}
    options = {"tag_distance": float(recorded["kw_ae_threshold"]), "no_border": bool(recorded.get("kw_no_border"))}
    found = jax.jit(functools.partial(decode_corners, top_k=k, max_pairs=num, window=window, **options))(maps)
    assert found.boxes.shape == (2, num, 4)
    np.testing.assert_array_equal((found.scores > -1).sum(1), recorded["n_valid"])
    for i, n in enumerate(recorded["n_valid"]):
        columns = found.boxes, found.scores[..., None], found.corner_scores, found.classes[..., None]
        # As sets: equal scores may come in another order.
        ours = np.array(sorted(np.concatenate([np.asarray(c[i, :n], np.float32) for c in columns], 1).tolist()))
        np.testing.assert_allclose(ours, sorted(recorded["dets"][i, :n].tolist()), atol=1e-5)
        assert (np.diff(found.scores[i]) <= 0).all()


@pytest.mark.parametrize("name", FILES)
def test_best_corners_match_the_original(golden, name):
    recorded = golden(f"decode/{name}.npz")
    heat = jnp.asarray(recorded["tl_heat"].transpose(0, 2, 3, 1))
    found = top_cells(keep_peaks(heat), int(recorded["kw_K"]))  # recorded with a window of 3 in every file
    ours = np.stack([found.classes, found.y, found.x], -1)
    theirs = np.stack([recorded[f"topk_tl_{key}"] for key in ("clses", "ys", "xs")], -1).astype(int)
    for i in range(len(ours)):
        assert set(map(tuple, ours[i])) == set(map(tuple, theirs[i]))
    np.testing.assert_allclose(jax.nn.sigmoid(found.scores), recorded["topk_tl_scores"], atol=1e-6)


@pytest.mark.parametrize("name", FILES)
def test_peaks_match_the_original(golden, name):
    recorded = golden(f"decode/{name}.npz")
    heat = jnp.asarray(recorded["tl_heat"].transpose(0, 2, 3, 1))
    peaks = jax.nn.sigmoid(keep_peaks(heat))[..., : recorded["nms_tl"].shape[1]]
    np.testing.assert_allclose(peaks, recorded["nms_tl"].transpose(0, 2, 3, 1), atol=1e-6)


def test_equal_neighbours_are_all_peaks_and_borders_do_not_count():
    x = jnp.array([[-5.0, -5, -9], [-9, -9, -8], [-7, -9, -9]])[None, :, :, None]
    np.testing.assert_array_equal(
        jnp.isfinite(keep_peaks(x))[0, :, :, 0], [[True, True, False], [False] * 3, [True, False, False]]
    )
    assert (keep_peaks(x, window=5) > -jnp.inf).sum() == 2
    np.testing.assert_array_equal(keep_peaks(x, window=1), x)
    for window in (0, 2, -1):
        with pytest.raises(ValueError, match=f"odd and positive, got {window}"):
            keep_peaks(x, window=window)


@pytest.mark.parametrize(("shape", "k"), [((2, 64, 64, 30), 20), ((1, 61, 59, 37), 100), ((2, 3, 5, 2), 30)])
def test_top_k_is_that_of_the_whole_row_with_ties_and_minus_infinity(shape, k):
    x = np.round(np.random.default_rng(0).standard_normal(shape), 1).astype(np.float32)
    x[0, :, :, 1:] = -np.inf  # more than a whole block of it
    flat = jnp.asarray(x.reshape(len(x), -1))
    scores, index = jax.jit(functools.partial(block_top_k, k=k))(flat)
    expected_scores, expected_index = jax.lax.top_k(flat, k)
    np.testing.assert_array_equal(scores, expected_scores)
    np.testing.assert_array_equal(index, expected_index)


def test_top_cells_name_their_places():
    x = np.random.default_rng(0).standard_normal((2, 4, 5, 3)).astype(np.float32)
    found = top_cells(jnp.asarray(x), 1000)
    assert found.scores.shape == (2, 60)  # a map has no more
    for b in range(2):
        np.testing.assert_array_equal(x[b, found.y[b], found.x[b], found.classes[b]], found.scores[b])
        np.testing.assert_array_equal(x[b].ravel()[found.place[b]], found.scores[b])
    np.testing.assert_array_equal(found.cells[..., 0], found.x)


def test_gather_reads_x_y_and_stays_inside():
    x = jnp.arange(2 * 3 * 4 * 2, dtype=jnp.float32).reshape(2, 3, 4, 2)
    cells = jnp.array([[[3, 1], [0, 0]], [[-1, 1], [7, 9]]])
    np.testing.assert_array_equal(gather_cells(x, cells), jnp.stack([x[0, [1, 0], [3, 0]], x[1, [1, 2], [0, 3]]]))


def pairs(tl_points, br_points, *, tl_tags=(0.0, 0.0), br_tags=(0.0, 0.0), br_classes=(0, 0), scores=(0.8, 0.4), num=9):
    def corners(points, tags, classes):
        return Corners(*(jnp.asarray([a]) for a in (points, scores, classes, tags)))

    tl, br = corners(tl_points, tl_tags, (0, 0)), corners(br_points, br_tags, br_classes)
    return pair_corners(tl, br, num=num, tag_distance=0.5)


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
