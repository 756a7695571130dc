"""An attack on everything that reads what others have written.

    python benchmarks/attack.py --seed 1

Damages annotation files, descriptions of runs and checkpoints, gives odd command lines, and kills a run while it trains
and saves. Each trial has to be refused in one short sentence, or to work; what does neither is printed, and the exit
code is 1. So is what takes more than 15 s or 2 GB of inputs made for that. The same seed gives the same attack.
"""

import dataclasses
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import tyro

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from attacks import annotations, checkpoints, commands, descriptions, interrupts, large
from attacks.outcome import Outcome
from attacks.runs import make_run, make_set

SHOWN = 10  # failures of a kind that are printed


@dataclasses.dataclass(frozen=True)
class Options:
    seed: int = 0
    annotations: int = 3000  # damaged annotation files
    commands: int = 300  # command lines
    descriptions: int = 500  # damaged config.json and run.json
    checkpoints: int = 100  # damaged checkpoints of runs, and as many of PyTorch
    interrupts: int = 10  # Ctrl-C and SIGTERM while a run starts
    kills: int = 20  # of a run that trains; 0: none


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = make_run(folder)
        attacks: list[Callable[[random.Random], Outcome]] = [
            lambda draws: annotations.attack(annotations.make_set(folder / "set"), options.annotations, draws),
            lambda draws: descriptions.attack(run, folder / "described", options.descriptions, draws),
            lambda draws: checkpoints.attack_data(run, folder / "damaged", options.checkpoints, draws),
            lambda draws: checkpoints.attack_torch(folder / "torch", options.checkpoints, draws),
            lambda draws: commands.attack(run, folder / "commands", options.commands, draws),
            lambda draws: interrupts.attack(
                commands.write_recipe(folder, make_set(folder)), folder / "interrupted", options.interrupts, draws
            ),
        ]
        failures = 0
        for number, attack in enumerate(attacks):
            begun = time.perf_counter()
            outcome = attack(random.Random(f"{options.seed} {number}"))
            print(f"{outcome.line()}; {time.perf_counter() - begun:.0f} s", flush=True)
            for failure in outcome.failures[:SHOWN]:
                print(f"  {failure}")
            failures += len(outcome.failures)
        print(f"memory at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB", flush=True)
        failures += measure_large(run, folder / "large")
        failures += kill(options, folder)
    sys.exit(1 if failures else 0)


def measure_large(run: Path, folder: Path) -> int:
    """Print what inputs take that are made to take much; how many of them take too much."""
    print("\n| input | exit code | CPU-s | GB |\n|---|---|---|---|", flush=True)
    failures = []
    for what, words in large.inputs(run, folder).items():
        taken = large.measure(what, words, folder)
        print(taken.line(), flush=True)
        failures += [f"  {what}: {taken.failure}"] if taken.failure else []
    print("\n".join(failures))
    return len(failures)


def kill(options: Options, folder: Path) -> int:
    """Kill a run again and again; 1 if it ends with other bits than one that nobody killed."""
    if not options.kills:
        return 0
    recipe = commands.write_recipe(folder, make_set(folder))
    tenth = options.kills // 10
    moments = {"saves": 2 * tenth, "first-saves": tenth, "evaluations": tenth}
    given = {"kills": options.kills - sum(moments.values()), **moments, "seed": options.seed, "config": recipe}
    given |= {
        "steps": 3 * 3 * options.kills,
        "save-steps": 3,
        "eval-steps": 6,
        "root": folder / "shapes",
        "folder": folder / "runs",
    }
    words = [f"--{name}={value}" for name, value in given.items()]
    script = Path(__file__).with_name("resume.py")
    return int(subprocess.run([sys.executable, str(script), *words], check=False).returncode > 0)


if __name__ == "__main__":
    main()
