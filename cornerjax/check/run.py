"""The check from start to end: read, look, measure, tell, draw."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from cornerjax.check.annotations import read_split
from cornerjax.check.examples import Examples, choose, tell_fit
from cornerjax.check.figures import compare_classes, figures_of, table, tell_counts
from cornerjax.check.findings import Findings
from cornerjax.check.images import compare_pictures, find_unnamed, look_at_split
from cornerjax.check.pictures import draw_samples
from cornerjax.config import Config, check
from cornerjax.detectors import get_detector
from cornerjax.errors import InputError


def check_set(config: Config, names: Sequence[str], *, recipe: str, out: Path, samples: int) -> Findings:
    """Look at a data set, print what is in it and what is wrong with it, and write report.json and samples.jpg.

    Args:
        config: what it is to be trained with; data.root and data.images say where it is.
        names: of the splits; training uses the first.
        recipe: how the configuration is called in what is printed.
        out: folder to write, made if missing.
        samples: training examples drawn; 0: no picture.
    Raises: InputError: there is nothing to look at, the configuration makes no sense, or `out` cannot be written.
    """
    check(config)
    detector, findings = get_detector(config.model.detector), Findings()
    splits = [read_split(config.data, name, findings) for name in names]
    config = _with_classes(config, len(splits[0].categories))
    detector.check(config)
    examples = Examples(splits[0], config, detector)
    seen = [look_at_split(split, None if i else examples.measure, findings) for i, split in enumerate(splits)]
    compare_pictures(splits, seen, findings)
    find_unnamed(splits, findings)
    tell_counts(splits, config, findings)
    compare_classes(splits, findings)
    figures = {split.name: figures_of(split) for split in splits}
    report = {
        "root": config.data.root,
        "recipe": recipe,
        "splits": figures,
        "epoch": tell_fit(splits[0], seen[0], examples, findings),
        "findings": findings.as_json(),
    }
    chosen = choose(splits[0], seen[0], examples, samples)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "report.json").write_text(json.dumps(report, indent=1))
        if chosen:
            class_names = list(splits[0].categories.values())
            draw_samples(out / "samples.jpg", examples, detector, chosen, class_names)
    except OSError as e:
        raise InputError(f"cannot write {out}: {e.strerror}") from None
    (height, width), stride = config.data.crop_px, detector.stride(config.model)
    cells = f"crops of {width}x{height} px, a cell of the map is {stride} px of them"
    print(f"{config.data.root} for {recipe}: {cells}\n")
    for split in splits:
        print(table(split, figures[split.name], config), end="\n\n")
    print("\n".join(finding.line() for finding in findings.sorted()))
    print(f"\nwritten: {out / 'report.json'}" + (f", {out / 'samples.jpg'}" if chosen else ""))
    print(findings.verdict())
    return findings


def _with_classes(config: Config, number: int) -> Config:
    if config.model.num_classes not in (0, number):
        raise InputError(f"model.num_classes is {config.model.num_classes}, the data set has {number}; leave it 0")
    return dataclasses.replace(config, model=dataclasses.replace(config.model, num_classes=max(number, 1)))
