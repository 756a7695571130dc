"""Check a data set before training on it: `cornerjax check --root PATH/TO/FOLDER --config configs/points_small.py`.

Reads every annotation and every image, prints everything that is wrong with them, and draws training examples with
their targets. Exit code 0: training can start; 1: there are errors to be corrected first; 2: the set cannot be opened.
"""

import dataclasses
import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from cornerjax.commands.cli import parse, require
from cornerjax.config import Config, load_recipe
from cornerjax.errors import InputError
from cornerjax.files import cut, place_of
from cornerjax.text import short

MOST_SAMPLES = 1000  # in one picture


@dataclasses.dataclass(frozen=True)
class Check:
    root: str  # folder of the data set, or tfds:NAME or tfds:DIR
    config: str = ""  # recipe to train it with; CornerNet-Squeeze as published if not given
    splits: tuple[str, ...] = ()  # splits to check, the one to train on first; those of the recipe if not given
    images: str = ""  # folder of the images; searched for in the usual places if not given
    # folder for report.json and samples.jpg; runs/check/<name of the data set>-<number of its place> if not given
    out: str = ""
    samples: int = 12  # training examples drawn; 0: no picture


def main(args: Sequence[str]) -> None:
    options = parse(Check, args, prog="cornerjax check", description=__doc__)
    require(options, "root")
    if not 0 <= options.samples <= MOST_SAMPLES:
        raise InputError(f"--samples is {short(options.samples)}; accepted is 0 to {MOST_SAMPLES}")

    if options.images and options.root.startswith("tfds:"):
        raise InputError(f"--images is of folders; the images of {options.root} lie in its own files")

    from cornerjax.check.run import check_set

    config = load_recipe(options.config) if options.config else published_squeeze()
    # A set of TFDS has its images itself; that option of a recipe is of folders.
    images = options.images or ("" if options.root.startswith("tfds:") else config.data.images)
    data = dataclasses.replace(config.data, root=options.root, images=images)
    findings = check_set(
        dataclasses.replace(config, data=data),
        options.splits or (data.train, data.val),
        recipe=options.config or "CornerNet-Squeeze as published (--config names another recipe)",
        out=Path(options.out) if options.out else default_folder(options.root),
        samples=options.samples,
    )
    sys.exit(1 if findings.has_errors() else 0)


def default_folder(root: str) -> Path:
    """Another one for each data set, also for two of the same name."""
    place = place_of(root.removeprefix("tfds:"))
    number = hashlib.sha256(os.fsencode(place)).hexdigest()[:8]
    return Path("runs/check") / f"{cut(place.name, 200)}-{number}"


def published_squeeze() -> Config:
    """What is assumed if no recipe is given: its maps have the stride of most recipes."""
    from cornerjax.detectors import get_detector

    squeeze = get_detector("cornernet_squeeze")
    return squeeze.defaults
