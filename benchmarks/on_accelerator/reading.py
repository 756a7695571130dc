"""Input: training examples a second of so many worker processes that read, decode and crop JPEGs."""

import contextlib
import dataclasses
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Literal

from on_accelerator.bench import Bench
from photos import write_photos

from cornerjax.config import Data
from cornerjax.data.batch_memory import BatchMemory, layout_of
from cornerjax.data.batches import Batches
from cornerjax.data.coco import open_coco
from cornerjax.data.examples import make_example
from cornerjax.data.workers import open_pool
from cornerjax.detectors import get_detector
from cornerjax.threads import usable_cores
from cornerjax.validation import replaced

CLASSES = 80
AT_ONCE = 2  # batches that are made at the same time, as data.pipeline has it


def measure(bench: Bench) -> None:
    """As many workers as cores at most; "host" where the device has nothing to do but train."""
    cores = usable_cores()
    counts = [1] if bench.small else sorted({1, *(count for count in (2, 4, 8) if count < cores), cores})
    with tempfile.TemporaryDirectory() as made:
        root = write_photos(Path(made), 4 if bench.small else 64)
        for render in ("device", "host"):
            alone = []
            for workers in counts:
                row = {"render": render, "workers": workers}
                bench.add(row, lambda row=row, alone=alone: measured(root, bench.small, alone, **row))


def measured(
    root: str, small: bool, alone: list[float], *, render: Literal["host", "device"], workers: int
) -> dict[str, float]:
    speed = measure_input(root, render, workers, batch=4 if small else 48, rounds=1 if small else 3)
    alone.append(speed)
    return {"images/s": speed, "images/s a worker": speed / workers, "to one": speed / alone[0]}


def measure_input(root: str, render: Literal["host", "device"], workers: int, *, batch: int, rounds: int) -> float:
    """Training examples a second, CornerNet's at 511 px: what data.pipeline does, without TensorFlow around it.

    Args:
        root: a COCO-format folder.
        rounds: of four batches.
    """
    detector = get_detector("cornernet")
    config = replaced(detector.defaults, {"model.num_classes": CLASSES})
    config = dataclasses.replace(config, data=Data(root=root, render=render, workers=workers, batch=batch))
    batches = Batches(open_coco(config.data, "train"), config, range(batch), None)
    make = partial(make_example, config=config, encode=detector.encode, render=detector.render, crop=detector.crop)
    with contextlib.ExitStack() as stack:
        memory = stack.enter_context(contextlib.closing(BatchMemory(layout_of(batches.example(0, make), batch))))
        pool = stack.enter_context(open_pool(config.data, make, memory))
        threads = stack.enter_context(ThreadPoolExecutor(AT_ONCE))

        def images_s(first: int, count: int) -> float:
            begun = time.perf_counter()
            for _ in threads.map(
                lambda i: bool(batches.fill(list(range(i * batch, (i + 1) * batch)), pool, memory)),
                range(first, first + count),
            ):
                pass
            return count * batch / (time.perf_counter() - begun)

        images_s(0, AT_ONCE)  # all workers have begun
        return statistics.median(images_s(AT_ONCE + 4 * i, 4) for i in range(rounds))
