"""Photos in, boxes out: a trained network behind one call."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, overload

import jax
import numpy as np
from jaxtyping import UInt8

from cornerjax.config import Config
from cornerjax.data.images import load_image
from cornerjax.detectors import check
from cornerjax.detectors.base import (
    Detector,
    Inspection,
    Maps,
    TestProcedure,
    make_predictor_network,
    variable_shapes,
)
from cornerjax.detectors.rows import Detections
from cornerjax.devices import local_copies, on_first
from cornerjax.errors import InputError, named
from cornerjax.inference.batching import BatchPredictor
from cornerjax.nn.functional import Tree
from cornerjax.text import short
from cornerjax.validation import replaced
from cornerjax.workdir import open_workdir, trusted_config

Photo = str | os.PathLike[str] | np.ndarray


class Predictor:
    """A detector with its weights; `predictor(photo)` finds the boxes in it.

    Args:
        detector: one of DETECTORS.
        apply, params, model_state: of `nn.functional`, or restored.
        config: `model`, `test` and `legacy` are used.
        class_names: name of each class.
    Attributes:
        detector, apply, config, class_names: as given.
        weights: params and model_state, on the first device.
        copies: the same on all devices of this process, which divide batches between them.
        batches: batches of images through the test procedure.
        procedure: the test procedure, see detectors.base.TestProcedure.
    """

    def __init__(
        self,
        detector: Detector,
        apply: Callable,
        params: Tree,
        model_state: Tree,
        config: Config,
        class_names: Sequence[str],
    ):
        self.detector, self.apply, self.config, self.class_names = detector, apply, config, tuple(class_names)
        self.copies: tuple[Tree, Tree] = local_copies(jax.device_put((params, model_state)))
        self.weights: tuple[Tree, Tree] = on_first(self.copies)
        self.batches = BatchPredictor(detector, apply, config, class_names)
        self.procedure: TestProcedure = self.batches.procedure
        self._forward = jax.jit(lambda params, state, images: apply(params, state, images, train=False)[0][-1])

    @overload
    def __call__(self, photos: Photo, min_score: float = 0.0) -> Detections: ...
    @overload
    def __call__(self, photos: list[Photo] | tuple[Photo, ...], min_score: float = 0.0) -> list[Detections]: ...
    def __call__(self, photos, min_score=0.0):
        """Find the boxes in a photo, or in each of a list.

        Args:
            photos: a path, an (H, W, 3) uint8 RGB array, or a list of these. A file is turned as its EXIF data says
                and may be grey or have an alpha channel, which is left out.
            min_score: from 0 to 1; boxes with a lower score are left out; with 0 there are up to test.max_detections,
                most of them of low scores and wrong.
        Returns: Detections, in pixels of the (turned) photo; for a list, a list in the same order.
        Raises: InputError: a file is missing or no image, an array has another form, a photo is smaller than a cell
            of the network's map.
        """
        if isinstance(photos, (list, tuple)):
            return list(self.in_order(photos, min_score))
        (found,) = self.in_order([photos], min_score)
        return found

    def in_order(self, photos: Iterable[Photo], min_score: float = 0.0) -> Iterator[Detections]:
        """Find the boxes in one photo after the other, of which few are in memory at a time.

        Args:
            photos, min_score: as of a call; the photos may come from a generator.
        Returns: an iterator of Detections, in the order of the photos.
        Raises: InputError: as of a call; of a photo when its turn comes, which ends the iterator.
        """
        if isinstance(photos, (str, os.PathLike)):
            raise InputError(f"in_order takes several photos, such as a list of paths; got one path, {photos}")
        if not 0 <= min_score <= 1:
            raise InputError(f"min_score is {short(min_score)}; accepted is 0 to 1")
        return self._in_order(photos, min_score)

    def _in_order(self, photos: Iterable[Photo], min_score: float) -> Iterator[Detections]:
        def load(photo: Photo) -> np.ndarray | InputError:
            try:
                image = as_bgr(photo)
                self.check_size(image, photo)
            except InputError as e:
                return e
            return image

        wait = 0
        if isinstance(photos, (list, tuple)):
            if all(isinstance(photo, np.ndarray) for photo in photos):  # in memory anyway, so that batches may be full
                wait = len(photos)
        else:  # a generator may fill the same array again while it runs ahead
            photos = (photo.copy() if isinstance(photo, np.ndarray) else photo for photo in photos)
        for one in self.batches.in_order(*self.copies, photos, load, lambda image: image, wait=wait):
            if isinstance(one, InputError):
                raise one
            yield one[1].above(min_score)

    def forward(self, images: jax.Array | np.ndarray) -> Maps:
        """The network alone: the raw maps of its last stack, heat maps as logits.

        Args:
            images: BGR, `(image / 255 - MEAN) / STD` with the constants of `ops.pixels`, of a size that the network
                takes, as the detector's input_size gives it.
        Returns: (b, h, w, c) arrays by name; of each of the detector's keypoints "NAME_heat" and, if it has offsets,
            "NAME_off", and what else the detector has.
        Raises: ValueError: the network does not take images of this size, shape or type.
        """
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.float32:
            raise ValueError(
                f"images must have the shape (b, H, W, 3) and type float32, got {images.shape}, {images.dtype}"
            )
        return self._forward(*self.weights, images)

    def inspect(self, image: UInt8[np.ndarray, "H W 3"]) -> Inspection:
        """The maps that the boxes of a BGR image are made from; the network runs once more for them."""
        return self.procedure.inspect(*self.weights, image)

    def check_size(self, image: np.ndarray, photo: Photo) -> None:
        """Raises: InputError: the image of the photo is smaller than a cell of the network's map."""
        try:
            self.procedure.bucket(*image.shape[:2])
        except InputError as e:
            raise InputError(f"{e} ({photo})" if not isinstance(photo, np.ndarray) else str(e)) from None


def load(
    workdir: str | os.PathLike[str],
    *,
    checkpoint: Literal["best", "latest"] = "best",
    test: Mapping[str, Any] | None = None,
    compute: Mapping[str, Any] | None = None,
    allow_code: bool = False,
) -> Predictor:
    """Open a training run as a Predictor.

    Args:
        workdir: a folder that cornerjax train or cornerjax weights wrote.
        checkpoint: the one with the highest AP, or the newest.
        test: what is to differ from the run's way from maps to boxes: options by name, such as {"flip": True}.
        compute: what is to differ from how the run computed its network, such as {"precision": "highest"}.
        allow_code: import functions that the run's configuration names, such as a pooling of its own, which runs code:
            only for runs that you trust.
    Raises: InputError: the folder is not there, is no work directory or has no checkpoint; an option cannot be used;
        the run names a function to import, and that is not allowed; the weights do not fit the network.
    """
    from cornerjax.checkpoint import restore_weights  # imports orbax, which weights of PyTorch do without

    if not str(workdir):  # to Path it is the current folder
        raise InputError("the work directory is an empty path; expected a folder that cornerjax train wrote")
    run = open_workdir(Path(workdir))
    config = replaced(trusted_config(run, allow_code=allow_code), {"test": test or {}, "compute": compute or {}})
    detector = check(config)
    params, model_state, step = restore_weights(run.path, checkpoint, shapes=lambda: checked_shapes(detector, config))
    apply, fold = make_predictor_network(detector, config)
    with named(f"{run.path}, step {step}"):
        weights = fold(params, model_state)
    return Predictor(detector, apply, *weights, config, run.class_names)


def checked_shapes(detector: Detector, config: Config) -> dict[str, tuple[int, ...]]:
    """variable_shapes of a configuration.

    Raises: InputError: as of Detector.check.
    """
    detector.check(config)
    return variable_shapes(detector, config.model)


def as_bgr(photo: Photo) -> UInt8[np.ndarray, "H W 3"]:
    """The image of a path or an RGB array.

    Raises: InputError: see Predictor.
    """
    if isinstance(photo, (str, os.PathLike)):
        return load_image(photo)
    image = np.asarray(photo)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise InputError(
            f"expected a path or an RGB image of shape (H, W, 3) and type uint8, got shape {image.shape}, {image.dtype}"
        )
    return image[..., ::-1]
