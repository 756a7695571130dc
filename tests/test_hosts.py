"""Several processes on one run: how they join, that they do the same as one, and that none outlives the others."""

import dataclasses
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

import jax
import numpy as np
import pytest

from cornerjax import hosts
from cornerjax.checkpoint import restore_weights
from cornerjax.config import Data, Optim, to_json
from cornerjax.data.order import image_index
from cornerjax.data.shapes import write_shapes
from cornerjax.data.source import open_source
from cornerjax.detectors import read_config
from cornerjax.detectors.cornernet import CornerConfig, CornerLoss, CornerModel, CornerTest
from cornerjax.errors import InputError, RunError
from cornerjax.hosts import Hosts, in_cluster, joined
from cornerjax.nn.backbones.hourglass import Hourglass
from cornerjax.workdir import locked

ROOT = Path(__file__).parents[1]
STEPS = 8


def train_command(recipe: Path) -> list[str]:
    return [str(ROOT / "train.py"), "--config", str(recipe), "--workdir", "run"]


TINY = CornerConfig(
    model=CornerModel(
        backbone=Hourglass(stacks=1, stem_dim=4, stem_kernel=3, dims=(8, 8), blocks=(1, 1), dim=8),
        head_kernel=1,
        pool_dim=4,
    ),
    data=Data(batch=4, crop_px=(127, 127), random_crop=False, max_objects=8, workers=1, worker_kind="thread"),
    loss=CornerLoss(group=2.0),
    optim=Optim(peak_lr=1e-3, schedule="cosine", warmup_steps=2),
    test=CornerTest(batch=2, top_k=300, max_pairs=30, nms_floor=0.0, tag_distance=1e3),  # many boxes, untrained
    steps=STEPS,
    log_steps=1,
    save_steps=2,
)


def free_port() -> int:
    with socket.create_server(("localhost", 0)) as server:
        return server.getsockname()[1]


class Process(subprocess.Popen):
    """A process whose output, and that of the shell that has the last word and outlives it, goes to a file."""

    def __init__(self, command: list[str], file: Path, **options: Any):
        super().__init__(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
        self.file = file
        self._copier = threading.Thread(target=self._copy, args=(file.open("wb", buffering=0),))
        self._copier.start()

    def _copy(self, file: IO[bytes]) -> None:
        assert self.stdout
        with self.stdout, file:
            file.writelines(self.stdout)

    def finish(self) -> tuple[int, str]:
        """Its exit code and all output."""
        code = self.wait(300)
        self._copier.join(300)
        return code, self.file.read_text()


def start(command: list[str], cwd: Path, *, count: int = 2, devices: int = 1, port: int = 0) -> list[Process]:
    """The processes of a run, each with its output in a file out-<index>."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)}
    environment["NPROC"] = "2"  # threads, also of a process with one device: they divide the sums of a convolution
    several = ["--hosts.coordinator", f"localhost:{port or free_port()}", "--hosts.count", str(count)]
    processes = []
    for i in range(count):
        given = [*command, *several, "--hosts.index", str(i)] if count > 1 else command
        processes.append(Process([sys.executable, *given], cwd / f"out-{i}", cwd=cwd, env=environment))
    return processes


def finish(processes: list[Process]) -> list[tuple[int, str]]:
    """Exit code and output of each."""
    try:
        return [process.finish() for process in processes]
    finally:
        for process in processes:
            process.kill()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Hosts(count=0), "hosts.count is 0; accepted is 1 or more"),
        (Hosts("h:1", 2, 2), "hosts.index is 2; accepted is 0 to hosts.count - 1 = 1"),
        (Hosts("", 2, 0), "hosts.count is 2; give hosts.coordinator too"),
        (Hosts("h", 2, 0), "hosts.coordinator is 'h'; accepted are host:port and auto"),
        (Hosts("h:99999", 2, 0), "hosts.coordinator is 'h:99999'"),
        (Hosts("h:1", 1, 0), "but hosts.count is 1"),
        (Hosts("auto", 2, 1), "hosts.coordinator is auto: hosts.count and hosts.index come from the cluster"),
    ],
)
def test_options_that_no_run_can_use(options, message):
    with pytest.raises(InputError, match=re.escape(message)), joined(options):
        pass


def test_without_a_cluster_auto_is_refused(monkeypatch):
    """Said as jax does where no device has been used yet, unlike in the process of the tests."""

    def initialize(*_, **__):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr("jax.distributed.initialize", initialize)
    with pytest.raises(InputError, match="no cluster that jax knows: coordinator_address"), joined(Hosts("auto")):
        pass


def test_a_first_process_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(hosts, "CONNECT_S", 0)
    refused = r"no process answers at localhost:\d+ within 0 s \(Connection refused\)"
    with pytest.raises(InputError, match=refused), joined(Hosts(f"localhost:{free_port()}", 2, 1)):
        pass


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        used = f"port {port} cannot be used here: Address already in use"
        with pytest.raises(InputError, match=used), joined(Hosts(f"localhost:{port}", 2, 0)):
            pass


def test_those_who_are_done_wait_for_the_others_before_they_shut_down(monkeypatch):
    """While it shuts down, jax waits for 300 s at most."""
    done = []
    monkeypatch.setattr("jax.distributed.initialize", lambda *_, **__: None)
    monkeypatch.setattr("jax.experimental.multihost_utils.sync_global_devices", lambda _: done.append("barrier"))
    monkeypatch.setattr("jax.distributed.shutdown", lambda: done.append("shutdown"))
    with joined(Hosts(f"localhost:{free_port()}", 2, 0)):
        done.append("work")
    assert done == ["work", "barrier", "shutdown"]


STEP = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_PROCID": "1", "SLURM_LOCALID": "0"}


@pytest.mark.parametrize(
    ("environment", "several"),
    [
        ({}, False),
        (STEP | {"SLURM_NTASKS": "2"}, True),
        (STEP | {"SLURM_NTASKS": "1"}, False),
        ({"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS": "2"}, False),  # not by srun
        ({"OMPI_COMM_WORLD_SIZE": "2"}, True),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, True),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, False),
    ],
)
def test_clusters_are_recognised(monkeypatch, environment, several):
    monkeypatch.setattr(hosts, "_has_tpu", lambda: "TPU_WORKER_HOSTNAMES" in environment)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert in_cluster() == several


def test_one_process_joins_nobody():
    with joined(Hosts()):
        assert not jax.distributed.is_initialized()


WAITING = """
import sys, time, tyro
from cornerjax import errors, hosts
from cornerjax.commands.cli import run

if sys.argv[1] in ("hang", "collective", "done"):  # elsewhere a busy machine may be silent for as long
    hosts.HEARTBEAT_S = 4

def main():
    options = tyro.cli(hosts.Hosts, args=[a.replace("--hosts.", "--") for a in sys.argv[2:]])
    with hosts.joined(options):
        from cornerjax.devices import gather
        assert gather(options.index) == [0, 1]
        print("joined", flush=True)
        if sys.argv[1] in ("InputError", "RunError"):
            if options.index:
                raise getattr(errors, sys.argv[1])("an image that only this process reads is broken")
            gather("never")
        if sys.argv[1] == "hang" or (sys.argv[1] == "done" and options.index == 0):
            time.sleep(200)
        while sys.argv[1] == "collective":
            gather(0)
    print("left")

run(main)
"""


@pytest.mark.parametrize(("waiting", "victim"), [("hang", 0), ("hang", 1), ("collective", 1), ("done", 0)])
def test_when_one_process_is_killed_the_other_ends_with_a_sentence(tmp_path, waiting, victim):
    """It need not be in a place that fails: a collective of some accelerators just never returns."""
    processes = start(["-c", WAITING, waiting], tmp_path)
    while not all("joined" in (tmp_path / f"out-{i}").read_text() for i in range(2)):
        assert [process.poll() for process in processes] == [None, None]
        time.sleep(0.1)
    processes[victim].kill()
    code, said = finish(processes)[1 - victim]
    assert (code != 0, said.splitlines()[-1]) == (True, hosts.STOPPED)


@pytest.mark.parametrize("error", [InputError, RunError])
def test_an_error_in_one_process_ends_the_other_and_is_said_by_its_own(error, tmp_path):
    (other, other_said), (code, said) = finish(start(["-c", WAITING, error.__name__], tmp_path))
    assert (code, other != 0) == (error.exit_code, True)
    assert said.splitlines()[-1] == "error: an image that only this process reads is broken"
    assert other_said.splitlines()[-1] == hosts.STOPPED


def test_processes_that_are_done_leave_quietly(tmp_path):
    for code, said in finish(start(["-c", WAITING, "leave"], tmp_path)):
        assert code == 0
        assert said.splitlines()[-1] == "left"
        assert "error" not in said


BEGINNING = """
import sys, tyro
from pathlib import Path
from cornerjax import hosts
from cornerjax.commands.cli import run

def main():
    options = tyro.cli(hosts.Hosts, args=[a.replace("--hosts.", "--") for a in sys.argv[1:]])
    with hosts.joined(options):
        from cornerjax.workdir import locked
        with locked(Path("run")):
            print("begun")

run(main)
"""


def test_a_directory_that_is_in_use_ends_all_processes_with_the_sentence(tmp_path):
    with locked(tmp_path / "run"):
        both = finish(start(["-c", BEGINNING], tmp_path))
        assert (tmp_path / "run" / ".lock").exists()
    assert [code for code, _ in both] == [2, 2]
    for _, said in both:
        assert said.splitlines()[-1].startswith("error: work directory run is in use by process ")
    assert [code for code, _ in finish(start(["-c", BEGINNING], tmp_path))] == [0, 0]
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    data = write_shapes(folder / "shapes", seed=0, train=24, val=9)
    config = dataclasses.replace(TINY, data=dataclasses.replace(TINY.data, root=str(data)))
    (folder / "config.json").write_text(to_json(config))
    file = folder / "tiny.py"
    read = f"return read_config({str(folder / 'config.json')!r})"
    file.write_text(f"from cornerjax.detectors import read_config\n\ndef config():\n    {read}\n")
    return file


def digest(workdir: Path) -> str:
    params, model_state, _ = restore_weights(workdir, "latest")
    leaves = jax.tree.leaves((params, model_state))
    return hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in leaves)).hexdigest()


def lines(workdir: Path, name: str) -> list[float]:
    return [v[name] for v in map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines()) if name in v]


@pytest.fixture(scope="module")
def straight(recipe, tmp_path_factory) -> Path:
    """The folder of an uninterrupted run of two processes with a device each."""
    folder = tmp_path_factory.mktemp("straight")
    (code, said), (other, silent) = finish(start(train_command(recipe), folder))
    assert (code, other) == (0, 0), said + silent
    assert "step 8/8" in said
    assert "step 8" not in silent
    return folder


@pytest.mark.slow
def test_two_processes_train_to_the_losses_of_one(recipe, straight, tmp_path):
    """One with two devices: the sums are the same. With one device they are not, and Adam and BatchNorm amplify it."""
    for devices in (1, 2):
        (tmp_path / str(devices)).mkdir()
        done = start(train_command(recipe), tmp_path / str(devices), count=1, devices=devices)
        assert finish(done)[0][0] == 0
    two = lines(straight / "run", "total")  # of every step: other lengths are not equal either
    np.testing.assert_allclose(two, lines(tmp_path / "2" / "run", "total"), rtol=1e-6)
    np.testing.assert_allclose(two[0], lines(tmp_path / "1" / "run", "total")[0], rtol=1e-4)
    np.testing.assert_allclose(lines(straight / "run", "AP"), lines(tmp_path / "2" / "run", "AP"), atol=1e-5)


def damage_newest(run: Path) -> None:
    """Change a byte of the weights of the newest checkpoint."""
    newest = max((run / "checkpoints").glob("[0-9]"), key=lambda path: int(path.name))
    file = max((newest / "weights").rglob("*"), key=lambda path: path.stat().st_size * path.is_file())
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_run_that_lost_a_process_is_resumed_to_the_same_bits(recipe, straight, tmp_path, victim):
    port = free_port()
    processes = start(train_command(recipe), tmp_path, port=port)
    while not (tmp_path / "run" / "checkpoints" / "4").is_dir():
        assert [process.poll() for process in processes] == [None, None]
        time.sleep(0.05)
    processes[victim].kill()
    code, said = finish(processes)[1 - victim]
    assert code != 0
    assert said.splitlines()[-1] == hosts.STOPPED
    if victim:
        damage_newest(tmp_path / "run")
    again = finish(start(train_command(recipe), tmp_path, port=port))
    assert [code for code, _ in again] == [0, 0], again
    assert re.search("resuming run at step [246] of 8", again[0][1])
    assert ("is damaged" in again[0][1]) == bool(victim)  # the other process resumes from the same step
    assert digest(tmp_path / "run") == digest(straight / "run")


@pytest.mark.slow
def test_an_evaluation_by_two_processes_or_four_devices_gives_the_same_boxes(straight):
    command = [str(ROOT / "eval.py"), "--workdir", "run", "--pictures", "0"]
    found = {}
    for count, devices in ((1, 1), (2, 1), (1, 4), (2, 2)):
        done = finish(start(command, straight, count=count, devices=devices))
        assert [code for code, _ in done] == [0] * count, done
        found[count, devices] = json.loads((straight / "run" / "eval" / "results.json").read_text())
    one = found.pop((1, 1))
    assert len(one) > 50
    for other in found.values():
        assert len(other) == len(one)
        for name in ("image_id", "category_id", "bbox", "score"):
            np.testing.assert_allclose([box[name] for box in other], [box[name] for box in one], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_a_broken_image_ends_both_processes(recipe, tmp_path):
    """It is read by one of them, in the third step, when the checkpoint of the second is being written."""
    config, data = (
        read_config(recipe.parent / "config.json"),
        shutil.copytree(recipe.parent / "shapes", tmp_path / "set"),
    )
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, root=str(data)))
    source = open_source(config.data, config.data.train)
    position = 2 * config.data.batch + config.data.batch // 2  # the second process's first of the third step
    broken = source.records[image_index(position, seed=config.seed, num_images=len(source.records))].path
    broken.write_bytes(b"no image")
    command = [*train_command(recipe), "--data.root", str(data)]
    (other, other_said), (code, said) = finish(start(command, tmp_path))
    assert (code, other != 0) == (2, True)
    assert re.match(f"error: .*{broken.name}", said.splitlines()[-1])
    assert other_said.splitlines()[-1] == hosts.STOPPED


FULL = """
import sys
from cornerjax.commands import main
from cornerjax.errors import RunError
from cornerjax.training.log import TrainLog

report = TrainLog.report

def fail(self, step, *args, **options):
    if step == 3 and not self._silent:
        raise RunError("cannot write metrics.jsonl: No space left on device")
    report(self, step, *args, **options)

TrainLog.report = fail
main("train")
"""


@pytest.mark.slow
def test_a_log_that_the_first_process_cannot_write_ends_both(recipe, tmp_path):
    (code, said), (other, other_said) = finish(start(["-c", FULL, *train_command(recipe)[1:]], tmp_path))
    assert (code, other != 0) == (1, True)
    assert said.splitlines()[-1] == "error: cannot write metrics.jsonl: No space left on device"
    assert other_said.splitlines()[-1] == hosts.STOPPED


@pytest.mark.slow
def test_a_signal_to_one_process_stops_both_at_a_saved_step(recipe, straight, tmp_path):
    processes = start(train_command(recipe), tmp_path)
    while not (tmp_path / "run" / "checkpoints" / "2").is_dir():
        assert [process.poll() for process in processes] == [None, None]
        time.sleep(0.05)
    processes[1].terminate()
    (code, said), (other, _) = finish(processes)
    assert (code, other) == (143, 143)
    assert re.search(r"stopped by SIGTERM at step \d", said.splitlines()[-1])
    assert [code for code, _ in finish(start(train_command(recipe), tmp_path))] == [0, 0]
    assert digest(tmp_path / "run") == digest(straight / "run")
