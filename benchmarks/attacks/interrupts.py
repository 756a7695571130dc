"""Ctrl-C and SIGTERM at any moment of a training run's start: it ends soon, and without a traceback."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from .outcome import Outcome

START_S = 14  # within which a signal comes: imports, data, compilation, first steps
# The second ones are those of a process that the signal itself ends, as in its first moments.
CODES = {signal.SIGINT: (130, -signal.SIGINT), signal.SIGTERM: (143, -signal.SIGTERM)}


def attack(recipe: Path, folder: Path, count: int, draws: random.Random) -> Outcome:
    """Interrupt so many runs, each once.

    Args:
        recipe: trains for longer than a run is given here.
        folder: for the work directories.
    """
    outcome = Outcome("interrupts", str(folder), limit_s=60)
    for number in range(count):
        kind, moment = draws.choice(list(CODES)), draws.uniform(0.05, START_S)
        command = [sys.executable, "-m", "cornerjax", "train", "--config", str(recipe), "--steps", "100000"]
        command += ["--workdir", str(folder / str(number))]
        with outcome.trial(f"{kind.name} after {moment:.2f} s"):
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            time.sleep(moment)
            process.send_signal(kind)
            said, _ = process.communicate(timeout=50)
            if process.returncode not in CODES[kind] or "Traceback" in said:
                raise AssertionError(f"exit code {process.returncode}, said {said[-500:]!r}")
    return outcome
