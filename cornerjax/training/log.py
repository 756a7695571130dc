"""What a run says while it trains: a progress bar or plain lines, `metrics.jsonl`, TensorBoard."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import jax
import numpy as np
from tensorboardX import SummaryWriter
from tqdm import tqdm

from cornerjax.checkpoint import write_atomically
from cornerjax.config import Config, InputError


class TrainLog:
    """Collects the losses of every step and reports their means over the last interval.

    `metrics.jsonl` gets one object a line: {"step", "total", ..., "learning_rate", "images_per_s"} for training,
    {"step", "AP", ...} for an evaluation. A resumed run appends, after dropping what lies beyond its first step.
    """

    def __init__(self, path: Path, *, first_step: int, config: Config):
        self._steps, self._batch = config.steps, config.data.batch
        self._silent = jax.process_index() > 0  # of several processes, the first speaks for all
        self._lines = open(os.devnull, "w") if self._silent else _reopen(path / "metrics.jsonl", first_step)
        folder = str(path / "tensorboard")
        self._board = SummaryWriter(folder, purge_step=first_step, write_to_disk=not self._silent)
        hidden = self._silent or not sys.stderr.isatty()
        self._bar = tqdm(total=self._steps, initial=first_step, unit="step", disable=hidden)
        self._waiting: list[dict[str, jax.Array]] = []
        self._since = time.perf_counter()

    def step(self, losses: dict[str, jax.Array]) -> None:
        """Take the losses of a step, still being computed; waits for those of the step before."""
        if self._waiting:
            jax.block_until_ready(self._waiting[-1])  # one step ahead at most, so that batches do not pile up
        self._waiting.append(losses)
        self._bar.update()

    def report(self, step: int, learning_rate: float) -> None:
        """Write the means over the steps since the last report.

        Raises: InputError: the loss is not finite.
        """
        losses = jax.device_get(self._waiting)
        elapsed = time.perf_counter() - self._since
        values = {name: float(np.mean([one[name] for one in losses])) for name in losses[0]}
        speed = len(losses) * self._batch / elapsed
        self._write(step, values | {"learning_rate": learning_rate, "images_per_s": speed}, "train")
        shown = " ".join(f"{name} {value:.3f}" for name, value in values.items())
        self._bar.set_postfix_str(f"{shown} {speed:.1f} images/s")
        if self._bar.disable and not self._silent:
            left = (self._steps - step) * elapsed / len(losses)
            minutes, seconds = divmod(round(left), 60)
            print(f"step {step}/{self._steps} {shown} {speed:.1f} images/s {minutes}:{seconds:02d} left", flush=True)
        if not np.isfinite(values["total"]):
            raise InputError(
                f"the loss is {values['total']} at step {step}; a lower optim.peak_lr or optim.clip_norm may help, "
                "the last checkpoint is kept"
            )
        self._waiting = []
        self._since = time.perf_counter()

    def evaluation(self, step: int, metrics: dict[str, float], pictures: list[np.ndarray]) -> None:
        """Write the results of an evaluation; pictures are (H, W, 3) uint8 BGR."""
        self._write(step, metrics, "val")
        for i, picture in enumerate(pictures):
            self._board.add_image(f"val/{i}", picture[..., ::-1], step, dataformats="HWC")
        self._board.flush()
        self.say(f"step {step}: AP {metrics['AP']:.3f} AP50 {metrics['AP50']:.3f} AP75 {metrics['AP75']:.3f}")
        self._since = time.perf_counter()  # the time it took is not training time

    def say(self, line: str) -> None:
        """A line that does not disturb the bar."""
        if not self._silent:
            tqdm.write(line, file=sys.stderr if not self._bar.disable else sys.stdout)

    def _write(self, step: int, values: dict[str, Any], group: str) -> None:
        finite = {name: value if value is not None and np.isfinite(value) else None for name, value in values.items()}
        self._lines.write(json.dumps({"step": step, **finite}) + "\n")
        for name, value in finite.items():
            if value is not None:
                self._board.add_scalar(f"{group}/{name}", value, step)

    def close(self) -> None:
        """Finish the bar and the files."""
        self._bar.close()
        self._board.close()
        self._lines.close()


def _reopen(path: Path, first_step: int) -> TextIO:
    """The file, to append to, without the lines of steps that are going to be done again."""
    if path.exists():
        lines = path.read_text().splitlines()
        whole = [line for line in lines if line.endswith("}")]  # a kill can cut the last one
        kept = [line for line in whole if json.loads(line)["step"] <= first_step]
        write_atomically(path, "".join(line + "\n" for line in kept))
    return path.open("a", buffering=1)
