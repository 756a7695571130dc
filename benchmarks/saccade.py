"""What does looking closer cost, and what does it find?

packing: images a second of a CornerNet-Saccade, the looks of 1, 4 and 8 images packed together, timed in turn, with the
number of compilations. Without a run, the narrow recipe's network untrained, which looks at as much as it may.
compare: AP, looks an image, share of the pixels and network FLOPs of a CornerNet-Saccade and of another detector on the
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
from cornerjax.detectors.saccades import Round, Saccades
from cornerjax.ops.locations import box_locations, choose_locations

import cornerjax
from cornerjax.checkpoint import open_workdir
from cornerjax.commands.cli import run
from cornerjax.config import load_recipe
from cornerjax.data.records import Source, read_image
from cornerjax.data.source import open_source
from cornerjax.detectors.rows import Detections
from cornerjax.drawing import draw_attention, draw_boxes, draw_crops, sheet
from cornerjax.evaluation.coco_format import to_results
from cornerjax.evaluation.compare.average_precision import average_precision
from cornerjax.inference.files import save_picture
from cornerjax.inference.overlays import find_evidence
from cornerjax.inference.predictor import Predictor
from cornerjax.nn.functional import functional

RECIPE = Path(__file__).parents[1] / "configs" / "saccade_small.py"
SHOWN = 0.4  # boxes with a lower score are left out of the picture


class Oracle(Saccades):
    """Looks where the true boxes are, in place of the attention."""

    true: list[np.ndarray]  # of the images of the next call

    def _places(self, seen: Round, image: int, size: tuple[int, int], threshold: float, *, first: bool) -> np.ndarray:
        saccade, boxes = self._config.test.saccade, self.true[image]
        kinds = {"box_px": saccade.box_px, "large_px": saccade.large_px, "small_px": saccade.small_px}
        places = box_locations(boxes, np.ones(len(boxes), np.float32), **kinds)
        return choose_locations(places, apart_px=saccade.apart_px, num=saccade.max_crops)


def opened(workdir: Path, **test: Any) -> tuple[Predictor, Source]:
    run = open_workdir(workdir)
    data = dataclasses.replace(run.config.data, empty_images=True)
    predictor = cornerjax.load(workdir, test=dataclasses.replace(run.config.test, **test))
    return predictor, open_source(data, data.val)


def finder_of(predictor: Predictor, kind: type[Saccades] | None = None) -> Any:
    config = predictor.config
    detector = cornerjax.DETECTORS[config.model.detector]
    return kind(detector, predictor.apply, config) if kind else predictor.finder


def untrained(**test: Any) -> tuple[Predictor, Source]:
    """The narrow recipe's network with first weights; every place has enough attention to be looked at."""
    config = load_recipe(RECIPE)
    saccade = dataclasses.replace(config.test.saccade, attention=(1e-6,))
    model = dataclasses.replace(config.model, num_classes=3)
    config = dataclasses.replace(config, model=model, test=dataclasses.replace(config.test, saccade=saccade, **test))
    detector = cornerjax.DETECTORS[model.detector]
    weights = functional(detector.build(model, np.random.default_rng(0)))
    source = open_source(config.data, config.data.val)
    return Predictor(detector, *weights, config, source.class_names), source


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
    predictor: Predictor, source: Source, kind: type[Saccades] | None = None
) -> Iterator[tuple[int, np.ndarray, Detections, list[Round]]]:
    """Yield (index, BGR image, detections, rounds) of every image; detectors that look once have no rounds."""
    finder = finder_of(predictor, kind)
    for i, record in enumerate(source.records):
        image = read_image(record)
        bucket = finder.bucket(*image.shape[:2])
        rounds: list[Round] = []
        if isinstance(finder, Saccades):
            if isinstance(finder, Oracle):
                finder.true = [record.boxes]
            found, rounds = finder.trace(*predictor.weights, [image], bucket, 1)
        else:
            found = finder(*predictor.weights, [finder.prepare(image)], bucket, 1)
        boxes, scores, classes = (np.asarray(part)[0] for part in found)
        real = scores >= 0
        yield i, image, Detections(boxes[real], scores[real], classes[real], source.class_names), rounds


def measured(name: str, predictor: Predictor, source: Source, kind: type[Saccades] | None = None) -> list[Detections]:
    """Print a line of numbers; return the detections."""
    detections, looks, share = [], [], []
    start = time.perf_counter()
    for _, image, found, rounds in evaluated(predictor, source, kind):
        detections.append(found)
        height, width = image.shape[:2]
        side = predictor.config.data.crop_px[0]
        count = sum(len(seen.image) for seen in rounds)
        looks.append(count - (len(rounds[0].image) if rounds else 0))
        padded = predictor.finder.bucket(height, width)
        share.append(count * side**2 / (height * width) if rounds else np.prod(padded[0]) / (height * width))
    seconds = time.perf_counter() - start
    shape = (side, side) if rounds else padded[0]
    per_image = flops(predictor, shape) * (np.mean(looks) + len(rounds[0].image) if rounds else 1)
    truth = json.loads(source.annotation_file.read_bytes())
    metrics, _ = average_precision(truth, to_results(detections, source), [r.image_id for r in source.records])
    aps = " ".join(f"{key} {metrics[key]:.3f}" for key in ("AP", "AP50", "AP_small", "AP_medium", "AP_large"))
    print(
        f"{name:22s} {aps}; crops {np.mean(looks):.1f}, pixels {np.mean(share):.2f}, "
        f"{per_image / 1e9:.2f} GFLOP and {seconds / len(detections) * 1e3:.0f} ms an image"
    )
    return detections


def draw(path: Path, predictor: Predictor, source: Source, others: list[Detections], count: int = 4) -> None:
    """True boxes; attention and crops; boxes of Saccade; boxes of the other."""
    rows = []
    for i, image, found, _ in evaluated(predictor, source):
        if i % max(1, len(source.records) // count):
            continue
        record, names = source.records[i], source.class_names
        evidence = find_evidence(predictor, image)
        looks = draw_crops(draw_attention(image, evidence.attention), evidence.crops)
        rows.append(draw_boxes(image, record.boxes, record.classes, class_names=names, title="true"))
        rows.append(looks)
        for title, boxes in (("Saccade", found), ("other", others[i])):
            kept = boxes.above(SHOWN)
            options = {"class_names": names, "scores": kept.scores, "title": f"{title}, {SHOWN} and more"}
            rows.append(draw_boxes(image, kept.boxes, kept.classes, **options))
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
        draw(picture, predictor, source, detections)


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
