"""The test procedure of CornerNet-Saccade: views of whole images, then crops of the places that hold something.

Looks of all images of a batch go through the network together, in batches of one fixed size: nothing is compiled twice,
and an image with few places costs little. The last batch is filled up, as is the only one of a single image.
"""

import copy
import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32, Int, UInt8

from cornerjax.config import Config
from cornerjax.detectors.base import Candidates, Found, Outputs, Targets, Truth
from cornerjax.detectors.selection import select
from cornerjax.detectors.truth import make_targets, place
from cornerjax.devices import copies, over_devices
from cornerjax.errors import InputError
from cornerjax.ops.crops import Windows, crop_windows, cut_crops, placements, to_image, view_locations
from cornerjax.ops.locations import attention_locations, box_locations, choose_locations
from cornerjax.ops.peaks import keep_peaks
from cornerjax.ops.pixels import normalise

MOST_PX = 64_000_000  # of the images taken together
Image = UInt8[np.ndarray, "_ _ 3"]  # BGR


class Prepared(NamedTuple):
    """An image, and what is true of it if that is to take the place of predictions."""

    image: Image
    truth: Truth | None


class Round(NamedTuple):
    """What one round of looks saw; arrays have a row a look."""

    image: Int[np.ndarray, "n"]  # which image of the batch it looks at
    locations: Float[np.ndarray, "n _"]  # y, x, scale, and score if it was chosen for one
    windows: Windows
    found: Candidates  # boxes in pixels of the image
    attention: list[Float32[np.ndarray, "n _ _"]]  # the peaks of each map, the coarsest first; 0 elsewhere


class Saccades:
    """Finds boxes by looking closer; base.Finder says what each method is.

    Args:
        detector: its `decode`, `input_size` and `stride` are used.
        apply: of `nn.functional`, for the network of `config.model`.
        config: `model`, `data.crop_px`, `test` and `legacy` are used.
    Source: CornerNet-Lite, core/test/cornernet_saccade.py.
    """

    def __init__(self, detector: Any, apply: Callable, config: Config):
        self._detector, self._apply, self._config = detector, apply, config
        self._side = config.data.crop_px[0]
        self.cut: Callable[..., Any] = jax.jit(partial(cut_crops, side=self._side))
        self.look: Callable[..., Any] = over_devices(partial(_look, detector, apply, config), whole=2)
        self.select: Callable[..., Found] = jax.jit(partial(_select, config=config))

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

    def prepare(self, image: Image, truth: Truth | None = None) -> Prepared:
        return Prepared(image, truth)

    def __call__(
        self, params: dict, model_state: dict, images: Sequence[Prepared], bucket: tuple[int, int], rows: int
    ) -> Found:
        known = [prepared.truth for prepared in images if prepared.truth]
        return self.trace(params, model_state, [prepared.image for prepared in images], bucket, rows, known)[0]

    def in_phases(self, phase: Callable[[str, Callable], Callable]) -> "Saccades":
        network = phase("network", over_devices(partial(_see, self._apply), whole=2))
        decode = phase("decode", over_devices(partial(_read, self._detector, self._config), whole=0))
        other = copy.copy(self)
        other.cut, other.select = phase("cut", self.cut), phase("NMS", self.select)
        other.look = lambda params, state, crops, *rest: decode(network(params, state, crops), crops, *rest)
        return other

    def trace(
        self,
        params: dict,
        model_state: dict,
        images: Sequence[Image],
        bucket: tuple[int, int],
        rows: int,
        truths: Sequence[Truth] = (),
    ) -> tuple[Found, list[Round]]:
        """The boxes, and every round of looks that led to them; truths are of all images or of none."""
        saccade = self._config.test.saccade
        sizes = [(image.shape[0], image.shape[1]) for image in images]
        padded = np.zeros((rows, *bucket, 3), np.uint8)
        for row, (image, (height, width)) in enumerate(zip(images, sizes, strict=True)):
            padded[row, :height, :width] = image
        see = partial(self._see, params, model_state, jax.device_put(padded), sizes, truths)

        rounds = [
            see([view_locations(size[0], size[1], saccade.view_px) for size in sizes], most=rows * len(saccade.view_px))
        ]
        left = np.full(len(images), saccade.max_crops)
        for number, threshold in enumerate(saccade.attention):
            places = [
                self._places(rounds[-1], i, sizes[i], threshold, first=number == 0)[: left[i]]
                for i in range(len(images))
            ]
            if not sum(map(len, places)):
                break
            left -= [len(of_image) for of_image in places]
            rounds.append(see(places, most=rows * saccade.max_crops))
        return self.select(self._together(rounds, rows), self._limits(sizes, rows)), rounds

    def _see(
        self,
        params: dict,
        model_state: dict,
        images: Any,
        sizes: list[tuple[int, int]],
        truths: Sequence[Truth],
        places: list[np.ndarray],
        *,
        most: int,
    ) -> Round:
        """Look at the places of each image, crop_batch at a time; there are never more than `most`."""
        index = np.repeat(np.arange(len(places), dtype=np.int32), [len(of_image) for of_image in places])
        locations = np.concatenate(places)
        laid = [crop_windows(of, *size, side=self._side) for of, size in zip(places, sizes, strict=True)]
        windows = Windows(*(np.concatenate(parts) for parts in zip(*laid, strict=True)))
        where = placements(windows, locations[:, 2], nominal=self._config.legacy.nominal_scale)
        targets = self._targets([truths[i] for i in index.tolist()], windows, *where) if truths else ()

        count, batch = len(index), min(most, self._config.test.saccade.crop_batch)
        batch += -batch % copies(params)
        seen = []
        for start in range(0, count, batch):
            part = partial(_part, start=start, rows=batch)
            crops = self.cut(images, part(index), Windows(*map(part, windows)))
            seen.append(self.look(params, model_state, crops, *map(part, where), jax.tree.map(part, targets)))
        found, attention = jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *jax.device_get(seen))
        return Round(index, locations, windows, found, attention)

    def _targets(
        self,
        truths: Sequence[Truth],
        windows: Windows,
        scales: Float32[np.ndarray, "n 2"],
        offsets: Float32[np.ndarray, "n 2"],
    ) -> Targets:
        """What is known of each look, in it."""
        laid = zip(truths, scales[:, ::-1], offsets[:, ::-1], windows.resized, windows.corner, strict=True)
        shown = [
            place(truth.objects, scale, -offset * scale, size.tolist(), first_px=corner.tolist())
            for truth, scale, offset, size, corner in laid
        ]
        return make_targets(self._detector, self._config, shown, [truth.parts for truth in truths], rows=len(shown))

    def _places(
        self, seen: Round, image: int, size: tuple[int, int], threshold: float, *, first: bool
    ) -> Float[np.ndarray, "n 4"]:
        """Where to look next in an image, best first, by the attention and the boxes of the last round."""
        saccade, mine = self._config.test.saccade, seen.image == image
        attention = [peaks[mine] for peaks in seen.attention]
        by_attention = attention_locations(
            attention,
            threshold=threshold,
            strides=[(self._side + 1) // peaks.shape[1] for peaks in attention],
            zooms=saccade.zooms,
            scales=seen.locations[mine, 2],
            offsets=seen.windows.offset[mine],
            height=size[0],
            width=size[1],
            max_view_scale=saccade.max_view_scale,
            max_scale=saccade.max_scale,
            skip_same=not first,
        )
        by_box = box_locations(
            seen.found.boxes[mine].reshape(-1, 4),
            self._counted(seen, first=first)[mine].reshape(-1),
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

    def _counted(self, seen: Round, *, first: bool) -> Float[np.ndarray, "n k"]:
        """The scores, -1 where a box of a view is not good enough."""
        least = self._config.test.saccade.view_score if first else -1
        return np.where(seen.found.scores > least, seen.found.scores, -1)

    def _together(self, rounds: list[Round], rows: int) -> Candidates:
        """All boxes in arrays of fixed shapes, (rows, looks an image can have * boxes a look, ...)."""
        saccade = self._config.test.saccade
        slots = len(saccade.view_px) + saccade.max_crops
        image = np.concatenate([seen.image for seen in rounds])
        counts = np.bincount(image, minlength=rows)
        slot = np.empty_like(image)  # the number of a look among those of its image
        slot[np.argsort(image, kind="stable")] = np.arange(len(image)) - np.repeat(counts.cumsum() - counts, counts)
        together = []
        for name in Candidates._fields:
            if name == "scores":
                parts = [self._counted(seen, first=i == 0) for i, seen in enumerate(rounds)]
            else:
                parts = [getattr(seen.found, name) for seen in rounds]
            values = np.concatenate(parts)
            filled = np.full((rows, slots, *values.shape[1:]), -1, values.dtype)
            filled[image, slot] = values
            together.append(filled.reshape(rows, slots * values.shape[1], *values.shape[2:]))
        return Candidates(*together)

    @staticmethod
    def _limits(sizes: list[tuple[int, int]], rows: int) -> Float32[np.ndarray, "b 4"]:
        limits = np.zeros((rows, 4), np.float32)
        limits[: len(sizes)] = [(width, height, width, height) for height, width in sizes]
        return limits


def _part(values: np.ndarray, *, start: int, rows: int) -> np.ndarray:
    """Rows from start on, filled up with zeros."""
    part = values[start : start + rows]
    return np.concatenate([part, np.zeros((rows - len(part), *part.shape[1:]), part.dtype)])


def _look(
    detector: Any,
    apply: Callable,
    config: Config,
    params: dict,
    model_state: dict,
    crops: Any,
    scales: Any,
    offsets: Any,
    targets: Targets | tuple[()],
) -> tuple[Candidates, list[Float[jax.Array, "n _ _"]]]:
    """Boxes of the crops in pixels of their images, and the peaks of their attention."""
    outputs = _see(apply, params, model_state, crops)
    return _read(detector, config, outputs, crops, scales, offsets, targets)


def _see(apply: Callable, params: dict, model_state: dict, crops: Any) -> Outputs:
    """The first half of _look: the network's outputs."""
    return apply(params, model_state, normalise(crops), train=False)[0]


def _read(
    detector: Any,
    config: Config,
    outputs: Outputs,
    crops: Any,
    scales: Any,
    offsets: Any,
    targets: Targets | tuple[()],
) -> tuple[Candidates, list[Float[jax.Array, "n _ _"]]]:
    """The second half of _look; of the crops only the shape counts."""
    if targets:
        outputs = detector.with_truth(outputs, targets, config)
    found = detector.decode(outputs, config)
    cells = outputs[-1]["tl_heat"].shape[1]
    boxes = to_image(found.boxes, scales, offsets, side=crops.shape[1], cells=cells)
    attention = []
    for logits in outputs[-1]["attention"]:
        peaks = keep_peaks(jax.nn.sigmoid(logits), window=config.test.saccade.attention_window)
        attention.append(jnp.maximum(peaks, 0)[..., 0])
    return found._replace(boxes=boxes), attention


def _select(found: Candidates, limits: Float[jax.Array, "b 4"], *, config: Config) -> Found:
    legacy = config.legacy
    if not legacy.unclipped:
        # Differs from CornerNet-Saccade: boxes end where the image does, and those beyond it are dropped.
        boxes = jnp.clip(found.boxes, 0, limits[:, None])
        empty = (boxes[..., 2:] <= boxes[..., :2]).any(-1)
        found = found._replace(boxes=boxes, scores=jnp.where(empty, -1, found.scores))
    # Unlike the other originals, this one leaves out what soft-NMS dropped.
    return select(found, test=config.test, legacy=dataclasses.replace(legacy, stale_rows=False))
