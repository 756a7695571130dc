"""Does a run that is killed end with the same bits as one that is not?

    python benchmarks/resume.py

Trains a recipe three times: straight; killed with `kill -9` at random moments, some of them while a checkpoint is being
written, the first one too, or in an evaluation, and started again each time; stopped by SIGTERM and started again.
Prints the SHA-256 of all parameters,
BatchNorm statistics and the optimiser's state after the last step of each; exits with 1 if they are not equal,
or if more was lost than the steps since the last complete checkpoint. All runs use the cores that this script may use.
"""

import dataclasses
import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import tyro

from cornerjax.checkpoint import Checkpoints

ROOT = Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Options:
    config: str = "configs/shapes.py"  # the recipe
    root: str = "shapes:0"  # its data set
    steps: int = 60
    save_steps: int = 7
    eval_steps: int = 14
    kills: int = 2  # at any moment of a step
    saves: int = 1  # kills while a checkpoint is written
    first_saves: int = 0  # kills while the first one is, one after the other
    evaluations: int = 0  # kills in an evaluation
    seed: int = 0  # of the moments; below 0: another one every time
    folder: str = "runs/resume"  # where the runs are kept; emptied first


@dataclasses.dataclass
class Run:
    """A process that trains, and what it said so far."""

    options: Options
    workdir: Path
    keep: int = 1  # checkpoints
    lines: list[str] = dataclasses.field(default_factory=list)

    def start(self, until: Callable[[str], bool] = lambda line: False) -> subprocess.Popen:
        """Train until a line on stdout is the wanted one, or to the end."""
        steps = self.options.steps
        numbers = {
            "steps": steps,
            "save-steps": self.options.save_steps,
            "eval-steps": self.options.eval_steps,
            "log-steps": 1,
            "keep": self.keep,
            "optim.warmup-steps": steps // 6,
        }
        given = {"config": self.options.config, "workdir": self.workdir, "data.root": self.options.root} | numbers
        command = [sys.executable, ROOT / "train.py", *(f"--{name}={value}" for name, value in given.items())]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.lines = []
        for line in process.stdout:
            self.lines.append(line.rstrip())
            if until(line):
                break
        return process

    def finish(self) -> None:
        process = self.start()
        if process.wait():
            raise SystemExit(f"{self.workdir}: exit code {process.returncode}: {process.stderr.read()[-2000:]}")

    def done(self) -> int:
        """The last step that was reported."""
        return max([int(found[1]) for line in self.lines if (found := re.match(r"step (\d+)/", line))], default=0)

    def resumed(self) -> int:
        """The step at which the last start began."""
        return max(
            [int(found[1]) for line in self.lines if (found := re.search(r" at step (\d+) of ", line))], default=0
        )

    def complete(self) -> int:
        """The newest complete checkpoint."""
        folders = (self.workdir / "checkpoints").glob("[0-9]*")
        return max([int(folder.name) for folder in folders if folder.name.isdigit()], default=0)

    def evaluated(self, step: int) -> bool:
        return any(f'"step": {step}, "AP"' in line for line in (self.workdir / "metrics.jsonl").open())

    def writing(self) -> bool:
        return any((self.workdir / "checkpoints").glob("*.orbax-checkpoint-tmp"))

    def digest(self, step: int = 0) -> str:
        """SHA-256 of a checkpoint's parameters, statistics and optimiser state; 0: the newest one's."""
        with Checkpoints(self.workdir, read_only=True) as checkpoints:
            step = step or checkpoints.latest()
            trees = [checkpoints.read(step, item) for item in ("weights", "optimiser")]
        leaves = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(trees)]
        return f"step {step} {hashlib.sha256(b''.join(leaves)).hexdigest()}"


def kill(run: Run, rng: random.Random, moment: str) -> bool:
    """Start the run and kill it; true if it loses no more than it may.

    Args:
        moment: "save" or "evaluation", which are waited for, or "step", a random moment of a random step.
    """
    first, every = run.complete(), run.options.eval_steps
    step = rng.randrange(first + 1, first + 2 * run.options.save_steps + 1)
    if moment == "evaluation":
        step = first // every * every + every
    elif moment == "save":
        step = first + run.options.save_steps - 1
    step = min(step, run.options.steps - 1)
    process = run.start(lambda line: line.startswith(f"step {step}/"))
    if moment == "save":
        while not run.writing() and process.poll() is None:
            time.sleep(1e-4)
    else:
        time.sleep(rng.uniform(0, 0.2))
    process.kill()
    run.lines += [line.rstrip() for line in process.stdout]
    process.wait()
    writing, complete, done = run.writing(), run.complete(), run.done()
    # What is being written now does not count, so the checkpoint before it does.
    most = run.options.save_steps * (2 if writing else 1)
    ok = process.returncode == -signal.SIGKILL and done - complete <= most
    how = "while a checkpoint was being written" if writing else "between saves"
    evaluating = moment == "evaluation" and done == step and complete < step and not run.evaluated(step)
    how = "in an evaluation" if evaluating else how
    print(f"killed after step {done}, {how}: goes on from step {complete}", flush=True)
    missed = (moment == "save" and not writing) or (moment == "evaluation" and not evaluating)
    if missed and complete < run.options.steps:  # it was over before the kill came
        return kill(run, rng, moment) and ok
    return ok


def terminate(run: Run, rng: random.Random) -> bool:
    """Start the run and send SIGTERM; true if it saves that very step and says so."""
    step = rng.randrange(1, run.options.steps - 1)
    process = run.start(lambda line: line.startswith(f"step {step}/"))
    process.send_signal(signal.SIGTERM)
    run.lines += [line.rstrip() for line in process.stdout]
    process.wait()
    print(f"exit code {process.returncode}: {run.lines[-1]}", flush=True)
    last = f"stopped by SIGTERM at step {run.complete()}, which is saved; the same command goes on from there"
    return process.returncode == 143 and run.lines[-1] == last and run.complete() == run.done()


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    seed = options.seed if options.seed >= 0 else time.time_ns() % 10**6
    rng = random.Random(seed)
    print(f"seed {seed}, {len(os.sched_getaffinity(0))} cores, {options.steps} steps, saved every {options.save_steps}")
    folder = Path(options.folder).absolute()
    shutil.rmtree(folder, ignore_errors=True)
    killed, terminated = (Run(options, folder / name) for name in ("killed", "terminated"))
    straight = Run(options, folder / "straight", keep=options.steps)
    straight.finish()
    moments = ["step"] * options.kills + ["evaluation"] * options.evaluations + ["save"] * options.saves
    rng.shuffle(moments)
    kept, equal = [], []
    for moment in ["save"] * options.first_saves + moments:
        kept.append(kill(killed, rng, moment))
        if step := killed.complete():
            equal.append(killed.digest(step) == straight.digest(step))
    print(f"{sum(equal)} of {len(equal)} times what was left is, to the bit, what the straight run had at that step")
    before = killed.complete()
    killed.finish()
    ok = all(kept) and killed.resumed() == before
    ok = terminate(terminated, rng) and ok
    terminated.finish()
    digests = [run.digest() for run in (straight, killed, terminated)]
    for name, digest in zip(("straight", "kill -9", "SIGTERM"), digests, strict=True):
        print(f"{name:9} {digest}")
    all_equal = len(set(digests)) == 1 and all(equal)
    print("equal" if all_equal else "NOT equal", "" if ok else "and more was lost than may be")
    sys.exit(0 if all_equal and ok else 1)


if __name__ == "__main__":
    main()
