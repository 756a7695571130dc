"""The grouping of extreme points against all quadruples, one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cornerjax.ops.quadruples import Points, group_as_pytorch, group_quadruples

SIDE = 6
CASES = (1, 1), (1, 10**6), (2, 1), (6, 1), (6, 100), (13, 2**12), (27, 2**15), (40, 2**15), (40, 2**22)
SHAPES = (-1, 1, 1, 1), (-1, 1, 1), (-1, 1), (-1,)


def all_quadruples(points, heat, *, num, floor, centre_floor):
    """Every quadruple of an image, in NumPy; the axes are its topmost, bottommost, leftmost and rightmost point."""
    (top, left, bottom, right), sigmoid = points, np.asarray(jax.nn.sigmoid(heat))
    k = len(top.scores)
    kinds = [jax.tree.map(np.asarray, kind) for kind in (top, bottom, left, right)]
    scores, classes = ([kind[i].reshape(shape) for kind, shape in zip(kinds, SHAPES, strict=True)] for i in (1, 2))
    (xt, xb, xl, xr), (yt, yb, yl, yr) = (
        [kind.cells[:, axis].reshape(shape) for kind, shape in zip(kinds, SHAPES, strict=True)] for axis in (0, 1)
    )
    centre = sigmoid[(yt + yb) // 2, (xl + xr) // 2, classes[0]]
    sound = (classes[0] == classes[1]) & (classes[0] == classes[2]) & (classes[0] == classes[3])
    sound = sound & (yt <= yl) & (yt <= yr) & (yb >= yl) & (yb >= yr) & (yt <= yb)
    sound &= (xl <= xt) & (xl <= xb) & (xr >= xt) & (xr >= xb) & (xl <= xr)
    for score in scores:
        sound &= score >= np.float32(floor)
    sound &= centre >= np.float32(centre_floor)
    topmost, bottommost, leftmost, rightmost = scores
    total = (((topmost + leftmost) + bottommost) + rightmost + np.float32(2) * centre) / np.float32(6)
    total = np.where(sound & (total > 0), total, np.float32(-1)).reshape(-1)
    best = np.argsort(-total, kind="stable")[:num]
    top_at, bottom_at, left_at, right_at = np.unravel_index(best, (k,) * 4)
    places = np.where(total[best, None] > 0, np.stack([top_at, left_at, bottom_at, right_at], -1), 0)
    missing = num - len(best)
    return np.pad(total[best], (0, missing), constant_values=-1), np.pad(places, ((0, missing), (0, 0)))


def drawn(seed, k, classes, levels):
    """Points and a map with few different scores, so that many are equal, and thresholds are met exactly."""
    rng = np.random.default_rng(seed)

    def kind():
        scores = np.sort(rng.integers(0, levels + 1, k) / levels)[::-1].astype(np.float32)
        cells, labels = rng.integers(0, SIDE, (k, 2)), rng.integers(0, classes, k)
        return Points(jnp.asarray(cells, jnp.int32), jnp.asarray(scores), jnp.asarray(labels, jnp.int32))

    heat = rng.integers(-2, 3, (SIDE, SIDE, classes)).astype(np.float32)
    return tuple(kind() for _ in range(4)), heat


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    case=st.sampled_from(CASES),
    classes=st.sampled_from([1, 3, 80]),
    levels=st.sampled_from([2, 10, 1000]),
)
def test_the_best_are_those_of_all_quadruples(seed, case, classes, levels):
    """To the bit, and in their order: ties, thresholds met exactly, in blocks of any size and all at once."""
    k, block = case
    points, heat = drawn(seed, k, classes, levels)
    num, floors = 1000 if k > 6 else 20, {"floor": 0.5, "centre_floor": float(jax.nn.sigmoid(0.0))}
    scores, places = all_quadruples(points, heat, num=num, **floors)
    batch = jax.tree.map(lambda x: jnp.asarray(x)[None], (points, heat))
    run = jax.jit(lambda points, heat: group_quadruples(points, heat, num=num, block=block, **floors))
    found = run(*batch)
    np.testing.assert_array_equal(found.scores[0], scores)
    np.testing.assert_array_equal(found.points[0], places)


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
