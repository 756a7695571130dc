"""What a run says while it trains: a progress bar or plain lines, `metrics.jsonl`, TensorBoard."""

import contextlib
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import jax
import numpy as np
from tensorboardX import RecordWriter, summary
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tqdm import tqdm

from cornerjax.config import Config
from cornerjax.errors import InputError, not_written
from cornerjax.files import no_links, open_regular, write_atomically

_LOG = logging.getLogger("cornerjax")


class TrainLog:
    """Collects the losses of every step and reports their means over the last interval.

    `metrics.jsonl` gets one object a line: {"step", "total", ..., "learning_rate", "images_per_s"} for training,
    {"step", "AP", ...} for an evaluation. A resumed run appends, after dropping what lies beyond its first step.

    Attributes:
        evaluated: whether the weights of the first step have been, in an earlier part of the run.
    """

    def __init__(self, path: Path, *, first_step: int, config: Config):
        self._steps, self._batch = config.steps, config.data.batch
        self._silent = jax.process_index() > 0  # of several processes, the first speaks for all
        self._path = path
        self.evaluated = False
        if not self._silent:
            with self._one_sentence():
                self._lines, written = _reopen(path / "metrics.jsonl", first_step)
                self.evaluated = any(line["step"] == first_step and "AP" in line for line in written)
                self._board = RecordWriter(_event_file(path / "tensorboard"))
                self._event(first_step, file_version="brain.Event:2")
                # TensorBoard hides what an earlier start wrote from here on.
                self._event(first_step, session_log=SessionLog(status=SessionLog.START))
        hidden = self._silent or not sys.stderr.isatty()
        self._bar = tqdm(total=self._steps, initial=first_step, unit="step", disable=hidden)
        self._waiting: list[dict[str, jax.Array]] = []
        self._since = self._reported = time.perf_counter()  # without what `paused` leaves out, and with it

    def step(self, losses: dict[str, jax.Array]) -> None:
        """Take the losses of a step, still being computed; waits for those of the step before."""
        if self._waiting:
            jax.block_until_ready(self._waiting[-1])  # one step ahead at most, so that batches do not pile up
        self._waiting.append(losses)
        self._bar.update()

    def report(self, step: int, learning_rate: float, *, skipped: int = 0) -> None:
        """Write the means over the steps since the last report.

        Args:
            skipped: images that could not be read since this start.
        Raises: RunError: the files cannot be written.
        """
        losses = jax.device_get(self._waiting)
        elapsed = time.perf_counter() - self._since
        values = {name: float(np.mean([one[name] for one in losses])) for name in losses[0]}
        speed = len(losses) * self._batch / elapsed
        rest = {"learning_rate": learning_rate, "images_per_s": speed} | (
            {"images_skipped": skipped} if skipped else {}
        )
        self._write(step, values | rest, "train")
        shown = " ".join(f"{name} {value:.3f}" for name, value in values.items())
        self._bar.set_postfix_str(f"{shown} {speed:.1f} images/s")
        if self._bar.disable and not self._silent:
            left = (self._steps - step) * (time.perf_counter() - self._reported) / len(losses)
            minutes, seconds = divmod(round(left), 60)
            self.say(f"step {step}/{self._steps} {shown} {speed:.1f} images/s {minutes}:{seconds:02d} left")
        self._waiting = []
        self._since = self._reported = time.perf_counter()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time that something takes out of that of training, by which the images a second are told."""
        jax.block_until_ready(self._waiting)  # that is training
        began = time.perf_counter()
        try:
            yield
        finally:
            self._since += time.perf_counter() - began

    def evaluation(self, step: int, metrics: dict[str, float], pictures: list[np.ndarray]) -> None:
        """Write the results of an evaluation; pictures are (H, W, 3) uint8 BGR.

        Raises: RunError: the files cannot be written.
        """
        self._write(step, metrics, "val", pictures)
        self.say(f"step {step}: AP {metrics['AP']:.3f} AP50 {metrics['AP50']:.3f} AP75 {metrics['AP75']:.3f}")

    def say(self, line: str) -> None:
        """A line that does not disturb the bar."""
        if not self._silent:
            with _to_output():
                tqdm.write(line, file=sys.stderr if not self._bar.disable else sys.stdout)
                sys.stdout.flush()

    def _write(self, step: int, values: dict[str, Any], group: str, pictures: Sequence[np.ndarray] = ()) -> None:
        if self._silent:
            return
        finite = {name: value if value is not None and np.isfinite(value) else None for name, value in values.items()}
        with self._one_sentence():
            self._lines.write(json.dumps({"step": step, **finite}) + "\n")
            for name, value in finite.items():
                if value is not None:
                    self._event(step, summary=summary.scalar(f"{group}/{name}", value))
            for i, picture in enumerate(pictures):
                self._event(step, summary=summary.image(f"{group}/{i}", picture[..., ::-1], dataformats="HWC"))
            self._board.flush()

    def _event(self, step: int, **content: Any) -> None:
        # Not with SummaryWriter: its thread dies of a full disk, and the run then waits for it forever.
        self._board.write(Event(wall_time=time.time(), step=step, **content).SerializeToString())

    @contextlib.contextmanager
    def _one_sentence(self) -> Iterator[None]:
        try:
            yield
        except OSError as e:
            raise not_written(f"metrics.jsonl and tensorboard in {self._path}", e) from None

    def close(self) -> None:
        """Finish the bar and the files.

        Raises: RunError: the files cannot be written.
        """
        self._bar.close()
        if not self._silent:
            with self._one_sentence(), contextlib.closing(self._lines):
                self._board.close()


@contextlib.contextmanager
def _to_output() -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise not_written("to standard output, which is closed or full", e) from None


def _event_file(folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    return str(folder / f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}")


def _reopen(path: Path, first_step: int) -> tuple[TextIO, list[dict[str, Any]]]:
    """The file, to append to, and its lines, without those of steps that are going to be done again."""
    kept = []
    if path.exists():
        with open_regular(path) as file:
            content = file.read().decode("utf-8", "surrogateescape")
        lines = [line.strip(" \t\r\0") for line in content.split("\n")]  # zeros are what a power failure leaves
        for number, line in enumerate(lines, 1):
            if line.endswith("}"):
                entry = _entry(line, f"{path}, line {number}")
                kept += [entry] if entry["step"] <= first_step else []
            elif line and number < len(lines):  # a kill can cut the last one
                _LOG.warning("%s, line %d, is cut and left out", path, number)
        write_atomically(path, "".join(json.dumps(line) + "\n" for line in kept))
    return open(path, "a", buffering=1, encoding="utf-8", opener=no_links), kept


def _entry(line: str, where: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        entry = None
    if not isinstance(entry, dict) or type(entry.get("step")) is not int:
        raise InputError(f"{where}, is damaged: expected a JSON object with a step; mend or remove the line to resume")
    return entry
