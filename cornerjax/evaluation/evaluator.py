"""A detector over a whole data set: its boxes, their COCO AP, pictures of both."""

import dataclasses
import functools
import logging
from collections.abc import Callable, Collection
from typing import cast

import jax
import numpy as np

from cornerjax.config import Config
from cornerjax.data.coco import read_annotations
from cornerjax.data.records import Source, read_image
from cornerjax.detectors.base import Detector, Truth
from cornerjax.detectors.rows import Detections
from cornerjax.devices import gather, local_copies, share
from cornerjax.errors import InputError, RunError
from cornerjax.evaluation.coco_format import to_results
from cornerjax.evaluation.compare.average_precision import Metrics, average_precision
from cornerjax.evaluation.compare.entries import Detected, GroundTruth
from cornerjax.evaluation.draw.pictures import draw_pictures
from cornerjax.inference.batching import BatchPredictor
from cornerjax.nn.functional import Tree
from cornerjax.progress import progress

log = logging.getLogger("cornerjax")


@dataclasses.dataclass(frozen=True)
class Result:
    """One evaluation.

    Attributes:
        metrics: COCO's twelve numbers by name; nan where the data set has nothing of that size.
        per_class: {class name: {"AP", "AP50"}}.
        detections: of every image, in the order of the source's records.
        results: the same in COCO's result format, as they were compared with the true boxes.
    """

    metrics: Metrics
    per_class: dict[str, Metrics]
    detections: list[Detections]
    results: list[Detected]


class Evaluator:
    """Evaluates given weights on one data set, as often as wanted; the network is compiled by the first call.

    The images are divided over the processes of a run, and those of a batch over the devices of a process.

    Args:
        detector: one of DETECTORS.
        apply: of `nn.functional`, for the network of `config.model`.
        config: `model`, `test` and `legacy` are used.
        source: images and true boxes, its classes aligned with those of the network, see data.classes; every record
            counts, with or without boxes.
    Attributes:
        source: as given.
        batches: what finds the boxes, with all that it has compiled.
    Raises: InputError: an image of the source is smaller than a cell of the network's map.
    """

    def __init__(self, detector: Detector, apply: Callable, config: Config, source: Source):
        self.source, self._round = source, config.legacy.round_results
        self._num_classes = config.model.num_classes
        most = max([1, *(len(record.classes) for record in source.records)])  # all are found where they are true
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, max_objects=most))
        self.batches = BatchPredictor(detector, apply, config, source.class_names)
        for record in source.records:
            try:
                self.batches.procedure.bucket(record.height, record.width)
            except InputError as e:
                raise InputError(f"{record.path}: {e}") from None
        self._plan = self.batches.plan([(record.height, record.width) for record in source.records])

    def __call__(self, params: Tree, model_state: Tree) -> Result:
        """Find the boxes of all images and compare them with the true ones; every process has the same result.

        Raises: InputError: an image cannot be read. RunError: another process failed. On every process.
        """
        detections = self.find(params, model_state)
        results = self.results(detections)
        metrics, per_class = average_precision(self.ground_truth, results, self.image_ids())
        return Result(metrics, per_class, detections, results)

    def find(self, params: Tree, model_state: Tree, *, true: Collection[str] = ()) -> list[Detections]:
        """The boxes of all images, in the order of the records; every process has all of them.

        Args:
            true: those of the detector's parts that are replaced by the truth; compiled once, whichever they are.
        Raises: InputError: an image cannot be read. RunError: another process failed. On every process.
        """
        params, model_state = local_copies((params, model_state))
        by_index = self._find(params, model_state, true)
        return [by_index[i] for i in range(len(self.source.records))]

    def results(self, detections: list[Detections]) -> list[Detected]:
        """The boxes in COCO's result format, as they are compared with the true ones."""
        # Differs from CornerNet: there, everything has two decimals.
        return to_results(detections, self.source, decimals=2 if self._round else None)

    @functools.cached_property
    def ground_truth(self) -> GroundTruth:
        """The content of the annotation file, read once: the same in all evaluations of a run."""
        return cast(GroundTruth, read_annotations(self.source.annotation_file))

    def image_ids(self) -> list[int]:
        """Of the images that count."""
        return [record.image_id for record in self.source.records]

    def _find(self, params: Tree, model_state: Tree, true: Collection[str]) -> dict[int, Detections]:
        """The boxes of all images by index, from all processes."""
        records, batches = self.source.records, share(self._plan)

        def load(i: int) -> np.ndarray:
            return read_image(records[i])

        def truth(i: int) -> Truth:
            known = records[i].classes < self._num_classes  # the others have no heat map
            return Truth({name: values[known] for name, values in records[i].objects.items()}, true)

        found: dict[int, Detections] = {}
        error = None
        try:
            boxes = self.batches(params, model_state, batches, load, truth if true else None)
            if jax.process_index() == 0:
                boxes = progress(boxes, total=sum(len(batch.indices) for batch in batches), what="evaluating")
            found.update(boxes)
        except Exception as e:
            error = e  # the others wait in gather, and have to know
        return _together(found, error)

    def pictures(self, result: Result, count: int) -> list[np.ndarray]:
        """Pictures of `count` images, evenly over the data set: (H, W, 3) uint8 BGR, true boxes left, found right."""
        return [picture for _, picture in draw_pictures(self.source, result.detections, count)]


def _together(found: dict[int, Detections], error: Exception | None) -> dict[int, Detections]:
    """What all processes have found; all must come here, those that have failed, too.

    Raises: the error itself, in a run of one process. With several, on every one of them: InputError: one of them had
        one, as that of an image that it cannot read. RunError: one of them failed in another way, which its log tells.
        All raise the same, as they can save what is trained together only.
    """
    failure: tuple[type[Exception], str] | None = None
    if isinstance(error, InputError):
        failure = InputError, str(error)
    elif error is not None:
        failure = RunError, f"process {jax.process_index()} failed in an evaluation: {type(error).__name__}: {error}"
    parts = gather((found, failure))
    if error is not None and len(parts) == 1:
        raise error
    for _, failure in parts:
        if failure is not None:
            kind, said = failure
            if error is not None and kind is RunError:
                log.error("an evaluation failed in this process", exc_info=error)
            raise kind(said) from error
    return {i: detections for part, _ in parts for i, detections in part.items()}
