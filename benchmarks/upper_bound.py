"""How much can a detector find at all? COCO AP of a data set with every output true, so without any network.

What is missing to 1 is lost between true maps and boxes: corners beyond top_k, objects of one class with corners in the
same cells, boxes cut at the last pixel, boxes that non-maximum suppression takes for others.

python benchmarks/upper_bound.py FOLDER [--split val]
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import tyro

from cornerjax.commands.cli import run
from cornerjax.config import Config, Data
from cornerjax.data.source import open_source
from cornerjax.detectors import DETECTORS
from cornerjax.detectors.base import Detector, make_network
from cornerjax.evaluation.compare.average_precision import average_precision
from cornerjax.evaluation.evaluator import Evaluator
from cornerjax.evaluation.oracles import COLUMNS
from cornerjax.validation import replaced

NAMES = [name for name, detector in DETECTORS.items() if detector.procedure is None]  # one look at the whole image


def nothing(detector: Detector, config: Config) -> Any:
    """The apply function of a network whose maps are all zero; it needs no weights."""
    network, *weights = make_network(detector, config, None)
    forms = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), weights)

    def apply(params: dict, model_state: dict, images: Any, *, train: bool) -> tuple:
        outputs, _ = jax.eval_shape(partial(network, train=train), *forms, images)
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), outputs), model_state

    return apply


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
        for k in top_k:
            # Each corner is in the true place once: other scales and mirrored images would find the same again.
            test = {"top_k": k, "flip": False, "batch": 2}
            test |= {"max_pairs": 1000} if hasattr(detector.defaults.test, "max_pairs") else {}
            config = replaced(detector.defaults, {"model.num_classes": len(source.class_names), "test": test})
            evaluator = Evaluator(detector, nothing(detector, config), config, source)
            results = evaluator.results(evaluator.find({}, {}, true=detector.parts))
            metrics, _ = average_precision(evaluator.ground_truth, results, evaluator.image_ids())
            print(f"{name:18s} top_k {k:3d} " + " ".join(f"{key} {metrics[key]:.3f}" for key in COLUMNS), flush=True)


if __name__ == "__main__":
    run(lambda: tyro.cli(main))
