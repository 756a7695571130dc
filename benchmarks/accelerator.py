"""What does an accelerator make of all this? Every op against references, and the speed and memory of every part.

    python benchmarks/accelerator.py [--minutes 7.5] [--part kernels pools]

For one GPU and its host, without TensorFlow, pycocotools, a network or data sets. In order of importance:

    kernels     every implementation of corner pooling against NumPy, values and gradients
    ops         every other op against NumPy or recordings of the originals
    pools       every implementation of corner pooling against a copy of the map
    parity      released networks against recordings of the originals, at both precisions
    training    every published recipe: images/s, share of the peak, memory; types, batches, remat
    prediction  images/s of every detector, from pixels to boxes
    input       examples/s of worker processes

Each part is a process of its own and has a share of the time, with what earlier ones leave; cases for which too little
is left are skipped. What fails is a line in the results. These are written after every case, as JSON and as a page of
tables. Compilation is most of the time, so cases are compiled together; nothing is timed meanwhile.
"""

import datetime
import os
import time
from pathlib import Path
from typing import Literal

import tyro
from on_accelerator.processes import rows_of
from on_accelerator.report import Report

# The module of each part, and its share of the time.
PARTS = {
    "kernels": ("on_accelerator.kernels", 0.09),
    "ops": ("on_accelerator.ops", 0.09),
    "pools": ("on_accelerator.pools", 0.12),
    "parity": ("on_accelerator.parity", 0.09),
    "training": ("on_accelerator.training", 0.42),
    "prediction": ("on_accelerator.prediction", 0.14),
    "input": ("on_accelerator.reading", 0.05),
}
Part = Literal["kernels", "ops", "pools", "parity", "training", "prediction", "input"]


def main(
    part: tuple[Part, ...] = tuple(PARTS),  # type: ignore[assignment]
    minutes: float = 7.5,
    small: bool = False,
    out: Path = Path("benchmarks/results"),
) -> None:
    """Measure and write; see the top of the file.

    Args:
        part: what is measured.
        minutes: that all of it may take.
        small: tiny cases, once each, to see that everything runs; the times mean nothing.
        out: folder for accelerator-DATE-DEVICE.json and .md.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.92")  # of a GPU's memory; JAX takes 0.75
    end = time.monotonic() + 60 * minutes
    report = Report(out, date=datetime.date.today().isoformat(), small=small)
    waiting = [name for name in PARTS if name in part]
    while waiting:
        share = PARTS[waiting[0]][1] / sum(PARTS[name][1] for name in waiting)
        name, begun = waiting.pop(0), time.monotonic()
        report.begin(name)
        for row in rows_of(PARTS[name][0], end=begun + share * max(0, end - begun), small=small):
            if "about" in row:
                report.describe(row["about"])
                continue
            report.add(name, row)
            print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
        report.end(name, time.monotonic() - begun)
    print(f"{report.path} and {report.path.with_suffix('.md')}")


if __name__ == "__main__":
    tyro.cli(main)
