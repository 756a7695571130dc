"""A detector over a whole data set: its boxes, their COCO AP, pictures of both."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from cornerjax import drawing
from cornerjax.cli import progress
from cornerjax.config import Config, InputError
from cornerjax.data.records import Source, read_image
from cornerjax.detectors.base import Detections, Detector
from cornerjax.devices import gather, local_copies, share
from cornerjax.evaluation.average_precision import average_precision
from cornerjax.inference.procedure import Procedure

SHOWN_SCORE = 0.5  # boxes below are left out of pictures: a sure corner paired with a doubtful one scores a little less


@dataclasses.dataclass(frozen=True)
class Result:
    """One evaluation.

    Attributes:
        metrics: COCO's twelve numbers by name; nan where the data set has nothing of that size.
        per_class: {class name: {"AP", "AP50"}}.
        detections: of every image, in the order of the source's records.
        results: the same in COCO's result format, as they were compared with the true boxes.
    """

    metrics: dict[str, float]
    per_class: dict[str, dict[str, float]]
    detections: list[Detections]
    results: list[dict[str, Any]]


class Evaluator:
    """Evaluates given weights on one data set, as often as wanted; the network is compiled by the first call.

    The images are divided over the processes of a run, and those of a batch over the devices of a process.

    Args:
        detector: one of DETECTORS.
        apply: of `nn.functional`, for the network of `config.model`.
        config: `model`, `test` and `legacy` are used.
        source: images and true boxes; every record counts, with or without boxes.
    Raises: InputError: an image of the source is smaller than a cell of the network's map.
    """

    def __init__(self, detector: Detector, apply: Callable, config: Config, source: Source):
        self.source, self._round = source, config.legacy.round_results
        self._procedure = Procedure(detector, apply, config, source.class_names, devices=jax.local_device_count())
        for record in source.records:
            try:
                self._procedure.finder.bucket(record.height, record.width)
            except InputError as e:
                raise InputError(f"{record.path}: {e}") from None
        self._batches = self._procedure.plan([(record.height, record.width) for record in source.records])

    def __call__(self, params: dict[str, Any], model_state: dict[str, Any]) -> Result:
        """Find the boxes of all images and compare them with the true ones; every process has the same result.

        Raises: InputError: an image cannot be read; on every process.
        """
        records = self.source.records
        by_index = self._find(*local_copies((params, model_state)))
        detections = [by_index[i] for i in range(len(records))]
        ground_truth = json.loads(self.source.annotation_file.read_bytes())
        # Differs from CornerNet: there, everything has two decimals.
        results = coco_results(detections, self.source, decimals=2 if self._round else None)
        metrics, per_class = average_precision(ground_truth, results, [record.image_id for record in records])
        return Result(metrics, per_class, detections, results)

    def _find(self, params: dict[str, Any], model_state: dict[str, Any]) -> dict[int, Detections]:
        """The boxes of all images by index, from all processes."""
        records, batches = self.source.records, share(self._batches)
        found: dict[int, Detections] = {}
        failure = ""
        try:
            boxes = self._procedure(params, model_state, batches, lambda i: read_image(records[i]))
            if jax.process_index() == 0:
                boxes = progress(boxes, total=sum(len(batch.indices) for batch in batches), what="evaluating")
            found.update(boxes)
        except InputError as e:
            failure = str(e)  # the others wait in gather, and have to know
        parts = gather((found, failure))
        for _, failure in parts:
            if failure:
                raise InputError(failure)
        return {i: detections for part, _ in parts for i, detections in part.items()}

    def pictures(self, result: Result, count: int) -> list[np.ndarray]:
        """Pictures of `count` images, evenly over the data set: (H, W, 3) uint8 BGR, true boxes left, found right."""
        return [self.picture(result, i) for i in self.shown(count)]

    def shown(self, count: int) -> list[int]:
        """Which records `pictures` shows: their indices, always the same ones."""
        total = len(self.source.records)
        return sorted({i * total // count for i in range(count)}) if count > 0 else []

    def picture(self, result: Result, index: int) -> np.ndarray:
        """The picture of one record."""
        record, names = self.source.records[index], self.source.class_names
        image, found = read_image(record), result.detections[index].above(SHOWN_SCORE)
        true = drawing.draw_boxes(image, record.boxes, record.classes, class_names=names, title="true")
        mine = drawing.draw_boxes(
            image,
            found.boxes,
            found.classes,
            class_names=names,
            scores=found.scores,
            title=f"found, {SHOWN_SCORE} and more",
        )
        return drawing.sheet([true, mine], columns=2)


def coco_results(detections: list[Detections], source: Source, *, decimals: int | None = None) -> list[dict[str, Any]]:
    """COCO's result format, with the file's own image and category ids.

    Args:
        decimals: x, y, width, height and score are rounded so; None: not at all.
    Source: CornerNet, db/coco.py, convert_to_coco, which rounds to two.
    """
    results = []
    for record, found in zip(source.records, detections, strict=True):
        xywh = np.concatenate([found.boxes[:, :2], found.boxes[:, 2:] - found.boxes[:, :2]], axis=1)
        for box, score, label in zip(xywh.tolist(), found.scores.tolist(), found.classes.tolist(), strict=True):
            if decimals is not None:
                *box, score = (float(f"{value:.{decimals}f}") for value in (*box, score))
            results.append(
                {
                    "image_id": record.image_id,
                    "category_id": source.category_ids[label],
                    "bbox": box,
                    "score": score,
                }
            )
    return results
