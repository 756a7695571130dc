"""The learning rate at the steps where it changes."""

import numpy as np
import pytest

from cornerjax.config import Config, Optim
from cornerjax.errors import InputError
from cornerjax.training.optimiser import learning_rate


def rates(steps, at, **optim):
    schedule = learning_rate(Config(steps=steps, optim=Optim(peak_lr=1.0, **optim)))
    return [float(schedule(i)) for i in at]


def test_step_schedule_falls_after_the_named_step():
    """Update number n (from 1) uses schedule(n - 1): the originals lower the rate once update 5 is done."""
    np.testing.assert_allclose(rates(10, [0, 4, 5, 7, 8], decay_steps=(5, 8)), [1, 1, 0.1, 0.1, 0.01], rtol=1e-6)


@pytest.mark.parametrize("warmup_steps", [0, 2])
def test_a_step_that_is_named_twice_has_two_falls(warmup_steps):
    """As two lists of steps that a recipe puts together, or the original's table of them, would have it."""
    found = rates(10, [4, 5, 7, 8], decay_steps=(5, 5, 8), warmup_steps=warmup_steps)
    np.testing.assert_allclose(found, [1, 0.01, 0.01, 0.001], rtol=1e-6)


def test_step_schedule_with_warm_up_falls_at_the_same_step():
    np.testing.assert_allclose(
        rates(10, [0, 1, 2, 4, 5], decay_steps=(5,), warmup_steps=2), [0.1, 0.55, 1, 1, 0.1], rtol=1e-6
    )


def test_cosine_rises_and_ends_at_zero():
    np.testing.assert_allclose(rates(12, [0, 2, 7, 12], schedule="cosine", warmup_steps=2), [0.1, 1, 0.5, 0], atol=1e-6)


def test_a_decay_within_the_warm_up_is_refused():
    with pytest.raises(InputError, match=r"optim\.decay_steps has 2; accepted is more than optim\.warmup_steps, 2"):
        rates(10, [], warmup_steps=2, decay_steps=(2, 5))


def test_a_warm_up_longer_than_the_run_is_refused():
    with pytest.raises(InputError, match=r"optim\.warmup_steps is 10; accepted is 0 to steps - 1 = 9"):
        rates(10, [], warmup_steps=10)
