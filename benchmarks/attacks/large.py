"""Inputs made to take time or memory: each goes to a process of its own, of which both are measured."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from .commands import make_files

MOST_S, MOST_GB = 15, 2  # CPU time, of which imports take 2 to 6, and memory
# The system counts the memory of the process that started another as that of the other; this counts its own.
COMMAND = """
import atexit, pathlib, runpy, sys
peak = lambda: next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
atexit.register(lambda: pathlib.Path(PEAK).write_text(peak().split()[1]))
runpy.run_module("cornerjax", run_name="__main__", alter_sys=True)
"""


class Taken(NamedTuple):
    """What a process took, and what is wrong with it; empty: nothing."""

    what: str
    code: int
    seconds: float
    gigabytes: float
    failure: str

    def line(self) -> str:
        """A row of a table."""
        return f"| {self.what} | {self.code} | {self.seconds:.1f} | {self.gigabytes:.2f} |"


def inputs(run: Path, folder: Path) -> dict[str, list[str]]:
    """Command lines, by what they are.

    Args:
        run: of runs.make_run.
        folder: new; for their files.
    """
    make_files(folder, run)
    described = shutil.copytree(run, folder / "described")
    config = json.loads((run / "config.json").read_text())
    config["model"]["backbone"]["stacks"] = 10**30
    (described / "config.json").write_text(json.dumps(config))
    (folder / "score.json").write_text(
        '[{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1%s}]' % ("0" * 400)
    )
    for levels in (26, 45):
        (folder / f"{levels}.pth").write_bytes(nested(levels))
    views(folder / "views.pth")
    truth = str(run.parent / "shapes" / "annotations" / "instances_val.json")
    out, work = ["--out", "out"], ["--workdir", str(run)]
    convert = ["weights", "--detector", "cornernet", *out, "--source"]
    train = ["train", "--config", "tiny.py", "--workdir", "new"]
    return {
        ".pth, 26 tuples in tuples": [*convert, "26.pth"],
        ".pth, 45 tuples in tuples": [*convert, "45.pth"],
        ".pth, 300 views of 8 MB": [*convert, "views.pth"],
        "PNG of 30,000 x 30,000 px, --max-side 500": ["predict", "huge.png", *work, *out, "--max-side", "500"],
        "a pipe named pipe.jpg": ["predict", "pipe.jpg", *work, *out],
        "camera: with 30 digits": ["predict", "camera:" + "9" * 30, *work, *out],
        "lists 100,000 deep as annotations": ["eval", "--results", "score.json", "--annotations", "deep.json"],
        "lists 100,000 deep as results": ["eval", "--results", "deep.json", "--annotations", truth],
        "score of 10^400": ["eval", "--results", "score.json", "--annotations", truth],
        "config.json with 10^30 stacks": ["eval", "--workdir", "described"],
        "eval --pictures 1000000": ["eval", *work, *out, "--pictures", "1000000"],
        "--test.scales 100000": [*train, "--test.scales", "100000"],
        "--test.peak-window 99999": [*train, "--test.peak-window", "99999"],
        "--data.max-objects 10^9": [*train, "--data.max-objects", "1000000000"],
        "--data.workers 10^9": [*train, "--data.workers", "1000000000"],
    }


def measure(what: str, words: list[str], folder: Path) -> Taken:
    """Run a command in a folder: it has to work or to be refused, within the limits and without a traceback."""
    peak = folder / "peak"
    peak.unlink(missing_ok=True)
    command = [sys.executable, "-c", COMMAND.replace("PEAK", repr(str(peak))), *words]
    with (folder / "said").open("w+") as said:
        process = subprocess.Popen(command, cwd=folder, stdout=said, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read()
    seconds = usage.ru_utime + usage.ru_stime
    gigabytes = int(peak.read_text()) * 1024 / 1e9 if peak.exists() else float("inf")
    failure = ""
    if process.returncode not in (0, 2) or "Traceback" in text:
        failure = f"exit code {process.returncode}, said {text[-500:]!r}"
    elif seconds > MOST_S or gigabytes > MOST_GB:
        failure = "more than it may take"
    return Taken(what, process.returncode, seconds, gigabytes, failure)


def nested(levels: int) -> bytes:
    """A pickle as torch.save once wrote it: a dict whose key is a tuple of twice the same tuple, and so on."""
    memo = [bytes([1 + i % 200]) for i in range(levels + 1)]
    tuples = b"".join(b"h" + memo[i] + b"h" + memo[i] + b"\x86q" + memo[i + 1] + b"0" for i in range(levels))
    content = b"\x80\x02X\x01\x00\x00\x00a\x85q" + memo[0] + b"0" + tuples + b"}h" + memo[levels] + b"K\x01s."
    sizes = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    head = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, sizes)]
    return b"".join(head) + content + pickle.dumps([], 2)


def views(path: Path) -> None:
    """A file of 8 MB whose 300 tensors are 2.4 GB."""
    import torch

    stored = torch.zeros(2_000_000)
    torch.save({f"key {i}": stored[:] for i in range(300)}, path)
