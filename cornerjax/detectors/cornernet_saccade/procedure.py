"""The test procedure of CornerNet-Saccade: views of whole images, then crops of the places that hold something.

Both are crops of one size. Those of all images go through the network together, in batches of one fixed size: nothing
is compiled twice, and an image with few places costs little. The last batch is filled up, as is that of one image.
"""

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Float32, Int

from cornerjax.data.geometry import Affine
from cornerjax.detectors.base import Detector, Image, InputMaps, Inspection, Targets, Truth
from cornerjax.detectors.cornernet_saccade import on_device
from cornerjax.detectors.cornernet_saccade.locations import attention_locations, box_locations, choose_locations
from cornerjax.detectors.cornernet_saccade.options import SaccadeConfig
from cornerjax.detectors.cornernet_saccade.windows import Windows, crop_windows, cut_crops, placements, view_locations
from cornerjax.detectors.rows import Candidates, Found
from cornerjax.detectors.truth import make_targets, place
from cornerjax.devices import beside, copies, over_devices
from cornerjax.errors import InputError

MOST_PX = 64_000_000  # of the images taken together


class Preprocessed(NamedTuple):
    """An image, and what is true of it if that is to take the place of predictions."""

    image: Image
    truth: Truth | None


class Stage(NamedTuple):
    """The crops that were taken at the same time, of all images, and what was found in them; a row a crop."""

    image: Int[np.ndarray, "n"]  # which image of the batch it shows
    locations: Float[np.ndarray, "n _"]  # y, x, scale, and score if it was chosen for one
    windows: Windows
    found: Candidates  # boxes in pixels of the image
    attention: list[Float32[np.ndarray, "n _ _"]]  # the peaks of each map, the coarsest first; 0 elsewhere


class SaccadeProcedure:
    """Finds boxes by cropping; base.TestProcedure says what each method is.

    Args:
        detector: its `decode`, `input_size` and `stride` are used.
        apply: of `nn.functional`, for the network of `config.model`.
        config: `model`, `data.crop_px`, `test` and `legacy` are used.
    Source: CornerNet-Lite, core/test/cornernet_saccade.py.
    """

    def __init__(self, detector: Detector, apply: Callable, config: SaccadeConfig):
        self._detector, self._apply, self._config = detector, apply, config
        self._side = config.data.crop_px[0]
        self.cut: Callable[..., Any] = over_devices(partial(cut_crops, side=self._side), whole=1)
        self.find: Callable[..., Any] = over_devices(partial(on_device.find, detector, apply, config), whole=2)
        self.select: Callable[..., Found] = jax.jit(partial(on_device.select_from, detector, config))
        self._maps: Callable[..., Any] = jax.jit(partial(on_device.forward, apply))

    def bucket(self, height: int, width: int) -> tuple[int, int]:
        """The size of the array that an image lies in.

        Raises: InputError: the shorter side of the image is less than a cell in the largest view.
        """
        stride, view = self._detector.stride(self._config.model), max(self._config.test.saccade.view_px)
        if min(height, width) * view < stride * max(height, width):
            least = -(-stride * max(height, width) // view)
            raise InputError(
                f"image of {width}x{height} pixels: both sides must be at least {least}, one cell of the network's map"
            )
        return self._detector.input_size(height, width, self._config.model)

    def rows(self, bucket: tuple[int, int], largest: int) -> int:
        return max(1, min(largest, MOST_PX // (bucket[0] * bucket[1])))  # the network sees crops only

    def preprocess(self, image: Image, truth: Truth | None = None) -> Preprocessed:
        return Preprocessed(image, truth)

    def __call__(
        self, params: dict, model_state: dict, images: Sequence[Preprocessed], bucket: tuple[int, int], rows: int
    ) -> Found:
        truths = [one.truth for one in images if one.truth]
        sizes = [(one.image.shape[0], one.image.shape[1]) for one in images]
        stages = self.stages(
            params, model_state, self._padded([one.image for one in images], bucket, rows), sizes, truths
        )
        return self.select(self._together(stages, rows), self._limits(sizes, rows))

    def in_phases(self, phase: Callable[[str, Callable], Callable]) -> "SaccadeProcedure":
        network = phase("network", over_devices(partial(on_device.forward, self._apply), whole=2))
        decode = phase("decode", over_devices(partial(on_device.decode, self._detector, self._config), whole=0))
        other = copy.copy(self)
        other.cut, other.select = phase("cut", self.cut), phase("NMS", self.select)
        other.find = lambda params, state, crops, *rest: decode(network(params, state, crops), crops, *rest)
        return other

    def inspect(self, params: dict, model_state: dict, image: Image) -> Inspection:
        """Every view and crop, and the attention of the largest view."""
        (height, width), side, inputs = image.shape[:2], self._side, []
        padded = self._padded([image], self.bucket(height, width), 1)
        stages = self.stages(params, model_state, padded, [(height, width)])
        crops = [np.zeros((0, 4), np.float32)]
        for number, stage in enumerate(stages):
            for i in range(len(stage.image)):  # one by one: compiled once
                window = Windows(*(part[i : i + 1] for part in stage.windows))
                outputs = self._maps(params, model_state, self.cut(padded, np.zeros(1, np.int32), window))
                (scale,), (start,) = placements(window, stage.locations[i : i + 1, 2], nominal=self._nominal)
                cells = outputs[-1]["tl_heat"].shape[1]
                cell = (side / cells / scale[::-1]).astype(np.float32)
                inputs.append(InputMaps(outputs[-1], cell, np.asarray(start[::-1], np.float32)))
            if number:
                start = stage.windows.offset[:, ::-1].astype(np.float32)
                crops.append(np.concatenate([start, start + side / stage.locations[:, 2:3]], 1).astype(np.float32))
        largest = int(np.argmax(self._config.test.saccade.view_px))
        window = Windows(*(part[largest] for part in stages[0].windows))
        heats = [
            on_device.over_image(logits, window, side, height, width) for logits in inputs[largest].maps["attention"]
        ]
        return Inspection(inputs, {"attention": np.stack(heats)}, np.concatenate(crops))

    def stages(
        self,
        params: dict,
        model_state: dict,
        images: Any,
        sizes: list[tuple[int, int]],
        truths: Sequence[Truth] = (),
    ) -> list[Stage]:
        """All crops of some images, and what was found in them.

        Args:
            images: (rows, H, W, 3) uint8, each image at the first pixel of its array.
            sizes: their heights and widths.
            truths: of all images or of none.
        """
        saccade, rows = self._config.test.saccade, len(images)
        apply = partial(self._stage, params, model_state, beside(params, images), sizes, truths)
        views = [view_locations(height, width, saccade.view_px) for height, width in sizes]
        stages = [apply(views, most=rows * len(saccade.view_px))]
        left = np.full(len(sizes), saccade.max_crops)
        for number, threshold in enumerate(saccade.attention):
            locations = [
                self._next_locations(stages[-1], i, sizes[i], threshold, first=number == 0)[: left[i]]
                for i in range(len(sizes))
            ]
            if not sum(map(len, locations)):
                break
            left -= [len(of_image) for of_image in locations]
            stages.append(apply(locations, most=rows * saccade.max_crops))
        return stages

    @property
    def _nominal(self) -> bool:
        return self._config.legacy.nominal_scale

    @staticmethod
    def _padded(images: Sequence[Image], bucket: tuple[int, int], rows: int) -> np.ndarray:
        padded = np.zeros((rows, *bucket, 3), np.uint8)
        for row, image in enumerate(images):
            padded[row, : image.shape[0], : image.shape[1]] = image
        return padded

    def _stage(
        self,
        params: dict,
        model_state: dict,
        images: Any,
        sizes: list[tuple[int, int]],
        truths: Sequence[Truth],
        locations_of: list[np.ndarray],
        *,
        most: int,
    ) -> Stage:
        """Crop the locations of each image, crop_batch at a time; there are never more than `most`."""
        index = np.repeat(np.arange(len(locations_of), dtype=np.int32), [len(of_image) for of_image in locations_of])
        locations = np.concatenate(locations_of)
        laid = [crop_windows(of, *size, side=self._side) for of, size in zip(locations_of, sizes, strict=True)]
        windows = Windows(*(np.concatenate(parts) for parts in zip(*laid, strict=True)))
        where = placements(windows, locations[:, 2], nominal=self._nominal)
        targets = self._targets([truths[i] for i in index.tolist()], windows, *where) if truths else ()

        count, batch = len(index), min(most, self._config.test.saccade.crop_batch)
        batch += -batch % copies(params)
        parts = []
        for start in range(0, count, batch):
            part = partial(_part, start=start, rows=batch)
            crops = self.cut(images, part(index), Windows(*map(part, windows)))
            parts.append(self.find(params, model_state, crops, *map(part, where), jax.tree.map(part, targets)))
        found, attention = jax.tree.map(lambda *values: np.concatenate(values)[:count], *jax.device_get(parts))
        return Stage(index, locations, windows, found, attention)

    def _targets(
        self,
        truths: Sequence[Truth],
        windows: Windows,
        scales: Float32[np.ndarray, "n 2"],
        offsets: Float32[np.ndarray, "n 2"],
    ) -> Targets:
        """What is true of each crop, in it."""
        last = self._config.legacy.clip_to_last_pixel
        laid = zip(truths, scales[:, ::-1], offsets[:, ::-1], windows.resized, windows.corner, strict=True)
        shown = [
            place(
                truth.objects,
                Affine(scale, -offset * scale),
                size.tolist(),
                first_px=first.tolist(),
                to_last_pixel=last,
            )
            for truth, scale, offset, size, first in laid
        ]
        return make_targets(self._detector, self._config, shown, [truth.parts for truth in truths], rows=len(shown))

    def _next_locations(
        self, stage: Stage, image: int, size: tuple[int, int], threshold: float, *, first: bool
    ) -> Float[np.ndarray, "n 4"]:
        """What to crop next of an image, best first, by the attention and the boxes of the last stage."""
        saccade, mine = self._config.test.saccade, stage.image == image
        attention = [peaks[mine] for peaks in stage.attention]
        by_attention = attention_locations(
            attention,
            threshold=threshold,
            strides=[(self._side + 1) // peaks.shape[1] for peaks in attention],
            zooms=saccade.zooms,
            scales=stage.locations[mine, 2],
            offsets=np.asarray(stage.windows.offset)[mine],
            height=size[0],
            width=size[1],
            max_view_scale=saccade.max_view_scale,
            max_scale=saccade.max_scale,
            skip_same=not first,
        )
        by_box = box_locations(
            np.asarray(stage.found.boxes)[mine].reshape(-1, 4),
            self._counted(stage, first=first)[mine].reshape(-1),
            least_score=saccade.box_score,
            box_px=saccade.box_px,
            large_px=saccade.large_px,
            small_px=saccade.small_px,
        )
        return choose_locations(
            np.concatenate([by_attention, by_box]),
            apart_px=saccade.apart_px,
            row_or_column=self._config.legacy.row_or_column,
            num=saccade.max_crops,
        )

    def _counted(self, stage: Stage, *, first: bool) -> Float[np.ndarray, "n k"]:
        """The scores, -1 where a box of a view is not good enough."""
        least = self._config.test.saccade.view_score if first else -1
        return np.where(stage.found.scores > least, stage.found.scores, -1)

    def _together(self, stages: list[Stage], rows: int) -> Candidates:
        """All boxes in arrays of fixed shapes, (rows, crops an image can have * boxes a crop, ...)."""
        saccade = self._config.test.saccade
        slots = len(saccade.view_px) + saccade.max_crops
        image = np.concatenate([stage.image for stage in stages])
        counts = np.bincount(image, minlength=rows)
        slot = np.empty_like(image)  # the number of a crop among those of its image
        slot[np.argsort(image, kind="stable")] = np.arange(len(image)) - np.repeat(counts.cumsum() - counts, counts)

        def collect(*parts: np.ndarray) -> np.ndarray:
            values = np.concatenate(parts)
            filled = np.full((rows, slots, *values.shape[1:]), -1, values.dtype)
            filled[image, slot] = values
            return filled.reshape(rows, slots * values.shape[1], *values.shape[2:])

        counted = [stage.found._replace(scores=self._counted(stage, first=i == 0)) for i, stage in enumerate(stages)]
        return jax.tree.map(collect, *counted)

    @staticmethod
    def _limits(sizes: list[tuple[int, int]], rows: int) -> Float32[np.ndarray, "b 2"]:
        limits = np.zeros((rows, 2), np.float32)
        limits[: len(sizes)] = [(width, height) for height, width in sizes]
        return limits


def _part(values: np.ndarray, *, start: int, rows: int) -> np.ndarray:
    """Rows from start on, filled up with zeros."""
    part = values[start : start + rows]
    return np.concatenate([part, np.zeros((rows - len(part), *part.shape[1:]), part.dtype)])
