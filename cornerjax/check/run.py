"""The check from start to end: read the annotations, read the images, measure, report, draw."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from cornerjax.check.annotations import read_split
from cornerjax.check.examples import Examples, choose, note_fit
from cornerjax.check.figures import compare_classes, figures_of, note_counts, table
from cornerjax.check.findings import Findings
from cornerjax.check.images import compare_pictures, find_unlisted, inspect_split
from cornerjax.check.pictures import draw_samples
from cornerjax.config import Config
from cornerjax.detectors import check
from cornerjax.errors import InputError


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
    detector, findings = check(config), Findings()
    splits = [read_split(config.data, name, findings) for name in names]
    config = _with_classes(config, len(splits[0].categories))
    detector.check(config)
    examples = Examples(splits[0], config, detector)
    files = [inspect_split(split, None if i else examples.measure, findings) for i, split in enumerate(splits)]
    fits = {record.image_id: file.fit for record, file in zip(splits[0].records, files[0], strict=True) if file.fit}
    compare_pictures(splits, files, findings)
    find_unlisted(splits, findings)
    note_counts(splits, config, findings)
    compare_classes(splits, findings)
    figures = [figures_of(split) for split in splits]
    report = {
        "root": config.data.root,
        "recipe": recipe,
        "splits": {split.name: dataclasses.asdict(of_split) for split, of_split in zip(splits, figures, strict=True)},
        "epoch": note_fit(splits[0], fits, findings),
        "findings": findings.as_json(),
    }
    chosen = choose(examples, fits, samples)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "report.json").write_text(json.dumps(report, indent=1))
        if chosen:
            class_names = list(splits[0].categories.values())
            draw_samples(out / "samples.jpg", examples, chosen, class_names)
    except OSError as e:
        raise InputError(f"cannot write {out}: {e.strerror}") from None
    (height, width), stride = config.data.crop_px, detector.stride(config.model)
    cells = f"crops of {width}x{height} px, a cell of the map covers {stride}x{stride} px"
    print(f"{config.data.root} for {recipe}: {cells}\n")
    for split, of_split in zip(splits, figures, strict=True):
        print(table(split, of_split, config), end="\n\n")
    print("\n".join(finding.line() for finding in findings.sorted()))
    print(f"\nwritten: {out / 'report.json'}" + (f", {out / 'samples.jpg'}" if chosen else ""))
    print(findings.verdict())
    return findings


def _with_classes(config: Config, number: int) -> Config:
    if config.model.num_classes not in (0, number):
        raise InputError(f"model.num_classes is {config.model.num_classes}, the data set has {number}; leave it 0")
    return dataclasses.replace(config, model=dataclasses.replace(config.model, num_classes=max(number, 1)))
