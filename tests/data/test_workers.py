"""Worker processes give the bytes that threads give, and nothing of them is left however a run ends."""

import contextlib
import dataclasses
import errno
import gc
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from cornerjax.config import Data
from cornerjax.data.pipeline import make_batches
from cornerjax.data.shapes import write_shapes
from cornerjax.data.source import open_source
from cornerjax.data.workers import START, worker_count
from cornerjax.detectors import get_detector
from cornerjax.detectors.cornernet import CornerConfig, CornerModel
from cornerjax.errors import InputError, RunError

DETECTOR = get_detector("cornernet")
CONFIG = CornerConfig(
    model=CornerModel(num_classes=3),
    data=Data(batch=4, crop_px=(95, 127), crop_border_px=32, max_objects=6, workers=2),
    seed=7,
)
# Without a main guard, and functions of the script itself: what a notebook does.
SCRIPT = """
import hashlib, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # it may have been told to take no notice, as by nohup
from dataclasses import replace
from cornerjax.data.pipeline import make_batches
from cornerjax.data.source import open_source
from cornerjax.detectors.cornernet import CornerConfig
from cornerjax.config import Data

def encode(objects, config):
    return {"boxes": objects["boxes"].sum(keepdims=True)}

def render(example, config, xp):
    return {"double": 2 * example["boxes"]}

def digest(kind):
    data = Data(root=sys.argv[1], batch=4, crop_px=(63, 63), workers=2, worker_kind=kind)
    batches = make_batches(open_source(data, "train"), CornerConfig(data=data), encode=encode, render=render)
    taken = hashlib.sha256()
    for _ in range(3):
        for name, values in next(batches).items():
            taken.update(name.encode() + values.tobytes())
    return taken.hexdigest(), batches

process, batches = digest("process")
print(process == digest("thread")[0], flush=True)
try:
    time.sleep(float(sys.argv[2]))
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("data") / "shapes", seed=0, train=18, val=2)


@pytest.fixture(scope="module")
def source(folder):
    return open_source(Data(root=str(folder)), "train")


def batches_of(source, encode=DETECTOR.encode, **changes):
    config = dataclasses.replace(CONFIG, data=dataclasses.replace(CONFIG.data, **changes))
    return contextlib.closing(make_batches(source, config, encode=encode, render=DETECTOR.render))


def children(pid):
    """The processes that a process has started and that have not ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            found += [int(stat.parent.name)] * (int(parent) == pid and state != "Z")
    return found


def until(condition, what):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(what)


def memory():
    """How many batches' memory this process has open, and how many batches of it."""
    gc.collect()
    files = (os.readlink(file) for file in Path("/proc/self/fd").iterdir() if file.is_symlink())
    name = "memfd:cornerjax"
    return sum(name in file for file in files), Path("/proc/self/maps").read_text().count(name)


def is_gone(pid):
    return not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("workers", [1, 3])
def test_processes_give_what_threads_give(source, workers):
    with batches_of(source, workers=1, worker_kind="thread") as batches:
        theirs = list(itertools.islice(batches, 12))
    with batches_of(source, workers=workers) as batches:
        ours = list(itertools.islice(batches, 12))
        there = children(os.getpid())
        assert len(there) >= workers
    assert len(children(os.getpid())) == len(there) - workers
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        assert all(a[name].dtype == b[name].dtype and a[name].tobytes() == b[name].tobytes() for name in a)
        assert not any(values.flags.writeable for values in a.values())


def test_what_goes_wrong_in_a_process_is_said_here(source, capfd):
    here = os.getpid()

    def encode(objects, config):
        return DETECTOR.encode(objects, config) | {"part": np.array(1 / (os.getpid() == here))}

    with (
        batches_of(source, encode=encode) as batches,
        pytest.raises(RuntimeError, match=r"(?s)^in a worker process:.*in encode\n.*ZeroDivisionError"),
    ):
        list(itertools.islice(batches, 20))
    workers, mapped = children(here), memory()
    gone = [dataclasses.replace(record, path=record.path.with_suffix(".gone")) for record in source.records[9:]]
    with (
        batches_of(dataclasses.replace(source, records=source.records[:9] + gone)) as batches,
        pytest.raises(
            InputError, match=r"^cannot read .*/\d+.gone: No such file or directory; expected an image file$"
        ),
    ):
        list(itertools.islice(batches, 20))
    assert children(here) == workers
    assert memory() == mapped
    assert capfd.readouterr().err == ""


def test_a_process_that_is_killed_is_one_sentence(source):
    before = set(children(os.getpid()))
    with batches_of(source) as batches:
        next(batches)
        workers = set(children(os.getpid())) - before
        os.kill(max(workers), signal.SIGKILL)
        with pytest.raises(RunError, match=r"^a worker process .* was ended by SIGKILL; where memory is short, fewer"):
            list(itertools.islice(batches, 20))
    assert set(children(os.getpid())) == before


def test_what_a_scheduler_sends_to_all_processes_leaves_the_workers_at_work(source):
    """It is for the run, which needs them to finish its step, and to save it."""
    with batches_of(source, workers=1, worker_kind="thread") as batches:
        theirs = list(itertools.islice(batches, 12))
    before = set(children(os.getpid()))
    with batches_of(source) as batches:
        ours = [next(batches)]
        for worker in set(children(os.getpid())) - before:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
                os.kill(worker, number)
        ours += itertools.islice(batches, 11)
    assert [batch["image"].tobytes() for batch in ours] == [batch["image"].tobytes() for batch in theirs]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()
    assert set(children(os.getpid())) == before


@pytest.mark.parametrize("how", ["ends at once", "does not start"])
def test_a_process_that_cannot_be_had_is_one_sentence(source, monkeypatch, how):
    before, mapped = set(children(os.getpid())), memory()

    def refuse(*_, **__):
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    if how == "ends at once":
        monkeypatch.setattr("cornerjax.data.workers.START", "raise SystemExit(7)")
        message = r"^a worker process that makes training examples ended with exit code 7; where memory is short"
    else:
        monkeypatch.setattr(subprocess, "Popen", refuse)
        message = (
            r"^cannot start a worker process that makes training examples: Resource temporarily unavailable; fewer"
        )
    large = np.zeros(10**7, np.uint8)  # more than waits in a socket

    def encode(objects, config):
        return DETECTOR.encode(objects, config) | {"part": large[:1]}

    with batches_of(source, encode=encode) as batches, pytest.raises(RunError, match=message):
        next(batches)
    assert set(children(os.getpid())) == before
    assert memory() == mapped


def test_a_worker_whose_run_ends_before_it_begins_says_nothing():
    ours, theirs = socket.socketpair()
    ours.close()
    with theirs:
        command = [sys.executable, "-c", START, str(theirs.fileno()), "0"]
        done = subprocess.run(command, pass_fds=[theirs.fileno()], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("how", ["end", "interrupt", "kill"])
def test_nothing_is_left_of_a_script(folder, tmp_path, how):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    memory = set(os.listdir("/dev/shm"))
    seconds = "0" if how == "end" else "60"
    process = subprocess.Popen(
        [sys.executable, script, folder, seconds], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "True\n"
    workers = children(process.pid)
    if how != "end":
        assert len(workers) == 2
        process.send_signal(signal.SIGINT if how == "interrupt" else signal.SIGKILL)
    _, err = process.communicate()
    assert process.returncode == {"end": 0, "interrupt": 130, "kill": -signal.SIGKILL}[how]
    assert err == ""
    until(lambda: all(map(is_gone, workers)), "workers go on")
    assert set(os.listdir("/dev/shm")) == memory


def test_a_notebook_has_no_file(folder):
    run = subprocess.run([sys.executable, "-", folder, "0"], input=SCRIPT, capture_output=True, text=True, check=True)
    assert run.stdout == "True\n"


def test_memory_is_used_again(source):
    places = set()
    with batches_of(source, workers=1, worker_kind="thread") as batches:
        for batch in itertools.islice(batches, 40):
            places.add(batch["image"].ctypes.data)
            del batch
    assert len(places) <= 6


def test_the_machine_decides_how_many_there_are(monkeypatch):
    for cores, count in [(1, 1), (2, 1), (16, 15), (200, 32)]:
        monkeypatch.setattr(os, "sched_getaffinity", partial(lambda cores, pid: set(range(cores)), cores))
        assert worker_count(Data()) == count
    assert worker_count(Data(workers=5)) == 5
