"""Edge aggregation: all implementations against the recorded one and against each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cornerjax import ops
from cornerjax.ops.edges import RISING_SUMS, aggregate_edges

EVERY = pytest.mark.parametrize("implementation", RISING_SUMS)


@EVERY
@pytest.mark.parametrize(("axis", "name"), [(2, "h"), (1, "v")])
def test_it_is_the_originals(golden, implementation, axis, name):
    recorded = golden("decode/extremenet.npz")
    heat = jax.nn.sigmoid(recorded["t_heat"][:, :2].transpose(0, 2, 3, 1))
    found = aggregate_edges(heat, axis, implementation=implementation)
    expected = recorded[f"agg_{name}_aggregate"].transpose(0, 2, 3, 1)
    np.testing.assert_allclose(found, expected, atol=1e-8 if implementation == "loop" else 4e-7)


@EVERY
@pytest.mark.parametrize(
    ("axis", "reverse", "name"), [(2, False, "left"), (2, True, "right"), (1, False, "top"), (1, True, "bottom")]
)
def test_what_comes_from_one_side_is_the_originals(golden, implementation, axis, reverse, name):
    recorded = golden("decode/extremenet.npz")
    heat = jax.nn.sigmoid(recorded["t_heat"][:, :2].transpose(0, 2, 3, 1))
    found = RISING_SUMS[implementation](heat, axis, reverse) - heat
    expected = recorded[f"agg_{name}_aggregate"].transpose(0, 2, 3, 1)
    np.testing.assert_allclose(found, expected, atol=5e-7 if implementation == "scan" else 1e-8)


def one_by_one(x, axis, reverse):
    x = np.moveaxis(x, axis, 0)[:: -1 if reverse else 1]
    total = x.copy()
    for i in range(1, len(x)):
        total[i] += np.where(x[i] >= x[i - 1], total[i - 1], 0)
    return np.moveaxis(total[:: -1 if reverse else 1], 0, axis)


@EVERY
@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("reverse", [False, True])
def test_it_adds_up_what_rises(implementation, axis, reverse):
    """Of maps of few values, in which neighbours are often equal."""
    x = np.random.default_rng(0).integers(0, 4, (2, 9, 13, 3)).astype(np.float32)
    found = jax.jit(lambda x: RISING_SUMS[implementation](x, axis, reverse))(x)
    np.testing.assert_array_equal(found, one_by_one(x, axis, reverse))


@EVERY
def test_a_line_of_one_cell_stays(implementation):
    x = jnp.ones((1, 1, 4, 2))
    np.testing.assert_array_equal(aggregate_edges(x, 1, implementation=implementation), x)


def test_an_implementation_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="no edge aggregation 'fast'; there are: auto, loop, scan"):
        ops.aggregate_edges(jnp.ones((1, 2, 2, 1)), 1, implementation="fast")
