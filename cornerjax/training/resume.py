"""What a run keeps of its state, and how it goes on from there."""

from cornerjax.checkpoint import Checkpoints
from cornerjax.nn.functional import Tree
from cornerjax.training.step import TrainState


def save(state: TrainState, checkpoints: Checkpoints, *, ap: float | None) -> None:
    """Start writing a checkpoint of everything that resuming needs."""
    checkpoints.save(int(state.step), state.evaluated(), resumable(state), ap=ap)


def resume(state: TrainState, checkpoints: Checkpoints) -> TrainState:
    """The newest checkpoint that can be read in place of a fresh state, if there is one."""
    restored = checkpoints.restore_newest(state.evaluated(), resumable(state), warn=print)
    if restored is None:
        return state
    weights, rest = restored
    if state.ema is None:
        return state._replace(**weights, **rest)
    return state._replace(ema=weights, **rest)


def resumable(state: TrainState) -> Tree:
    """What a checkpoint holds besides the weights that are meant to be used."""
    rest = {"opt_state": state.opt_state, "step": state.step}
    return rest if state.ema is None else rest | {"params": state.params, "model_state": state.model_state}
