"""The grouping of extreme points against all quadruples, one by one."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cornerjax.ops.quadruples import Points, all_scores, group_as_pytorch, group_quadruples

SIDE = 6


def all_quadruples(points, heat, *, num, floor, centre_floor):
    """Every quadruple, in the order topmost, bottommost, leftmost, rightmost point; of one image, in NumPy."""
    (top, left, bottom, right), sigmoid = points, np.asarray(jax.nn.sigmoid(heat))
    scores = []
    for i, k, j, m in itertools.product(*(range(len(kind.scores)) for kind in (top, bottom, left, right))):
        four = [(top, i), (left, j), (bottom, k), (right, m)]
        classes = {int(kind.classes[at]) for kind, at in four}
        xs, ys = ([int(kind.cells[at, axis]) for kind, at in four] for axis in (0, 1))
        values = [np.float32(kind.scores[at]) for kind, at in four]
        centre = sigmoid[(ys[0] + ys[2]) // 2, (xs[1] + xs[3]) // 2, min(classes)]
        sound = len(classes) == 1 and ys[0] == min(ys) and ys[2] == max(ys) and xs[1] == min(xs) and xs[3] == max(xs)
        sound = sound and bool(min(values) >= np.float32(floor) and centre >= np.float32(centre_floor))
        total = ((values[0] + values[1]) + values[2]) + values[3] + np.float32(2) * centre
        scores.append((total if sound and total > 0 else np.float32(-6), (i, j, k, m)))
    scores = [(total / np.float32(6), four) for total, four in scores]
    best = sorted(scores, key=lambda one: -one[0])[:num]  # stable
    best += [(np.float32(-1), (0, 0, 0, 0))] * (num - len(best))
    return np.array([max(s, np.float32(-1)) for s, _ in best]), np.array(
        [p if s > 0 else (0, 0, 0, 0) for s, p in best]
    )


def drawn(seed, k, classes, levels):
    """Points and a map with few different scores, so that many are equal, and thresholds are met exactly."""
    rng = np.random.default_rng(seed)

    def kind():
        scores = np.sort(rng.integers(0, levels + 1, k) / levels)[::-1].astype(np.float32)
        cells, labels = rng.integers(0, SIDE, (k, 2)), rng.integers(0, classes, k)
        return Points(jnp.asarray(cells, jnp.int32), jnp.asarray(scores), jnp.asarray(labels, jnp.int32))

    heat = rng.integers(-2, 3, (SIDE, SIDE, classes)).astype(np.float32)
    return tuple(kind() for _ in range(4)), heat


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    k=st.sampled_from([1, 2, 6]),
    classes=st.sampled_from([1, 3, 80]),
    levels=st.sampled_from([2, 10, 1000]),
    block=st.sampled_from([1, 100, 10**6]),
)
def test_the_best_are_those_of_all_quadruples(seed, k, classes, levels, block):
    """To the bit, and in their order: ties, thresholds met exactly, blocks of any size."""
    points, heat = drawn(seed, k, classes, levels)
    floors = {"floor": 0.5, "centre_floor": float(jax.nn.sigmoid(0.0))}
    scores, places = all_quadruples(points, heat, num=20, **floors)
    batch = jax.tree.map(lambda x: jnp.asarray(x)[None], (points, heat))
    found = jax.jit(lambda points, heat: group_quadruples(points, heat, num=20, block=block, **floors))(*batch)
    np.testing.assert_array_equal(found.scores[0], scores)
    np.testing.assert_array_equal(found.points[0], places)


@pytest.mark.parametrize(("k", "classes"), [(13, 1), (13, 4), (40, 1), (40, 5)])
def test_as_many_points_as_published_in_blocks_and_all_at_once(k, classes):
    """As on CPUs and as elsewhere, against a stable sort of the scores of all K^4."""
    points, heat = drawn(0, k, classes, 1000)
    options = {"floor": 0.1, "centre_floor": 0.1}
    every = jax.jit(lambda points, heat: all_scores(points, heat, **options))(points, heat)
    every = jnp.moveaxis(every, 2, 1).reshape(-1)  # topmost, bottommost, leftmost, rightmost
    expected, places = jax.lax.top_k(every, 1000)
    top, bottom, left, right = np.unravel_index(places, (k,) * 4)
    kept = np.asarray(expected) > 0
    assert kept.any()
    batch = jax.tree.map(lambda x: jnp.asarray(x)[None], (points, heat))
    for block in (2**15, 2**22):
        run = jax.jit(
            lambda points, heat, block=block: group_quadruples(points, heat, num=1000, block=block, **options)
        )
        found = run(*batch)
        np.testing.assert_array_equal(found.scores[0], np.where(kept, expected, -1))
        np.testing.assert_array_equal(found.points[0][kept], np.stack([top, left, bottom, right], -1)[kept])


@pytest.mark.parametrize("group", [group_quadruples, group_as_pytorch])
@pytest.mark.parametrize("k", [1, 3])
def test_more_may_be_asked_for_than_there_are(group, k):
    points, heat = drawn(1, k, 1, 10)
    batch = jax.tree.map(lambda x: jnp.asarray(x)[None], (points, heat))
    found = jax.jit(lambda points, heat: group(points, heat, num=200, floor=0.0, centre_floor=0.0))(*batch)
    assert found.scores.shape == (1, 200)
    assert found.points.shape == (1, 200, 4)
    assert (np.asarray(found.scores[0, k**4 :]) == -1).all()


def test_sixteen_mirrored_images_need_little_memory():
    shapes = Points(jnp.zeros((32, 40, 2), jnp.int32), jnp.zeros((32, 40)), jnp.zeros((32, 40), jnp.int32))
    run = jax.jit(lambda points, heat: group_quadruples((points,) * 4, heat, num=1000, floor=0.1, centre_floor=0.1))
    memory = run.lower(shapes, jnp.zeros((32, 128, 128, 80))).compile().memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes < 400e6
