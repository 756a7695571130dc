"""What is left of input workers when the process that has started them is killed? See --kills of pipeline.py; Linux."""

import contextlib
import os
import random
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

MARK = "CORNERJAX_BENCHMARK"  # in the environment of the process and, as they inherit it, of its workers
SHARED = Path("/dev/shm")
BATCHES = 3  # until all workers have begun
PATIENCE = 20  # seconds until what has not ended is left
# Takes a COCO-format folder and a number of workers, and says when there is a batch.
CHILD = """
import sys
from cornerjax.config import Data
from cornerjax.data.pipeline import make_batches
from cornerjax.data.source import open_source
from cornerjax.detectors import get_detector
from cornerjax.detectors.cornernet import CornerConfig, CornerModel

data = Data(root=sys.argv[1], batch=16, workers=int(sys.argv[2]))
detector, config = get_detector("cornernet"), CornerConfig(model=CornerModel(num_classes=80), data=data)
for _ in make_batches(open_source(data, "train"), config, encode=detector.encode, render=detector.render):
    print("batch", flush=True)
"""


class Kill(NamedTuple):
    """What came of one."""

    workers: int  # that were there
    seconds: float  # until all had ended
    processes: list[int]  # left
    files: set[str]  # left in /dev/shm


def kill_often(root: str, workers: int, kills: int) -> None:
    """Kill as many processes, each at another random moment, and print what is left of all of them."""
    rng, found = random.Random(0), []
    with making(root, workers) as (_, process):
        begun = time.monotonic()
        assert process.stdout
        said = [process.stdout.readline() for _ in range(BATCHES)]
        assert said == ["batch\n"] * BATCHES, "the process makes no batches"
        span = 1.5 * (time.monotonic() - begun)
    for _ in range(kills):
        files = shared_files()
        with making(root, workers) as (mark, process):
            time.sleep(rng.uniform(0, span))
            found.append(killed(process, mark, files))
    at_work = sum(kill.workers > 0 for kill in found)
    processes, files = sum(len(kill.processes) for kill in found), sum(len(kill.files) for kill in found)
    print(
        f"killed {kills} times within {span:.1f} s of the start, {at_work} times with workers there; left: "
        f"{processes} processes, {files} files in {SHARED}; all had ended after {max(k.seconds for k in found):.2f} s",
        flush=True,
    )


@contextlib.contextmanager
def making(root: str, workers: int) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A process that makes batches, and what marks it and its workers; killed at the end at the latest."""
    mark = str(uuid.uuid4())
    environment = os.environ | {MARK: mark}
    command = [sys.executable, "-c", CHILD, root, str(workers)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield mark, process
        finally:
            process.kill()


def killed(process: subprocess.Popen[str], mark: str, files: set[str]) -> Kill:
    """Kill it and wait for the others."""
    workers = len(marked(mark)) - 1
    process.kill()
    begun = time.monotonic()
    process.wait()
    while (left := marked(mark)) and time.monotonic() < begun + PATIENCE:
        time.sleep(0.02)
    return Kill(workers, time.monotonic() - begun, left, shared_files() - files)


def marked(mark: str) -> list[int]:
    """The processes that have the mark; a batch's memory has no name and is gone with the last of them."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            found += [int(environment.parent.name)] * (f"{MARK}={mark}".encode() in environment.read_bytes())
    return found


def shared_files() -> set[str]:
    return set(os.listdir(SHARED))
