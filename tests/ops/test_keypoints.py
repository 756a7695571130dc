import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cornerjax.ops import gather_cells, keep_peaks, top_cells
from cornerjax.ops.keypoints import find_keypoints
from cornerjax.ops.top_k import block_top_k

FILES = ["cornernet", "squeeze", "saccade", "kernel1"]


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


@pytest.mark.parametrize(("non_peaks", "others"), [(False, -1), (True, 0)])
def test_points_of_peaks_with_and_without_offsets(non_peaks, others):
    heat = jnp.full((1, 4, 5, 1), -9.0).at[0, 1, 3, 0].set(3.0)
    offsets = jnp.full((1, 4, 5, 2), 0.25)
    found = find_keypoints(heat, offsets, top_k=7, window=7, non_peaks=non_peaks)
    np.testing.assert_array_equal(found.points[0, 0], [3.25, 1.25])
    assert (int(found.classes[0, 0]), found.cells[0, 0].tolist()) == (0, [3, 1])
    np.testing.assert_allclose(found.scores[0, :1], jax.nn.sigmoid(3.0))
    assert found.scores[0, -1] == others
    plain = find_keypoints(heat, None, top_k=7, window=7)
    np.testing.assert_array_equal(plain.points[0, 0], [3, 1])


@pytest.mark.parametrize(("rounded", "count"), [(False, 1), (True, 2)])
def test_neighbours_whose_scores_are_equal_in_float32(rounded, count):
    heat = jnp.full((1, 4, 5, 1), -9.0).at[0, 1, 2:4, 0].set(jnp.array([18.0, 20.0]))
    found = find_keypoints(heat, None, top_k=20, rounded=rounded)
    assert int((found.scores == 1).sum()) == count
