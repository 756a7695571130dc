"""The check from start to end: read the annotations, read the images, measure, report, draw."""

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from cornerjax.check.annotations import Split, read_split
from cornerjax.check.examples import Examples, choose, note_fit
from cornerjax.check.figures import compare_classes, figures_of, note_counts, table
from cornerjax.check.findings import Findings
from cornerjax.check.images import compare_pictures, find_unlisted, inspect_split
from cornerjax.check.pictures import draw_samples
from cornerjax.config import Config
from cornerjax.detectors import check
from cornerjax.detectors.base import Detector
from cornerjax.errors import InputError
from cornerjax.files import is_file, json_if_there, only_one, remove_leftovers, sha256_of, write_atomically
from cornerjax.inference.batching import BatchPredictor

REPORT, SAMPLES = "report.json", "samples.jpg"


def check_set(config: Config, names: Sequence[str], *, recipe: str, out: Path, samples: int) -> Findings:
    """Check a data set: print what is in it and what is wrong with it, and write report.json and samples.jpg.

    Args:
        config: what it is to be trained with; data.root and data.images say where it is.
        names: of the splits; training uses the first.
        recipe: how the configuration is called in what is printed.
        out: folder to write, made if missing.
        samples: training examples drawn; 0: no picture.
    Raises: InputError: the set cannot be opened, the configuration makes no sense, or `out` cannot be written.
    """
    with only_check(out):
        refuse_to_replace(out)
        return _check_set(config, names, recipe=recipe, out=out, samples=samples)


def _check_set(config: Config, names: Sequence[str], *, recipe: str, out: Path, samples: int) -> Findings:
    detector, findings = check(config), Findings()
    given = list(dict.fromkeys(names))  # a recipe may evaluate on what it trains on
    named = zip(given, told_apart(given), strict=True)
    splits = [read_split(config.data, split, findings, name) for split, name in named]
    config = _with_classes(config, len(splits[0].categories))
    detector.check(config)
    examples = Examples(splits[0], config, detector)
    files = [inspect_split(split, None if i else examples.measure, findings) for i, split in enumerate(splits)]
    fits = {record.image_id: file.fit for record, file in zip(splits[0].records, files[0], strict=True) if file.fit}
    compare_pictures(splits, files, findings)
    find_unlisted(splits, findings)
    note_counts(splits, config, findings)
    compare_classes(splits, findings)
    evaluated = [split for split, name in zip(splits, given, strict=True) if name in names[1:]]
    note_sizes(evaluated, config, detector, findings)
    figures = [figures_of(split) for split in splits]
    report = {
        "root": config.data.root,
        "recipe": recipe,
        "splits": {split.name: dataclasses.asdict(of_split) for split, of_split in zip(splits, figures, strict=True)},
        "epoch": note_fit(splits[0], fits, findings),
        "findings": findings.as_json(),
    }
    picture = b""
    if chosen := choose(examples, fits, samples):
        picture = draw_samples(examples, chosen, list(splits[0].categories.values()))
        report["samples"] = hashlib.sha256(picture).hexdigest()
    try:
        out.mkdir(parents=True, exist_ok=True)
        remove_leftovers(out)
        # In this order refuse_to_replace knows what is there as ours, wherever the disk is full or the process killed.
        (out / SAMPLES).unlink(missing_ok=True)
        write_atomically(out / REPORT, json.dumps(report, indent=1))
        if picture:
            write_atomically(out / SAMPLES, picture)
    except OSError as e:
        raise InputError(f"cannot write {out}: {e.strerror}") from None
    (height, width), stride = config.data.crop_px, detector.stride(config.model)
    cells = f"crops of {width}x{height} px, a cell of the map covers {stride}x{stride} px"
    print(f"{config.data.root} for {recipe}: {cells}\n")
    for split, of_split in zip(splits, figures, strict=True):
        print(table(split, of_split, config), end="\n\n")
    print("\n".join(finding.line() for finding in findings.sorted()))
    print(f"\nwritten: {out / REPORT}" + (f", {out / SAMPLES}" if picture else ""))
    print(findings.verdict())
    return findings


def told_apart(splits: Sequence[str]) -> list[str]:
    """What each split is called: the name of its file, or the path, as given, where two files have the same name."""
    names = [Path(split).stem.removeprefix("instances_") for split in splits]
    return [name if names.count(name) == 1 else split for name, split in zip(names, splits, strict=True)]


@contextlib.contextmanager
def only_check(out: Path) -> Iterator[None]:
    """Keep other checks from writing a folder meanwhile.

    Raises: InputError: one is at it, or nothing can be written there.
    """
    with contextlib.ExitStack() as stack:
        busy = f"another check is going to write {out}; wait for it, or give another --out"
        try:
            stack.enter_context(only_one(out / ".check.cornerjax-lock", busy))
        except OSError as e:
            raise InputError(f"cannot write {out}: {e.strerror}") from None
        yield


def note_sizes(splits: Sequence[Split], config: Config, detector: Detector, findings: Findings) -> None:
    """Note the images that an evaluation refuses as too small or too large for the network, before it begins."""
    procedure = BatchPredictor(detector, _no_network, config, ()).procedure
    for split in splits:
        unfit = []
        for record in split.records:
            try:
                procedure.bucket(record.height, record.width)
            except InputError as e:
                unfit.append(f"{split.label(record)}: {e}")
        findings.add("error", "image", "that no evaluation takes", unfit)


def _no_network(*_: object) -> NoReturn:
    raise AssertionError("only sizes are asked for")


def refuse_to_replace(out: Path) -> None:
    """What lies in the way of the files must be an earlier check's.

    Raises: InputError: naming what it is.
    """
    there = [out / name for name in (REPORT, SAMPLES) if os.path.lexists(out / name)]
    if not there:
        return
    earlier = json_if_there(out / REPORT)
    if not isinstance(earlier, dict) or not {"root", "recipe", "splits", "findings"} <= earlier.keys():
        raise InputError(f"{there[0]} is there and no check wrote it; --out names another folder")
    samples = out / SAMPLES
    if os.path.lexists(samples) and not (is_file(samples) and sha256_of(samples) == earlier.get("samples")):
        raise InputError(f"{samples} is there and no check wrote it; --out names another folder")


def _with_classes(config: Config, number: int) -> Config:
    if config.model.num_classes not in (0, number):
        raise InputError(f"model.num_classes is {config.model.num_classes}, the data set has {number}; leave it 0")
    return dataclasses.replace(config, model=dataclasses.replace(config.model, num_classes=max(number, 1)))
