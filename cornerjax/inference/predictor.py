"""Photos in, boxes out: a trained network behind one call."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, overload

import jax
import numpy as np
from jaxtyping import UInt8

from cornerjax.checkpoint import open_workdir, restore_weights
from cornerjax.config import Config, Test, check
from cornerjax.data.images import load_image
from cornerjax.detectors import get_detector
from cornerjax.detectors.base import Detections, Detector, Finder
from cornerjax.errors import InputError
from cornerjax.inference.procedure import THREADS, Procedure
from cornerjax.nn.functional import functional
from cornerjax.workdir import refuse_code

Photo = str | os.PathLike[str] | np.ndarray


class Predictor:
    """A detector with its weights; `predictor(photo)` finds the boxes in it.

    Args:
        detector: one of DETECTORS.
        apply, params, model_state: of `nn.functional`, or restored.
        config: `model`, `test` and `legacy` are used.
        class_names: name of each class.
    Attributes:
        apply, config, class_names: as given.
        weights: params and model_state, on the device.
        finder: the test procedure, see detectors.base.Finder.
        procedure: batches of images through the finder.
    """

    def __init__(
        self,
        detector: Detector,
        apply: Callable,
        params: dict[str, Any],
        model_state: dict[str, Any],
        config: Config,
        class_names: Sequence[str],
    ):
        self.apply, self.config, self.class_names = apply, config, tuple(class_names)
        self.weights: tuple[dict[str, Any], dict[str, Any]] = jax.device_put((params, model_state))
        self.procedure = Procedure(detector, apply, config, class_names)
        self.finder: Finder = self.procedure.finder
        self._forward = jax.jit(lambda params, state, images: apply(params, state, images, train=False)[0][-1])

    @overload
    def __call__(self, photos: Photo) -> Detections: ...
    @overload
    def __call__(self, photos: list[Photo] | tuple[Photo, ...]) -> list[Detections]: ...
    def __call__(self, photos):
        """Find the boxes in a photo, or in each of a list.

        Args:
            photos: a path, an (H, W, 3) uint8 RGB array, or a list of these. A file is turned as its EXIF data says
                and may be grey or have an alpha channel, which is left out.
        Returns: Detections, in pixels of the (turned) photo; for a list, a list in the same order.
        Raises: InputError: a file is missing or no image, an array has another form, a photo is smaller than a cell
            of the network's map.
        """
        if not isinstance(photos, (list, tuple)):
            return self([photos])[0]
        with ThreadPoolExecutor(THREADS) as pool:
            images = list(pool.map(as_bgr, photos))
        for photo, image in zip(photos, images, strict=True):
            self.check_size(image, photo)
        batches = self.procedure.plan([image.shape[:2] for image in images])
        found = dict(self.procedure(*self.weights, batches, images.__getitem__))
        return [found[i] for i in range(len(images))]

    def forward(self, images: jax.Array | np.ndarray) -> dict[str, Any]:
        """The network alone: the raw maps of its last stack, heat maps as logits.

        Args:
            images: BGR, `(image / 255 - MEAN) / STD` with the constants of `ops.pixels`, of a size that the network
                takes, as the detector's input_size gives it.
        Returns: (b, h, w, c) arrays by name: "tl_heat", "br_heat", "tl_tag", "br_tag", "tl_off" and "br_off" for
            detectors of corners, others have names of their own.
        Raises: ValueError: the network does not take images of this size, shape or type.
        """
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.float32:
            raise ValueError(
                f"images must have the shape (b, H, W, 3) and type float32, got {images.shape}, {images.dtype}"
            )
        return self._forward(*self.weights, images)

    def check_size(self, image: np.ndarray, photo: Photo) -> None:
        """Raises: InputError: the image of the photo is smaller than a cell of the network's map."""
        try:
            self.finder.bucket(*image.shape[:2])
        except InputError as e:
            raise InputError(f"{e} ({photo})" if not isinstance(photo, np.ndarray) else str(e)) from None


def load(
    workdir: str | os.PathLike[str],
    *,
    checkpoint: Literal["best", "latest"] = "best",
    test: Test | None = None,
    allow_code: bool = False,
) -> Predictor:
    """Open a training run as a Predictor.

    Args:
        workdir: a folder that cornerjax train or cornerjax weights wrote.
        checkpoint: the one with the highest AP, or the newest.
        test: the way from maps to boxes; None: that of the run.
        allow_code: import the functions that the run's config.json names; only for a folder that you trust.
    Raises: InputError: the folder is not there, is no work directory or has no checkpoint; it names code, which is not
        allowed; test has numbers that cannot be used.
    """
    run = open_workdir(Path(workdir))
    refuse_code(run, allow_code=allow_code)
    config = run.config if test is None else dataclasses.replace(run.config, test=test)
    detector = get_detector(config.model.detector)
    apply, *_ = functional(detector.build(config.model, None))
    params, model_state, _ = restore_weights(run.path, checkpoint)
    check(config)
    detector.check(config)
    return Predictor(detector, apply, params, model_state, config, run.class_names)


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
