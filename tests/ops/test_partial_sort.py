"""The largest elements, and of equal ones those of torch.topk."""

import jax
import numpy as np
import pytest

from cornerjax.ops.partial_sort import partial_sort


def taken(x, k):
    values, places = jax.jit(lambda x: partial_sort(x, k))(x)
    return np.asarray(values), np.asarray(places)


@pytest.mark.parametrize(
    ("n", "k", "levels"), [(64, 1, 1), (200, 3, 2), (2560, 40, 3), (5000, 7, 2), (9000, 100, 5), (20_000, 101, 9000)]
)
def test_it_takes_what_pytorch_takes(n, k, levels):
    torch = pytest.importorskip("torch")
    x = (np.random.default_rng(n).integers(0, levels, n) / levels).astype(np.float32)
    values, places = taken(x, k)
    expected = torch.topk(torch.from_numpy(x), k)
    np.testing.assert_array_equal(values, expected.values.numpy())
    np.testing.assert_array_equal(places, expected.indices.numpy())


@pytest.mark.parametrize("n", [100, 5000])  # shorter than 64 k, and longer
def test_the_largest_come_first(n):
    x = np.random.default_rng(0).permutation(n).astype(np.float32)
    values, places = taken(x, 20)
    np.testing.assert_array_equal(values, np.sort(x)[::-1][:20])
    np.testing.assert_array_equal(x[places], values)
