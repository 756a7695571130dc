"""How good are octagons of extreme points as masks? Mask AP of a run's octagons, and of its boxes in their place.

Beside them: octagons, and boxes, of the true extreme points, which is the most that either form of mask can reach.

python eval.py --workdir RUN && python benchmarks/octagons.py RUN
"""

import json
from pathlib import Path

import numpy as np
import tyro

from cornerjax.commands.cli import run
from cornerjax.data.source import open_source
from cornerjax.detectors.octagons import octagons
from cornerjax.evaluation.compare.average_precision import average_precision
from cornerjax.evaluation.compare.entries import Detected, GroundTruth
from cornerjax.workdir import open_workdir

COLUMNS = ("AP", "AP50", "AP75")


def as_box(entry: Detected) -> Detected:
    """With its box as its mask."""
    x, y, width, height = entry["bbox"]
    corners = [x, y, x + width, y, x + width, y + height, x, y + height]
    return {**entry, "segmentation": [[float(value) for value in corners]]}


def main(workdir: tyro.conf.Positional[Path]) -> None:
    """Compare; see the top of the file.

    Args:
        workdir: an evaluated run of ExtremeNet.
    """
    opened = open_workdir(workdir)
    source = open_source(opened.config.data.for_evaluation(), opened.config.data.val)
    truth: GroundTruth = json.loads(source.annotation_file.read_bytes())
    found: list[Detected] = json.loads((workdir / "eval" / "results.json").read_text())
    true: list[Detected] = []
    for record in source.records:
        outlines = octagons(record.points["extreme_points"].astype(np.float64))
        for (x1, y1, x2, y2), label, outline in zip(record.boxes.tolist(), record.classes, outlines, strict=True):
            category_id = source.category_ids[label]
            assert category_id is not None
            box = [x1, y1, x2 - x1, y2 - y1]
            entry = Detected(image_id=record.image_id, category_id=category_id, bbox=box, score=1.0)
            true.append({**entry, "segmentation": [outline.reshape(-1).tolist()]})
    image_ids = [record.image_id for record in source.records]
    print(f"{'':28s}" + " ".join(f"{name:>6s}" for name in COLUMNS))
    for name, results, of in (
        ("boxes, of boxes", found, "bbox"),
        ("octagons, of masks", found, "segm"),
        ("boxes, of masks", [as_box(entry) for entry in found], "segm"),
        ("true octagons, of masks", true, "segm"),
        ("true boxes, of masks", [as_box(entry) for entry in true], "segm"),
    ):
        metrics, _ = average_precision(truth, results, image_ids, of=of)  # type: ignore[arg-type]
        print(f"{name:28s}" + " ".join(f"{metrics[key]:6.3f}" for key in COLUMNS), flush=True)


if __name__ == "__main__":
    run(lambda: tyro.cli(main))
