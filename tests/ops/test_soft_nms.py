import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cornerjax.ops import soft_nms, soft_nms_in_place, soft_nms_merge

METHODS = {"m0": "hard", "m1": "linear", "m2": "gaussian"}
SETTINGS = {
    "a": {"sigma": 0.5, "iou_threshold": 0.5, "floor": 0.001, "inclusive": True},
    "b": {"sigma": 0.7, "iou_threshold": 0.3, "floor": 0.05, "inclusive": True},
}
EVERY_METHOD = pytest.mark.parametrize("method", METHODS)
EVERY_SETTING = pytest.mark.parametrize("setting", SETTINGS)
INPUTS = 5  # of 80, 24, 1, 0 and 120 boxes, in no order


@functools.cache
def compiled(function, **options):
    return jax.jit(functools.partial(function, **options))


def padded(rows):
    """All inputs in one shape, so that they compile once; boxes with a negative score take no part."""
    return np.concatenate([rows, np.full((120 - len(rows), 7), -1, np.float32)])


def columns(rows) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Boxes, scores, classes: all of one class."""
    return jnp.asarray(rows[:, :4]), jnp.asarray(rows[:, 4]), jnp.zeros(len(rows), jnp.int32)


def corner_scores(rows):
    return jnp.asarray(rows[:, 5:7])


@EVERY_METHOD
@EVERY_SETTING
def test_kept_boxes_match_the_original(golden, method, setting):
    recorded = golden("post/soft_nms.npz")
    for i in range(INPUTS):
        found = compiled(soft_nms, method=METHODS[method], **SETTINGS[setting])(*columns(padded(recorded[f"in{i}"])))
        n = int(recorded[f"soft{i}_{method}_{setting}_nkeep"])
        rows = recorded[f"soft{i}_{method}_{setting}"][:n]
        np.testing.assert_allclose(found.boxes[:n], rows[:, :4])
        np.testing.assert_allclose(found.scores[:n], rows[:, 4], atol=1e-6)
        np.testing.assert_array_equal(found.scores[n:], -1)
        np.testing.assert_array_equal(recorded[f"in{i}"][found.source[:n], :4], rows[:, :4])


@EVERY_METHOD
@EVERY_SETTING
def test_the_whole_buffer_matches_the_original_in_place(golden, method, setting):
    recorded = golden("post/soft_nms.npz")
    run = compiled(soft_nms_in_place, method=METHODS[method], **SETTINGS[setting])
    for i in range(INPUTS):
        rows = recorded[f"in{i}"]
        buffer = run(*columns(padded(rows)), corner_scores(padded(rows)))
        expected = recorded[f"soft{i}_{method}_{setting}"]
        np.testing.assert_allclose(buffer.boxes[: len(rows)], expected[:, :4], atol=1e-6)
        np.testing.assert_allclose(buffer.scores[: len(rows)], expected[:, 4], atol=1e-6)
        np.testing.assert_array_equal(buffer.scores[len(rows) :], -1)
        assert np.flatnonzero(buffer.kept).tolist() == list(range(int(recorded[f"soft{i}_{method}_{setting}_nkeep"])))


@EVERY_METHOD
def test_the_whole_buffer_matches_extremenets_original_in_place(golden, method):
    """Its extreme points move with the boxes. A class, the same in all rows there, stays; here every row has its own.

    The recorded rows have several classes, between which the original, given one class at a time, does not tell.
    """
    recorded = golden("post/extremenet.npz")
    rows, expected = recorded["nms_in"], recorded[f"nms_{method}"]
    buffer = compiled(soft_nms_in_place, method=METHODS[method])(*columns(rows), corner_scores(rows))
    np.testing.assert_array_equal(buffer.boxes, expected[:, :4])
    np.testing.assert_allclose(buffer.scores, expected[:, 4], atol=1e-6)
    np.testing.assert_array_equal(rows[buffer.source, 5:13], expected[:, 5:13])
    np.testing.assert_array_equal(rows[:, 13], expected[:, 13])
    assert np.flatnonzero(buffer.kept).tolist() == list(range(int(recorded[f"nms_{method}_nkeep"])))


@EVERY_METHOD
def test_the_merged_buffer_matches_the_original_in_place(golden, method):
    recorded = golden("post/soft_nms.npz")
    for i in range(INPUTS):
        rows, exponent = recorded[f"in{i}"], int(recorded[f"merge{i}_weight_exp"])
        run = compiled(soft_nms_in_place, method=METHODS[method], merge_exp=exponent)
        buffer = run(*columns(padded(rows)), corner_scores(padded(rows)))
        assert int(buffer.kept.sum()) == int(recorded[f"merge{i}_{method}_nkeep"])
        expected = recorded[f"merge{i}_{method}"]
        np.testing.assert_allclose(buffer.boxes[: len(rows)], expected[:, :4], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(buffer.scores[: len(rows)], expected[:, 4], rtol=1e-5, atol=1e-6)


def test_in_place_classes_do_not_touch_each_other(golden):
    """Each class's rows are those of the class alone, one class after the other, in a batch too."""
    recorded = golden("post/soft_nms.npz")
    rows = np.concatenate([recorded[f"in{i}"] for i in (0, 1, 4)])
    classes = np.repeat([7, 0, 3], [80, 24, 120])
    mixed = np.random.default_rng(0).permutation(len(rows))
    given = [jnp.asarray(part[mixed])[None] for part in (rows[:, :4], rows[:, 4], classes, rows[:, 5:7])]
    buffer = jax.jit(jax.vmap(functools.partial(soft_nms_in_place, floor=0.05)))(*given)
    one = compiled(soft_nms_in_place, floor=0.05)
    start = 0
    for label in (0, 3, 7):
        of_class = rows[mixed][classes[mixed] == label]
        alone = one(*columns(padded(of_class)), corner_scores(padded(of_class)))
        here, own = slice(start, start := start + len(of_class)), slice(len(of_class))
        np.testing.assert_array_equal(buffer.classes[0, here], label)
        np.testing.assert_allclose(buffer.boxes[0, here], alone.boxes[own])
        np.testing.assert_allclose(buffer.scores[0, here], alone.scores[own], rtol=1e-6)
        np.testing.assert_array_equal(buffer.kept[0, here], alone.kept[own])


@EVERY_METHOD
def test_in_place_every_row_says_where_it_came_from(golden, method):
    rows = golden("post/soft_nms.npz")["in4"]
    buffer = compiled(soft_nms_in_place, method=METHODS[method], floor=0.05)(*columns(rows), corner_scores(rows))
    assert len(set(buffer.source.tolist())) < len(rows)  # left-overs are copies
    np.testing.assert_array_equal(rows[buffer.source, :4], buffer.boxes)


def test_in_place_merging_can_keep_each_box_its_own_weights(golden):
    rows, exponent = golden("post/soft_nms.npz")["in0"], 4
    buffer = soft_nms_in_place(*columns(rows), corner_scores(rows), merge_exp=exponent, misplaced_weights=False)
    expected = merged_by_hand(rows, exponent)
    np.testing.assert_allclose(buffer.boxes[buffer.kept], expected[:, :4], rtol=1e-4)
    np.testing.assert_allclose(buffer.scores[buffer.kept], expected[:, 4], rtol=1e-4)


@EVERY_METHOD
@pytest.mark.parametrize("merge_exp", [None, 4])
def test_in_place_the_best_rows_are_known_long_before_all_are(golden, method, merge_exp):
    """Left-overs among them, and every row that ties with the last."""
    rows = np.concatenate([golden("post/soft_nms.npz")[f"in{i}"] for i in (0, 1, 4)])
    rows[:, 4] = np.round(rows[:, 4], 1)
    classes = jnp.asarray(np.random.default_rng(0).integers(0, 3, len(rows)))
    run = compiled(soft_nms_in_place, method=METHODS[method], merge_exp=merge_exp, floor=0.05)
    some = compiled(soft_nms_in_place, method=METHODS[method], merge_exp=merge_exp, floor=0.05, num=20)
    given = (*columns(rows)[:2], classes, corner_scores(rows))
    every, few = (
        np.column_stack([buffer.scores, buffer.boxes, buffer.classes]) for buffer in (run(*given), some(*given))
    )
    last = np.sort(every[:, 0])[-20]
    best = every[every[:, 0] >= last]
    assert 20 <= len(best) < len(rows) / 2
    np.testing.assert_array_equal(few[few[:, 0] >= last], best)
    assert int(some(*given).kept.sum()) < int(run(*given).kept.sum()) or method == "m0"


def test_no_boxes_at_all():
    nothing = jnp.zeros((0, 7))
    assert soft_nms(*columns(nothing)).boxes.shape == (0, 4)
    assert soft_nms_in_place(*columns(nothing), corner_scores(nothing)).boxes.shape == (0, 4)


def merged_by_hand(rows, exponent, pixel=1):
    """Gaussian merging with default settings on a list, box by box; corner scores stay with their box."""
    left, result = [row.astype(np.float64) for row in rows], []
    while left:
        top = left.pop(int(np.argmax([row[4] for row in left])))
        sums, weights = top[:4] * top[[5, 5, 6, 6]], top[[5, 5, 6, 6]]
        after = []
        for row in left:
            w, h = np.minimum(top[2:4], row[2:4]) - np.maximum(top[:2], row[:2]) + pixel
            if w > 0 and h > 0:
                area = sum((b[2] - b[0] + pixel) * (b[3] - b[1] + pixel) for b in (top, row)) - w * h
                factor = np.exp(-((w * h / area) ** 2) / 0.5)
                share = (1 - factor) ** exponent * row[[5, 5, 6, 6]]
                sums, weights = sums + share * row[:4], weights + share
                row = np.concatenate([row[:4], [row[4] * factor], row[5:]])
                if row[4] < 0.001:
                    continue
            after.append(row)
        result.append([*(sums / weights), top[4]])
        left = after
    return np.array(result)


@pytest.mark.parametrize("inclusive", [False, True])
@pytest.mark.parametrize("i", [0, 4])
def test_merging_matches_a_list_of_boxes(golden, i, inclusive):
    rows, exponent = golden("post/soft_nms.npz")[f"in{i}"], 4
    merge = compiled(soft_nms_merge, merge_exp=exponent, inclusive=inclusive)
    found = merge(*columns(rows), corner_scores(rows))
    expected = merged_by_hand(rows, exponent, pixel=int(inclusive))
    n = len(expected)
    np.testing.assert_allclose(found.boxes[:n], expected[:, :4], rtol=1e-4)
    np.testing.assert_allclose(found.scores[:n], expected[:, 4], rtol=1e-4)
    np.testing.assert_array_equal(found.scores[n:], -1)
    plain = compiled(soft_nms, inclusive=inclusive)(*columns(rows))
    np.testing.assert_array_equal(found.source, plain.source)
    assert np.abs(found.boxes - plain.boxes)[:n].max() > 1  # it did move boxes


@functools.cache
def batch():
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 60, (3, 40, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 40, (3, 40, 2))], -1).astype(np.float32)
    scores = rng.uniform(-0.2, 1, (3, 40)).astype(np.float32)  # negative ones take no part
    return jnp.asarray(boxes), jnp.asarray(scores), jnp.asarray(rng.integers(0, 3, (3, 40)))


def test_classes_and_images_do_not_touch_each_other():
    boxes, scores, classes = batch()
    found = jax.jit(jax.vmap(soft_nms))(boxes, scores, classes)
    alone = compiled(soft_nms)
    for i in range(3):
        expected = []
        for c in range(3):
            of_class = jnp.where(classes[i] == c, scores[i], -1)
            one = alone(boxes[i], of_class, classes[i])
            expected += [(-float(s), int(j)) for s, j in zip(one.scores, one.source, strict=True) if s >= 0]
        ours = [(-float(s), int(j)) for s, j in zip(found.scores[i], found.source[i], strict=True) if s >= 0]
        assert ours == sorted(expected)
        assert np.all(scores[i][found.source[i]] >= 0)


def test_num_takes_the_best_ones_only():
    one = [a[0] for a in batch()]
    every, few = compiled(soft_nms)(*one), compiled(soft_nms, num=7)(*one)
    for a, b in zip(every, few, strict=True):
        np.testing.assert_array_equal(a[:7], b)


def test_only_boxes_that_touch_a_better_one_are_dropped():
    boxes = jnp.array([[0.0, 0, 9, 9], [0, 0, 9, 8], [50, 50, 59, 59], [10, 0, 19, 9], [11, 0, 19, 9]])
    scores = jnp.array([0.9, 0.0011, 0.0001, 0.0001, jnp.nan])
    found = compiled(soft_nms)(boxes, scores, jnp.zeros(5, jnp.int32))
    # 1 overlaps 0 and falls below the floor; 2 is far away and 3 only adjacent, they stay; nan takes no part.
    assert found.source[found.scores >= 0].tolist() == [0, 2, 3]


def test_a_method_that_there_is_not_is_refused():
    one = [a[0] for a in batch()]
    with pytest.raises(ValueError, match="'gauss'; there are: hard, linear, gaussian"):
        soft_nms(*one, method="gauss")
