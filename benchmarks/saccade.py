"""What do closer crops cost, and what is found in them?

packing: images a second of a CornerNet-Saccade, the crops of 1, 4 and 8 images packed together, timed in turn, with the
number of compilations. Without a run, the narrow recipe's network untrained, which takes as many crops as it may.
compare: AP, crops an image, share of the pixels and network FLOPs of a CornerNet-Saccade and of another detector on the
same images; Saccade also with the true boxes in place of its attention; a picture of both.

python benchmarks/saccade.py packing [runs/saccade_small]
python benchmarks/saccade.py compare runs/saccade_small runs/scenes_squeeze --picture saccade.jpg
"""

import dataclasses
import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import tyro
from compilations import Compilations

import cornerjax
from cornerjax.commands.cli import run
from cornerjax.config import load_recipe
from cornerjax.data.records import Source, read_image
from cornerjax.data.source import open_source
from cornerjax.detectors.base import make_network
from cornerjax.detectors.cornernet_saccade.locations import box_locations, choose_locations
from cornerjax.detectors.cornernet_saccade.options import SaccadeConfig
from cornerjax.detectors.cornernet_saccade.procedure import SaccadeProcedure, Stage
from cornerjax.detectors.rows import Detections
from cornerjax.drawing import draw_boxes, sheet
from cornerjax.evaluation.coco_format import to_results
from cornerjax.evaluation.compare.average_precision import average_precision
from cornerjax.inference.files import save_picture
from cornerjax.inference.overlays import draw, find_evidence
from cornerjax.inference.predictor import Predictor
from cornerjax.validation import replaced
from cornerjax.workdir import open_workdir

RECIPE = Path(__file__).parents[1] / "configs" / "saccade_small.py"
SHOWN = 0.4  # boxes with a lower score are left out of the picture


class Recording(SaccadeProcedure):
    """Keeps the views and crops of its last call."""

    kept: list[Stage]

    def stages(self, *args: Any, **options: Any) -> list[Stage]:
        self.kept = super().stages(*args, **options)
        return self.kept


class Oracle(Recording):
    """Crops where the true boxes are, in place of the attention."""

    true: np.ndarray  # boxes of the image of the next call

    def _next_locations(self, *_: Any, **__: Any) -> np.ndarray:
        saccade = self._config.test.saccade
        sizes: dict[str, Any] = {name: getattr(saccade, name) for name in ("box_px", "large_px", "small_px")}
        locations = box_locations(self.true, np.ones(len(self.true), np.float32), **sizes)
        return choose_locations(locations, apart_px=saccade.apart_px, num=saccade.max_crops)


def opened(workdir: Path, **test: Any) -> tuple[Predictor, Source]:
    data = dataclasses.replace(open_workdir(workdir).config.data, empty_images=True)
    return cornerjax.load(workdir, test=test), open_source(data, data.val)


def procedure_of(predictor: Predictor, kind: type[Recording]) -> Any:
    """The predictor's test procedure; where it is Saccade's, of this kind."""
    config = predictor.config
    if isinstance(config, SaccadeConfig):
        return kind(predictor.detector, predictor.apply, config)
    return predictor.procedure


def untrained(**test: Any) -> tuple[Predictor, Source]:
    """The narrow recipe's network with first weights; every place has enough attention to be cropped."""
    config = replaced(load_recipe(RECIPE), {"model.num_classes": 3, "test": {"saccade.attention": (1e-6,), **test}})
    detector, source = cornerjax.DETECTORS[config.model.detector], open_source(config.data, config.data.val)
    network = make_network(detector, config, np.random.default_rng(0))
    return Predictor(detector, *network, config, source.class_names), source


def packing(workdir: Path | None, *, packs: tuple[int, ...] = (1, 4, 8), images: int, rounds: int = 5) -> None:
    """Print images a second for each number of images packed together, as ratios to the first."""
    compilations = Compilations()
    opening = partial(opened, workdir) if workdir else untrained
    predictors = {pack: opening(batch=pack)[0] for pack in packs}
    source = opening()[1]
    loaded = [read_image(record)[..., ::-1] for record in source.records[:images]]
    for pack, predictor in predictors.items():
        before = compilations.count
        predictor(loaded)
        print(f"{pack} together: {compilations.count - before} compilations for {images} images of one size")
    times: dict[int, list[float]] = {pack: [] for pack in packs}
    before = compilations.count
    for _ in range(rounds):
        for pack, predictor in predictors.items():
            start = time.perf_counter()
            predictor(loaded)
            times[pack].append(time.perf_counter() - start)
    print(f"{compilations.count - before} compilations in {rounds * len(packs)} more passes")
    for pack in packs:
        ratios = np.array(times[packs[0]]) / np.array(times[pack])
        print(
            f"{pack} together: {np.median(ratios):.2f} x the images a second ({ratios.min():.2f} to {ratios.max():.2f})"
        )


def flops(predictor: Predictor, shape: tuple[int, ...]) -> float:
    """Of the network's forward pass for one image of this shape, by XLA's count."""
    images = jax.ShapeDtypeStruct((1, *shape, 3), np.float32)
    forward = jax.jit(partial(predictor.apply, train=False))
    return forward.lower(*predictor.weights, images).compile().cost_analysis()["flops"]


def evaluated(
    predictor: Predictor, source: Source, kind: type[Recording] = Recording
) -> Iterator[tuple[int, np.ndarray, Detections, list[int]]]:
    """Yield (index, BGR image, detections, counts) of every image.

    The counts are those of its views and of the crops of each stage; of detectors that take none there are none.
    """
    procedure = procedure_of(predictor, kind)
    for i, record in enumerate(source.records):
        image, counts = read_image(record), []
        if isinstance(procedure, Oracle):
            procedure.true = record.boxes
        bucket = procedure.bucket(*image.shape[:2])
        found = procedure(*predictor.weights, [procedure.preprocess(image)], bucket, 1)
        if isinstance(procedure, Recording):
            counts = [len(stage.image) for stage in procedure.kept]
        boxes, scores, classes = (np.asarray(part)[0] for part in found[:3])
        real = scores >= 0
        yield i, image, Detections(boxes[real], scores[real], classes[real], source.class_names), counts


def measured(name: str, predictor: Predictor, source: Source, kind: type[Recording] = Recording) -> list[Detections]:
    """Print a line of numbers; return the detections."""
    detections, crops, share, side = [], [], [], predictor.config.data.crop_px[0]
    start = time.perf_counter()
    for _, image, found, counts in evaluated(predictor, source, kind):
        detections.append(found)
        height, width = image.shape[:2]
        crops.append(sum(counts[1:]))
        padded: Any = predictor.procedure.bucket(height, width)
        share.append((sum(counts) * side**2 if counts else np.prod(padded[0])) / (height * width))
    seconds = time.perf_counter() - start
    shape = (side, side) if counts else padded[0]
    per_image = flops(predictor, shape) * (np.mean(crops) + counts[0] if counts else 1)
    truth = json.loads(source.annotation_file.read_bytes())
    metrics, _ = average_precision(truth, to_results(detections, source), [r.image_id for r in source.records])
    aps = " ".join(f"{key} {metrics[key]:.3f}" for key in ("AP", "AP50", "AP_small", "AP_medium", "AP_large"))
    print(
        f"{name:22s} {aps}; crops {np.mean(crops):.1f}, pixels {np.mean(share):.2f}, "
        f"{per_image / 1e9:.2f} GFLOP and {seconds / len(detections) * 1e3:.0f} ms an image"
    )
    return detections


def draw_sheet(path: Path, predictor: Predictor, source: Source, others: list[Detections], count: int = 4) -> None:
    """True boxes; attention and crops; boxes of Saccade; boxes of the other."""
    rows = []
    for i, image, found, _ in evaluated(predictor, source):
        if i % max(1, len(source.records) // count):
            continue
        record, names, nothing = source.records[i], source.class_names, found.above(np.inf)
        rows.append(draw_boxes(image, record.boxes, record.classes, class_names=names, title="true"))
        rows.append(draw(predictor, image, nothing, find_evidence(predictor, image), ("attention", "crops")))
        for title, boxes in (("Saccade", found), ("other", others[i])):
            kept, title = boxes.above(SHOWN), f"{title}, {SHOWN} and more"
            rows.append(draw_boxes(image, kept.boxes, kept.classes, class_names=names, scores=kept.scores, title=title))
    save_picture(path, sheet(rows, columns=4))
    print(f"written: {path}")


def compare(saccade: Path, other: Path, picture: Path | None) -> None:
    """Print a table of both detectors, and of Saccade led by the true boxes; draw them."""
    predictor, source = opened(saccade)
    measured("saccade", predictor, source)
    measured("saccade, true places", predictor, source, Oracle)
    rival, _ = opened(other)
    detections = measured(rival.config.model.detector, rival, source)
    if picture:
        draw_sheet(picture, predictor, source, detections)


def main(
    what: tyro.conf.Positional[Literal["packing", "compare"]] = "packing",
    workdirs: tyro.conf.Positional[tuple[Path, ...]] = (),
    picture: Path | None = None,
    images: int = 24,
) -> None:
    """Measure; see the top of the file.

    Args:
        what: what to measure.
        workdirs: of the trained Saccade, and for compare of the other detector.
        picture: a JPEG to draw into.
        images: that packing takes.
    """
    if what == "packing":
        packing(workdirs[0] if workdirs else None, images=images)
    elif len(workdirs) == 2:
        compare(workdirs[0], workdirs[1], picture)
    else:
        raise cornerjax.InputError(f"compare needs two work directories, got {len(workdirs)}")


if __name__ == "__main__":
    run(lambda: tyro.cli(main))
