"""The evaluation of boxes that any program has found: a file in COCO's result format. Needs no JAX."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from cornerjax.config import Compute, Data, Test
from cornerjax.data.records import Source
from cornerjax.errors import InputError
from cornerjax.evaluation.compare.analysis import analyse
from cornerjax.evaluation.compare.results import read_ground_truth, read_results
from cornerjax.evaluation.draw.page import make_page
from cornerjax.evaluation.options import Options
from cornerjax.evaluation.output import check_folder, only_evaluation, write_folder
from cornerjax.evaluation.tables.analysis import print_tables
from cornerjax.files import place_of
from cornerjax.text import number


def evaluate_results(asked: Options) -> None:
    """Evaluate the file `asked.results`, print the numbers, and write the folder `asked.out`.

    Raises: InputError: a file or an option cannot be used, or the folder is another evaluation's.
    """
    asked.check()
    if bool(asked.annotations) == bool(asked.root):
        raise InputError("--results needs the true boxes: either --annotations, a COCO file, or --root and --split")
    _refuse_what_does_nothing(asked)
    source = asked.open_source(Data(root=asked.root, images=asked.images), asked.split or "val") if asked.root else None
    file = source.annotation_file if source else Path(asked.annotations)
    results_file = Path(asked.results)
    out = place_of(asked.out or results_file.parent / f"{results_file.stem}-eval")
    options: dict[str, object] = {"results": asked.results, "annotations": str(file), "min_score": asked.min_score}
    with only_evaluation(out):
        check_folder(out, options, extras=asked.extras, inputs=[results_file, file])
        _evaluate(asked, source, file, out, options)


def _refuse_what_does_nothing(asked: Options) -> None:
    """Raises: InputError: an option is only of runs, or only of images, which --annotations does without."""
    default = Options()
    if asked.oracles or asked.timing:
        raise InputError("--oracles and --timing are of a run; the boxes of --results are taken as they are")
    if asked.test != Test() or asked.compute != Compute():
        raise InputError("--test and --compute options are of a run; the boxes of --results are taken as they are")
    for name in ("checkpoint", "allow_code"):
        if getattr(asked, name) != getattr(default, name):
            raise InputError(f"--{name.replace('_', '-')} is of a run; the boxes of --results are taken as they are")
    for name in ("split", "images", "exif", "pictures"):
        if asked.annotations and getattr(asked, name) not in (getattr(default, name), 0):
            raise InputError(f"--{name} needs images, of which --annotations reads none; --root and --split name some")


def _evaluate(asked: Options, source: Source | None, file: Path, out: Path, options: dict[str, object]) -> None:
    """As evaluate_results.

    Args:
        source: what the true boxes are of, if they are in a data set.
        file: with the true boxes.
        options: for metrics.json.
    """
    results_file = Path(asked.results)
    ground_truth = read_ground_truth(file)
    results = read_results(results_file, ground_truth, file)
    if asked.min_score:  # scores of others may be logits: those below 0 count too unless a least score is given
        results = [found for found in results if found["score"] >= asked.min_score]
    image_ids = [image["id"] for image in ground_truth["images"]]
    analysis = analyse(ground_truth, results, image_ids, voc=asked.voc)
    print(f"{results_file}, {number(len(results))} boxes on the {number(len(image_ids))} images of {file}")
    print_tables(analysis)
    page = ""
    pictures: Iterable[tuple[int, np.ndarray]] = ()
    if asked.report_images > 0:
        about = {"boxes of": results_file, "images": number(len(image_ids)), "true boxes of": file}
        about |= {"least score": asked.min_score} if asked.min_score else {}
        page = make_page(analysis, asked.report_images, about=about, source=source)
    if source:
        from cornerjax.evaluation.coco_format import from_results  # imports JAX
        from cornerjax.evaluation.draw.pictures import draw_pictures

        pictures = draw_pictures(source, from_results(results, source), asked.pictures)
    write_folder(out, analysis, results, options=options, pictures=pictures, page=page)
    print(f"written: {out}{', with report.html' if page else ''}")
