"""Adam with the recipe's schedule."""

import collections

import optax

from cornerjax.config import Config
from cornerjax.errors import InputError


def learning_rate(config: Config) -> optax.Schedule:
    """The schedule of `config.optim` over `config.steps`: warm-up first, then steps down or a cosine to zero.

    The originals lower the rate after the step whose number is in `decay_steps`, with no warm-up
    (CornerNet-Lite, train.py).
    """
    optim = config.optim
    if not 0 <= optim.warmup_steps < config.steps:
        raise InputError(f"optim.warmup_steps is {optim.warmup_steps}; accepted is 0 to steps - 1 = {config.steps - 1}")
    if early := [step for step in optim.decay_steps if step <= optim.warmup_steps]:
        raise InputError(
            f"optim.decay_steps has {early[0]}; accepted is more than optim.warmup_steps, {optim.warmup_steps}"
        )
    if optim.schedule == "cosine":
        after = optax.cosine_decay_schedule(optim.peak_lr, config.steps - optim.warmup_steps)
    else:  # boundaries count from the end of the warm-up, as join_schedules does
        falls = collections.Counter(step - optim.warmup_steps for step in optim.decay_steps)
        boundaries = {step: optim.decay_factor**times for step, times in falls.items()}
        after = optax.piecewise_constant_schedule(optim.peak_lr, boundaries)
    if not optim.warmup_steps:
        return after
    rise = optax.linear_schedule(optim.peak_lr / 10, optim.peak_lr, optim.warmup_steps)
    return optax.join_schedules([rise, after], [optim.warmup_steps])


def make_optimiser(config: Config) -> optax.GradientTransformation:
    """Adam with the schedule of `learning_rate`, after clipping where wanted; errors as there."""
    optim = config.optim
    clip = optax.clip_by_global_norm(optim.clip_norm) if optim.clip_norm else optax.identity()
    return optax.chain(clip, optax.adam(learning_rate(config), b1=optim.b1, b2=optim.b2, eps=optim.eps))
