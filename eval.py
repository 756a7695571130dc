"""Evaluate a run, `python eval.py --workdir runs/shapes`, or boxes that any program has found,
`python eval.py --results boxes.json --annotations instances_val.json`.

Prints COCO's twelve numbers, the false discovery rate, what each kind of error costs and the numbers of every class,
and writes a folder: metrics.json, results.json (COCO's result format, with the data set's own ids), plots and pictures.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any, Literal

import tyro

from cornerjax import cli
from cornerjax.config import InputError, Test, check, flat
from cornerjax.hosts import Hosts, joined


@dataclasses.dataclass(frozen=True)
class Eval:
    workdir: str = ""  # a folder that train.py or cornerjax.weights wrote
    results: str = ""  # instead of a run: a file of boxes in COCO's result format
    checkpoint: Literal["best", "latest"] = "best"  # the one with the highest AP, or the newest
    root: str = ""  # folder of the data set; that of the run if not given
    split: str = ""  # split to evaluate on; the one of the run's evaluations, or val, if not given
    images: str = ""  # folder of its images; that of the run, or looked for in the usual places, if not given
    annotations: str = ""  # of --results, instead of root and split: a COCO file of true boxes, no image is needed
    out: str = ""  # folder for what is written; <workdir>/eval, or <results without .json>-eval, if not given
    min_score: float = 0.0  # boxes with a lower score are dropped before anything is counted
    voc: bool = False  # PASCAL VOC's AP too
    oracles: bool = False  # the AP with the truth in place of heat maps, tags, offsets, one by one and together
    timing: int = 0  # images on which the phases of finding boxes are timed; 0: none
    pictures: int = 16  # images drawn at most
    hosts: Hosts = dataclasses.field(default_factory=Hosts)
    test: Test = dataclasses.field(default_factory=Test)  # those of the run if not given


def main() -> None:
    # The run gives the defaults of the test options, so it has to be known first.
    given, _ = tyro.cli(Eval, args=[a for a in sys.argv[1:] if a not in ("-h", "--help")], return_unknown_args=True)
    default = Eval()
    if given.workdir:
        from cornerjax.workdir import open_workdir

        default = Eval(test=open_workdir(given.workdir).config.test)
    args = cli.parse(Eval, description=__doc__, default=default)
    if bool(args.workdir) == bool(args.results):
        raise InputError("expected either --workdir, a run to evaluate, or --results, a file of boxes")
    if args.results:
        evaluate_file(args)
    else:
        with joined(args.hosts):
            evaluate_run(args)


def evaluate_run(args: Eval) -> None:
    import jax

    from cornerjax.checkpoint import open_workdir, restore_weights  # not before the options are right: it takes seconds
    from cornerjax.data.coco import open_source
    from cornerjax.detectors import get_detector
    from cornerjax.evaluation.analysis import analyse
    from cornerjax.evaluation.coco import Evaluator
    from cornerjax.evaluation.oracles import Oracle, ask_oracles, by_name, print_oracles
    from cornerjax.evaluation.pictures import draw_pictures
    from cornerjax.evaluation.report import check_folder, write_report
    from cornerjax.evaluation.tables import print_tables
    from cornerjax.evaluation.timing import measure, print_timing
    from cornerjax.evaluation.trained_on import warning
    from cornerjax.nn.functional import functional

    if args.annotations:
        raise InputError("--annotations is of --results; the true boxes of a run's images are those of --root, --split")
    if args.timing < 0:
        raise InputError(f"timing is {args.timing}; accepted is 0 or more")
    run = open_workdir(Path(args.workdir))
    config, split = dataclasses.replace(run.config, test=args.test), args.split or run.config.data.val
    detector = get_detector(config.model.detector)
    check(config)
    params, model_state, step = restore_weights(run.path, args.checkpoint)
    detector.check(config)
    # Images without boxes count, also for a run that was not trained on them.
    root, images = args.root or config.data.root, args.images or config.data.images
    source = open_source(dataclasses.replace(config.data, root=root, images=images, empty_images=True), split)
    if source.class_names != run.class_names:
        raise InputError(
            f"{source.annotation_file} has the classes {list(source.class_names)}; the run has {list(run.class_names)}"
        )
    out = Path(args.out or run.path / "eval")
    options = {"checkpoint": args.checkpoint, "annotations": str(source.annotation_file), "min_score": args.min_score}
    options |= flat(dataclasses.asdict(args.test), "test.")
    check_folder(out, options)

    apply, *_ = functional(detector.build(config.model, None))
    evaluator = Evaluator(detector, apply, config, source)
    detections = [found.above(args.min_score) for found in evaluator.find(params, model_state)]
    oracles: list[Oracle] = []
    if args.oracles:
        oracles = ask_oracles(evaluator, params, model_state, detections, detector.parts, min_score=args.min_score)
    if jax.process_index():
        return  # the first process speaks for all, which have the same boxes
    results = evaluator.results(detections)
    analysis = analyse(evaluator.ground_truth(), results, evaluator.image_ids(), voc=args.voc)
    print(f"{run.path}, step {step}, {len(source.records)} images of {split}")
    if warned := warning(run.path, source):
        print(warned)
    print_tables(analysis)
    about: dict[str, Any] = {"step": step, "split": split}
    if oracles:
        print_oracles(oracles)
        about["oracles"] = by_name(oracles)
    if args.timing:
        timing = measure(evaluator.procedure, params, model_state, source, images=args.timing)
        print_timing(timing)
        about["timing"] = dataclasses.asdict(timing)
    pictures = draw_pictures(source, detections, args.pictures)
    write_report(out, analysis, results, options=options, pictures=pictures, **about)
    print(f"written: {out}")


def evaluate_file(args: Eval) -> None:
    from cornerjax.evaluation.analysis import analyse
    from cornerjax.evaluation.report import check_folder, write_report
    from cornerjax.evaluation.results import read_ground_truth, read_results
    from cornerjax.evaluation.tables import print_tables

    if bool(args.annotations) == bool(args.root):
        raise InputError("--results needs the true boxes: either --annotations, a COCO file, or --root and --split")
    if args.oracles or args.timing:
        raise InputError("--oracles and --timing are of a run; the boxes of --results are taken as they are")
    if args.test != Test():
        raise InputError("the --test options are of a run; the boxes of --results are taken as they are")
    source = None
    if args.root:
        from cornerjax.config import Data
        from cornerjax.data.coco import open_source

        source = open_source(Data(root=args.root, images=args.images), args.split or "val")
    file = source.annotation_file if source else Path(args.annotations)
    results_file = Path(args.results)
    out = Path(args.out) if args.out else results_file.with_name(f"{results_file.stem}-eval")
    options = {"results": args.results, "annotations": str(file), "min_score": args.min_score}
    check_folder(out, options)

    ground_truth = read_ground_truth(file)
    results = [found for found in read_results(results_file, ground_truth, file) if found["score"] >= args.min_score]
    image_ids = [image["id"] for image in ground_truth["images"]]
    analysis = analyse(ground_truth, results, image_ids, voc=args.voc)
    print(f"{results_file}, {len(results)} boxes on the {len(image_ids)} images of {file}")
    print_tables(analysis)
    pictures = {}
    if source:
        from cornerjax.evaluation.coco import from_results
        from cornerjax.evaluation.pictures import draw_pictures

        pictures = draw_pictures(source, from_results(results, source), args.pictures)
    write_report(out, analysis, results, options=options, pictures=pictures)
    print(f"written: {out}")


if __name__ == "__main__":
    cli.run(main)
