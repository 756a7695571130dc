"""Stops a run whose loss or gradient is not finite, and keeps the batch it happened on."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from cornerjax.errors import RunError
from cornerjax.files import open_atomically

LISTED = 16  # image ids that the message names

Batch = dict[str, np.ndarray]


class Guard:
    """Checks the losses of every step, one step behind, so that the device never waits for it.

    When it raises, the step after the bad one has been started too: that one must not have changed the state either.

    Args:
        path: the work directory; batches go to its folder `not_finite`.
    """

    def __init__(self, path: Path):
        self._folder = path / "not_finite"
        self._waiting: tuple[int, Batch, dict[str, jax.Array]] | None = None

    def step(self, step: int, batch: Batch, losses: dict[str, jax.Array]) -> None:
        """Take a step that has been started and check the one before, waiting for it.

        Args:
            step: its number, from 1.
            batch: this host's rows, with "image_id" (b,).
            losses: "total", its parts and "grad_norm": scalars, still being computed.
        Raises: RunError: a loss or the gradient of the step before is not finite; its batch is on disk then.
        """
        self.finish()
        self._waiting = step, batch, losses

    def finish(self) -> None:
        """Check the step taken last; errors as of `step`."""
        if self._waiting is None:
            return
        step, batch, losses = self._waiting
        self._waiting = None
        fetched = jax.device_get(losses)
        values = {name: float(fetched[name]) for name in losses}
        if not np.isfinite(list(values.values())).all():
            raise RunError(
                f"{_what(values, step)}, on {_images(batch['image_id'])}; {self._keep(step, batch)}; "
                "a lower optim.peak_lr, or gradients clipped with optim.clip_norm, may help"
            )

    def _keep(self, step: int, batch: Batch) -> str:
        file = self._folder / f"step-{step:06d}-host-{jax.process_index()}.npz"
        try:
            self._folder.mkdir(exist_ok=True)
            write_batch(file, step, batch)
        except OSError as e:
            return f"the batch could not be written to {file}: {e.strerror}"
        return f"to see whether one of them is to blame, run cornerjax replay {file}"


def write_batch(file: Path, step: int, batch: Batch) -> None:
    """Write a batch and the number of its step; whoever reads `file` finds all of it."""
    arrays: dict[str, Any] = batch | {"step": np.array(step)}
    with open_atomically(file) as out:
        np.savez(out, **arrays)


def _what(values: dict[str, float], step: int) -> str:
    losses = {name: value for name, value in values.items() if name != "grad_norm"}
    bad = {name: value for name, value in losses.items() if not np.isfinite(value)}
    if not bad:
        return (
            f"the gradient is not finite at step {step} (grad_norm {values['grad_norm']}), "
            f"though the loss is ({_listed(losses)})"
        )
    parts = {name: value for name, value in bad.items() if name != "total"} or bad
    return f"the loss is not finite at step {step} ({_listed(parts)})"


def _listed(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())


def _images(image_ids: np.ndarray) -> str:
    ids = list(map(str, image_ids.tolist()))
    more = f" and {len(ids) - LISTED} more" if len(ids) > LISTED else ""
    return f"the images with ids {', '.join(ids[:LISTED])}{more}"
