"""Evaluate a run: `python eval.py --workdir runs/shapes`.

Prints COCO's twelve numbers and the AP of every class, and writes <workdir>/eval: metrics.json, results.json (COCO's
result format, with the data set's own ids) and pictures.
"""

import dataclasses
from pathlib import Path
from typing import Literal

from cornerjax import cli
from cornerjax.config import InputError
from cornerjax.hosts import Hosts, joined


@dataclasses.dataclass(frozen=True)
class Eval:
    workdir: str  # a folder that train.py or cornerjax.weights wrote
    checkpoint: Literal["best", "latest"] = "best"  # the one with the highest AP, or the newest
    root: str = ""  # folder of the data set; that of the run if not given
    split: str = ""  # split to evaluate on; the one of the run's evaluations if not given
    images: str = ""  # folder of its images; that of the run, or looked for in the usual places, if not given
    pictures: int = 16  # images drawn at most
    hosts: Hosts = dataclasses.field(default_factory=Hosts)


def main() -> None:
    args = cli.parse(Eval, description=__doc__)
    with joined(args.hosts):
        evaluate(args)


def evaluate(args: Eval) -> None:
    import jax

    from cornerjax.checkpoint import open_workdir, restore_weights  # not before the options are right: it takes seconds
    from cornerjax.data.source import open_source
    from cornerjax.detectors import get_detector
    from cornerjax.evaluation.coco import Evaluator
    from cornerjax.evaluation.report import print_tables, write_report
    from cornerjax.evaluation.trained_on import warning
    from cornerjax.nn.functional import functional

    run = open_workdir(Path(args.workdir))
    config, split = run.config, args.split or run.config.data.val
    params, model_state, step = restore_weights(run.path, args.checkpoint)
    # Images without boxes count, also for a run that was not trained on them.
    root, images = args.root or config.data.root, args.images or config.data.images
    source = open_source(dataclasses.replace(config.data, root=root, images=images, empty_images=True), split)
    if source.class_names != run.class_names:
        raise InputError(
            f"{source.annotation_file} has the classes {list(source.class_names)}; the run has {list(run.class_names)}"
        )
    detector = get_detector(config.model.detector)
    apply, *_ = functional(detector.build(config.model, None))
    evaluator = Evaluator(detector, apply, config, source)
    result = evaluator(params, model_state)
    if jax.process_index():
        return  # the first process speaks for all, which have the same result
    print(f"{run.path}, step {step}, {len(source.records)} images of {split}")
    if warned := warning(run.path, source):
        print(warned)
    print_tables(result)
    write_report(run.path / "eval", evaluator, result, pictures=args.pictures, step=step, split=split)
    print(f"written: {run.path / 'eval'}")


if __name__ == "__main__":
    cli.run(main)
