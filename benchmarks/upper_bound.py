"""How much can a detector find at all? COCO AP of a data set with every output true, so without any network.

What is missing to 1 is lost between true maps and boxes: corners beyond top_k, objects of one class with corners in the
same cells, boxes cut at the last pixel, boxes that non-maximum suppression takes for others.

python benchmarks/upper_bound.py FOLDER [--split val]
"""

import dataclasses
from functools import partial
from typing import Any

import jax.numpy as jnp
import tyro

from cornerjax.commands.cli import run
from cornerjax.config import Config, Data, Model
from cornerjax.data.source import open_source
from cornerjax.detectors import DETECTORS
from cornerjax.evaluation.compare.average_precision import average_precision
from cornerjax.evaluation.evaluator import Evaluator
from cornerjax.evaluation.oracles import COLUMNS

NAMES = ("cornernet", "cornernet_squeeze")  # those that look once


def nothing(stride: int, model: Model, params: dict, model_state: dict, images: Any, *, train: bool) -> tuple:
    """Maps of zeros, in place of a network's."""
    b, height, width = images.shape[:3]
    cells = (b, (height + 1) // stride, (width + 1) // stride)
    sizes = {"heat": model.num_classes, "tag": 1, "off": 2}
    return [{f"{c}_{kind}": jnp.zeros((*cells, n)) for c in ("tl", "br") for kind, n in sizes.items()}], model_state


def main(root: tyro.conf.Positional[str], split: str = "val", top_k: tuple[int, ...] = (20, 100, 200)) -> None:
    """Print AP; see the top of the file.

    Args:
        root: of a data set.
        split: of it.
        top_k: corners taken from each heat map.
    """
    source = open_source(Data(root=root), split)
    print(f"{len(source.records)} images, {sum(len(record.classes) for record in source.records)} boxes")
    for name in NAMES:
        detector = DETECTORS[name]
        model = dataclasses.replace(detector.defaults, num_classes=len(source.class_names))
        for k in top_k:
            # Each corner is in the true place once: other scales and mirrored images would find the same again.
            test = dataclasses.replace(detector.test_defaults, top_k=k, flip=False, max_pairs=1000, batch=2)
            apply = partial(nothing, detector.stride(model), model)
            evaluator = Evaluator(detector, apply, Config(model=model, test=test), source)
            results = evaluator.results(evaluator.find({}, {}, true=detector.parts))
            metrics, _ = average_precision(evaluator.ground_truth(), results, evaluator.image_ids())
            print(f"{name:18s} top_k {k:3d} " + " ".join(f"{key} {metrics[key]:.3f}" for key in COLUMNS), flush=True)


if __name__ == "__main__":
    run(lambda: tyro.cli(main))
