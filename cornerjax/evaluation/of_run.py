"""The whole evaluation of a run: its boxes on a data set, and everything that is said of them."""

import contextlib
import dataclasses
from pathlib import Path

import jax

from cornerjax.checkpoint import restore_weights
from cornerjax.config import Config, differences
from cornerjax.data.classes import align_classes, class_differences
from cornerjax.data.records import Source
from cornerjax.data.source import refuse_to_fetch
from cornerjax.detectors import check
from cornerjax.detectors.base import make_predictor_network
from cornerjax.devices import by_first
from cornerjax.errors import InputError, named
from cornerjax.evaluation.compare.analysis import analyse
from cornerjax.evaluation.draw.page import make_page
from cornerjax.evaluation.draw.pictures import draw_pictures
from cornerjax.evaluation.evaluator import Evaluator
from cornerjax.evaluation.options import Options
from cornerjax.evaluation.oracles import by_name, evaluate_oracles
from cornerjax.evaluation.output import check_folder, only_evaluation, write_folder
from cornerjax.evaluation.tables.analysis import print_tables
from cornerjax.evaluation.tables.oracles import print_oracles
from cornerjax.evaluation.tables.timing import print_timing
from cornerjax.evaluation.timing import measure
from cornerjax.evaluation.trained_on import warning
from cornerjax.files import place_of, user_cache
from cornerjax.inference.predictor import Predictor, checked_shapes
from cornerjax.text import number, plain
from cornerjax.validation import flat
from cornerjax.workdir import Workdir, open_workdir, runnable_here, trusted_config

NOTHING_FOUND = "no boxes were found: every true object counts as missed"


def evaluate_run(asked: Options) -> None:
    """Evaluate a run, print the numbers, and write the folder `asked.out`.

    Raises: InputError: the run, the data set or an option cannot be used, or the folder is another evaluation's.
        RunError: the weights cannot be read.
    """
    with contextlib.ExitStack() as until_the_end:
        _evaluate(asked, until_the_end)


def _evaluate(asked: Options, until_the_end: contextlib.ExitStack) -> None:
    if asked.annotations:
        raise InputError("--annotations is of --results; the true boxes of a run's images are those of --root, --split")
    asked.check()
    run = open_workdir(Path(asked.workdir))
    trusted = trusted_config(run, allow_code=asked.allow_code)
    config = dataclasses.replace(trusted, test=asked.test, compute=asked.compute)
    if asked.compute.pooling_implementation == run.config.compute.pooling_implementation:  # nobody asked for it here
        config = runnable_here(config)
        asked = dataclasses.replace(asked, compute=config.compute)
    detector, split = check(config), asked.split or config.data.val
    params, model_state, step = restore_weights(
        run.path, asked.checkpoint, shapes=lambda: checked_shapes(detector, config)
    )
    source = _source(run, asked, split)
    out, options = place_of(asked.out or run.path / "eval"), _options(run, asked, source, split)

    def take_folder() -> None:
        if not asked.out and (run.path / "eval").is_symlink():
            raise InputError(f"{run.path / 'eval'} is a link, through which nothing is written unless --out names it")
        until_the_end.enter_context(only_evaluation(out))
        check_folder(out, options, extras=asked.extras, inputs=[source.annotation_file])

    by_first(take_folder)  # it alone writes; where it may not, all end

    apply, fold = make_predictor_network(detector, config)
    evaluator = Evaluator(detector, apply, config, source)
    with named(f"{run.path}, step {step}"):
        weights = fold(params, model_state)
    detections = [found.above(asked.min_score) for found in evaluator.find(*weights)]
    oracles = []
    if asked.oracles:
        oracles = evaluate_oracles(evaluator, *weights, detections, detector.parts, min_score=asked.min_score)
    if jax.process_index():
        return  # the first process speaks for all, which have the same boxes; `hosts.joined` waits for it
    results = evaluator.results(detections)
    analysis = analyse(evaluator.ground_truth, results, evaluator.image_ids(), voc=asked.voc)
    print(f"{run.path}, step {number(step)}, {number(len(source.records))} images of {plain(split)}")
    nothing = "" if results else NOTHING_FOUND
    said = [note for note in (warning(run.path, source), nothing) if note]
    print("\n".join(said), end="\n" if said else "")
    print_tables(analysis)
    more: dict[str, object] = {"step": step, "split": split}
    if oracles:
        print_oracles(oracles)
        more["oracles"] = by_name(oracles)
    if asked.timing:
        timing = measure(evaluator.batches, *weights, source, images=asked.timing)
        print_timing(timing)
        more["timing"] = dataclasses.asdict(timing)
    page = ""
    if asked.report_images > 0:
        about = _about(run, config, asked, source, step, split)
        notes = said + [note for note in [class_differences(source, run.class_names, run.path)] if note]
        predictor = Predictor(detector, apply, *weights, config, run.class_names)
        page = make_page(analysis, asked.report_images, about=about, notes=notes, source=source, predictor=predictor)
    pictures = draw_pictures(source, detections, asked.pictures)
    write_folder(out, analysis, results, options=options, pictures=pictures, page=page, **more)
    print(f"written: {out}{', with report.html' if page else ''}")


def _source(run: Workdir, asked: Options, split: str) -> Source:
    """Images without boxes count, also for a run that was not trained on them."""
    data = run.config.data
    root = asked.root or data.root
    # A set of TFDS has its images itself; that option of the run is of the folder that it was trained on.
    images = asked.images or ("" if root.startswith("tfds:") else data.images)
    if not asked.root:
        refuse_to_fetch(root, run.path / "config.json")
    source = asked.open_source(dataclasses.replace(data.for_evaluation(), root=root, images=images), split)
    return align_classes(source, run.class_names, run.path)


def _options(run: Workdir, asked: Options, source: Source, split: str) -> dict[str, object]:
    """What decides the numbers, by name, for metrics.json."""
    boxes = source.annotation_file
    # Of another user the same boxes lie in another cache.
    known_as = f"{asked.root or run.config.data.root} {split}" if boxes.is_relative_to(user_cache()) else str(boxes)
    options: dict[str, object] = {"checkpoint": asked.checkpoint, "annotations": known_as, "min_score": asked.min_score}
    options["exif"] = "turn" if all(record.turned for record in source.records) else "ignore"
    return options | flat(asked.test, "test.") | flat(asked.compute, "compute.")


def _about(run: Workdir, config: Config, asked: Options, source: Source, step: int, split: str) -> dict[str, object]:
    """What stands at the head of report.html."""
    about = {"run": run.path, "step": number(step), "split": split, "images": number(len(source.records))}
    about["true boxes of"] = source.annotation_file
    if changed := differences(run.config, config):
        about["options (run, here)"] = "; ".join(changed)
    return about | ({"least score": asked.min_score} if asked.min_score else {})
