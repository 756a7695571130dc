"""Two processes train together and one of them is killed: does the other end, and does the run go on as if nothing was?

    python benchmarks/hosts.py [--victim 1] [--seed 0]

The shapes recipe for 60 steps, two processes with one CPU device each: once straight; once with kill -9 to one of them
at a random moment, and then the same two commands again. Prints how long the other lived on, its exit code and last
sentence, and the SHA-256 of all parameters of both runs; ends with exit code 1 if they are not equal.
"""

import dataclasses
import hashlib
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import tyro

from cornerjax.checkpoint import restore_weights

ROOT = Path(__file__).parents[1]
OPTIONS = [
    *("--steps", "60", "--optim.warmup-steps", "20", "--save-steps", "5"),
    *("--log-steps", "10", "--eval-steps", "0", "--keep", "1"),
]


@dataclasses.dataclass(frozen=True)
class Options:
    """What to kill, and where the runs are kept."""

    victim: int = 1  # index of the process; 0 is the one that the others hold on to
    seed: int = 0  # of the moment
    folder: Path = Path("runs/hosts")  # emptied first


def start(workdir: Path, port: int) -> list[subprocess.Popen]:
    """Both processes, their output in `workdir`.<index>.txt."""
    workdir.parent.mkdir(parents=True, exist_ok=True)
    processes = []
    for i in range(2):
        hosts = ["--hosts.coordinator", f"localhost:{port}", "--hosts.count", "2", "--hosts.index", str(i)]
        command = [sys.executable, str(ROOT / "train.py"), "--config", str(ROOT / "configs" / "shapes.py")]
        with output(workdir, i).open("w") as out:
            processes.append(
                subprocess.Popen(
                    [*command, "--workdir", str(workdir), *OPTIONS, *hosts],
                    stdout=out,
                    stderr=out,
                    env=os.environ | {"JAX_PLATFORMS": "cpu"},
                )
            )
    return processes


def output(workdir: Path, index: int) -> Path:
    """What a process said."""
    return workdir.with_name(f"{workdir.name}.{index}.txt")


def finish(processes: list[subprocess.Popen], workdir: Path) -> None:
    """Wait for both; shows what they said if one failed."""
    codes = [process.wait() for process in processes]
    if any(codes):
        sys.exit("\n".join(output(workdir, i).read_text() for i in range(2)))


def digest(workdir: Path) -> str:
    """SHA-256 of all parameters and statistics of the newest checkpoint."""
    params, model_state, step = restore_weights(workdir, "latest")
    leaves = [np.array(step), *map(np.asarray, jax.tree.leaves((params, model_state)))]
    return hashlib.sha256(b"".join(leaf.tobytes() for leaf in leaves)).hexdigest()


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    shutil.rmtree(options.folder, ignore_errors=True)
    with socket.create_server(("localhost", 0)) as server:
        port = server.getsockname()[1]

    straight, killed = options.folder / "straight", options.folder / "killed"
    began = time.monotonic()
    processes = start(straight, port)
    while not (straight / "checkpoints" / "5").is_dir() and processes[0].poll() is None:
        time.sleep(0.1)
    first = time.monotonic() - began  # before its first checkpoint, a run only starts anew
    finish(processes, straight)
    whole = time.monotonic() - began
    print(f"straight: {whole:.0f} s, the first checkpoint after {first:.0f} s")

    processes = start(killed, port)
    while not (killed / "checkpoints" / "5").is_dir() and processes[0].poll() is None:
        time.sleep(0.1)
    time.sleep(random.Random(options.seed).uniform(0, 0.5 * (whole - first)))  # half: this run may be faster
    processes[options.victim].kill()
    since = time.monotonic()
    code = processes[1 - options.victim].wait()
    print(f"process {options.victim} killed; the other ended after {time.monotonic() - since:.1f} s, exit code {code}")
    time.sleep(0.5)  # its last sentence comes from a shell that outlives it
    for i in range(2):
        lines = output(killed, i).read_text().splitlines()
        told = [line for line in lines if line.startswith("step ")]
        print(f"  process {i}: {f'{told[-1].split()[1]}, ' if told else ''}{lines[-1]}")

    finish(start(killed, port), killed)
    print("  " + next(line for line in output(killed, 0).read_text().splitlines() if line.startswith("resuming")))
    hashes = [digest(straight), digest(killed)]
    for name, sha in zip(("straight", "killed and resumed"), hashes, strict=True):
        print(f"{name}: {sha}")
    print("equal" if len(set(hashes)) == 1 else "not equal")
    sys.exit(len(set(hashes)) - 1)


if __name__ == "__main__":
    main()
