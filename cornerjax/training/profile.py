"""A trace of a few steps, for TensorBoard's profiler or Perfetto."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import jax

STEPS = 10  # that are traced, after as many in which everything is compiled and warmed up


class Profile:
    """Records STEPS steps of this process; a run that ends before leaves a trace of those that it has done.

    Args:
        folder: that the trace is written to; None: there is none.
    """

    def __init__(self, folder: Path | None):
        self._folder = folder
        self._recording = False

    @contextlib.contextmanager
    def step(self, number: int) -> Iterator[None]:
        """Around a step, counted from 1 at the start of the process."""
        if self._folder and number == STEPS + 1:
            jax.profiler.start_trace(str(self._folder))
            self._recording = True
        yield
        if number == 2 * STEPS:
            self.close()

    def wait(self, losses: dict[str, jax.Array]) -> None:
        """Have a step that is recorded, or goes before those, end here."""
        if self._folder:
            jax.block_until_ready(losses)

    def close(self) -> None:
        """Write the trace, if one is being recorded."""
        if self._recording:
            self._recording = False
            jax.profiler.stop_trace()
