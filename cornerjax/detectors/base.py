"""The contract: what one detector is to the rest of the package."""

import abc
import functools
import posixpath
import re
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from types import ModuleType
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import numpy as np
from flax import nnx
from jaxtyping import Bool, Float, UInt8

from cornerjax.config import Config, Nms
from cornerjax.data.crop import Cropped, Draws, crop_example
from cornerjax.data.geometry import typed
from cornerjax.detectors.layouts import TorchLayout
from cornerjax.detectors.overlay import Overlay
from cornerjax.detectors.rows import Candidates, Found
from cornerjax.errors import InputError
from cornerjax.keypoints import Keypoint, Objects
from cornerjax.losses import Losses, batch_counts, heat_loss, offset_loss, weighted_mean
from cornerjax.nn.folding import Fold, folded
from cornerjax.nn.functional import Tree, by_path, functional
from cornerjax.nn.layers import configure
from cornerjax.targets import Encoded, encode_keypoints, render_keypoints

C = TypeVar("C", bound=Config)
Array = jax.Array | np.ndarray
Maps = dict[str, Any]  # (b, h, w, ...) by name, raw: heat maps are logits; Saccade has a list of maps among them
Outputs = list[Maps]  # one a stack
Image = UInt8[np.ndarray, "_ _ 3"]  # BGR


class Truth(NamedTuple):
    """What is true of a test image, to take the place of what the network says of it."""

    objects: Objects  # in pixels of the image
    parts: Collection[str]  # which of the detector's `parts` are replaced; the others stay as predicted


class Targets(NamedTuple):
    """The truth of a batch of network inputs."""

    encoded: dict[str, Array]  # of a detector's encode, (b, ...)
    replaced: dict[str, Bool[Array, "b"]]  # by part


class View(NamedTuple):
    """One of the forms in which the images of a batch went through the network: resized, mirrored or not."""

    scale: float  # asked for
    mirrored: bool
    borders: Float[Array, "b 2"]  # x, y of the image's first pixel in the input
    ratios: Float[Array, "b 2"]  # x, y pixels of the input for one of the image
    sizes: Float[Array, "b 2"]  # width, height of the image; 0 in rows without an image


class InputMaps(NamedTuple):
    """The maps of one network input that shows an image or a part of it."""

    maps: Maps  # b is 1
    cell: Float[np.ndarray, "2"]  # x, y pixels of the image for a cell
    start: Float[np.ndarray, "2"]  # x, y pixel of the image where the first cell begins


class Inspection(NamedTuple):
    """What the network says of one image, before it becomes boxes."""

    inputs: list[InputMaps]
    layers: dict[str, Float[np.ndarray, "_ H W"]]  # further maps over the image, in [0, 1], by name
    crops: Float[np.ndarray, "n 4"]  # x1 y1 x2 y2 of parts that went through the network; may reach beyond the image


@runtime_checkable
class TestProcedure(Protocol):
    """From the images of a bucket to boxes. It keeps what it has compiled."""

    def bucket(self, height: int, width: int) -> Hashable:
        """What images must share to be taken together; InputError for an image too small."""
        ...

    def rows(self, bucket: Any, largest: int) -> int:
        """How many images of a bucket fit into memory together, at most `largest`."""
        ...

    def preprocess(self, image: Image, truth: Truth | None = None) -> Any:
        """What can be done for one image on the host, in a thread.

        All images that are taken together have a truth or none has; config.data.max_objects has room for the objects.
        """
        ...

    def __call__(self, params: dict, model_state: dict, images: Sequence[Any], bucket: Any, rows: int) -> Found:
        """Boxes of up to `rows` preprocessed images of a bucket; the shapes depend on bucket and rows only."""
        ...

    def in_phases(self, phase: Callable[[str, Callable], Callable]) -> "TestProcedure":
        """The same procedure with every step on the device compiled by itself; `phase(name, step)` is called for it."""
        ...

    def inspect(self, params: dict, model_state: dict, image: Image) -> Inspection:
        """The maps that the boxes of an image are made from; the network runs once more for them."""
        ...


class Detector(abc.ABC, Generic[C]):
    """Everything in which detectors differ. An object of this kind holds no state; DETECTORS has one of each.

    `encode` runs on the host for one example, `render` for one example on either side (`xp` is numpy or jax.numpy,
    shapes are static), `loss` and `decode` on the device for a batch.

    Attributes:
        keypoints: what an object is found by.
        defaults: the published network, its training crop and test procedure. Its type is that of all configurations
            of the detector, and has the options that only this one knows.
        parts: of the outputs, each of which can be replaced by the truth.
        extras: fields of Candidates.extra that Detections keep.
        torch_layouts: of its released checkpoints.
        backbone_layouts: of files that hold one of its backbones alone, as trained on ImageNet.
        overlays: what can be drawn over an image besides boxes and keypoints.
        precision: of places in training crops; that of the original, as the last bit decides about cells.
    """

    keypoints: tuple[Keypoint, ...]
    defaults: C
    parts: tuple[str, ...] = ("heat maps", "offsets")
    extras: tuple[str, ...] = ()
    torch_layouts: tuple[TorchLayout, ...] = ()
    backbone_layouts: tuple[TorchLayout, ...] = ()
    overlays: tuple[Overlay, ...] = ()
    precision: type[np.floating] = np.float32

    # Hooks of the test procedure; None: what is said there.
    # (maps, those of the mirrored images, config) -> maps that are decoded; None: both are decoded, each by itself
    average_mirrored: Callable[[Outputs, Outputs, C], Outputs] | None = None
    # (candidates of each view in pixels of the images, views, config) -> candidates of all; None: inference.whole_image
    combine: Callable[[Sequence[Candidates], Sequence[View], C], Candidates] | None = None
    # (the test.max_detections best boxes after non-maximum suppression, config) -> boxes, which are sorted again; None:
    # as they are
    finish: Callable[[Found, C], Found] | None = None
    # (apply, config) -> a whole test procedure of its own; None: inference.whole_image
    procedure: Callable[[Callable, C], TestProcedure] | None = None

    @abc.abstractmethod
    def build(self, model: Any, rng: np.random.Generator | None) -> nnx.Module:
        """The network: `model(images, train=) -> Outputs`; without `rng` all weights are zero, to be filled."""

    @abc.abstractmethod
    def stride(self, model: Any) -> int:
        """Image pixels a cell of the output maps."""

    @abc.abstractmethod
    def check(self, config: C) -> None:
        """Refuse, with an InputError, a network that cannot be built and a training crop that does not fit it."""

    @abc.abstractmethod
    def input_size(self, height: int, width: int, model: Any) -> tuple[int, int]:
        """The legal size, at least the given one, to pad an image to."""

    @abc.abstractmethod
    def decode(self, outputs: Outputs, config: C) -> Candidates:
        """Raw maps of the last stack -> candidate boxes in cells."""

    def fixed_size(self, config: C) -> tuple[int, int] | None:
        """Height and width that every test image is fitted into; None: images are padded to input_size."""
        return None

    def nms(self, config: C) -> Nms:
        """Which of the choices of test.nms the boxes of all views go through."""
        return config.test.nms

    def map_size(self, config: Config) -> tuple[int, int]:
        """Rows and columns of the maps of a training example."""
        stride = self.stride(config.model)
        height, width = (-(-side // stride) for side in config.data.crop_px)
        return height, width

    def crop(self, image: Image, objects: Objects, draws: Draws, config: C) -> Cropped:
        """A training crop of an image, and the objects in it."""
        return crop_example(image, typed(objects, self.precision), draws, config)

    def encode(self, objects: Objects, config: C) -> Encoded:
        """Objects of one crop -> every integer and mask of its targets, in fixed shapes, decided once, on the host."""
        data = config.data
        return encode_keypoints(
            objects,
            self.keypoints,
            map_size=self.map_size(config),
            crop_px=data.crop_px,
            max_objects=data.max_objects,
            iou=data.gaussian_iou,
            kind=data.gaussian_radius,
        )

    def render(self, encoded: Mapping[str, Array], config: C, xp: ModuleType) -> dict[str, Array]:
        """Draw the heat maps of one encoded example."""
        num_classes, map_size = config.model.num_classes, self.map_size(config)
        return render_keypoints(encoded, self.keypoints, num_classes=num_classes, map_size=map_size, xp=xp)

    def counts(self, targets: Mapping[str, jax.Array], config: C) -> Losses:
        """The numbers that the loss of a batch is divided by: sums over its images."""
        return batch_counts(targets, self.keypoints)

    def loss(
        self, outputs: Outputs, targets: Mapping[str, jax.Array], config: C, counts: Losses | None = None
    ) -> Losses:
        """Scalars by name, with "total"; with the counts of a batch, the share in them that a part of it has."""
        counts = counts or self.counts(targets, config)
        stacks = [self.stack_losses(maps, targets, config, counts) for maps in outputs]
        return weighted_mean(stacks, self.loss_weights(config))

    def stack_losses(self, maps: Maps, targets: Mapping[str, jax.Array], config: C, counts: Losses) -> Losses:
        """The parts of the loss of one stack, without their weights."""
        parts = {"focal": heat_loss(maps, targets, self.keypoints, counts)}
        if any(keypoint.offset for keypoint in self.keypoints):
            parts["offset"] = offset_loss(maps, targets, self.keypoints, counts)
        return parts

    def loss_weights(self, config: C) -> dict[str, float]:
        """The weight of each part of the loss."""
        weights = {"focal": 1.0}
        return weights | ({"offset": config.loss.offset} if any(point.offset for point in self.keypoints) else {})

    def with_truth(self, outputs: Outputs, targets: Targets, config: C) -> Outputs:
        """Raw maps of the last stack, the parts that are to be replaced as a network without mistakes would give them.

        What the others say stays as it is, to the bit. config.data.crop_px is the size of the network's input.
        """
        from cornerjax.detectors.truth import with_true_keypoints

        return with_true_keypoints(self, outputs, targets, config)

    def target_panels(
        self, rendered: Mapping[str, np.ndarray], config: C
    ) -> dict[str, list[tuple[str, Float[np.ndarray, "_ _"]]]]:
        """Maps of one rendered example to show besides the heat maps: by title (label, map) each."""
        return {}

    def torch_names(self, model: Any, layout: TorchLayout) -> dict[str, str]:
        """Key of a released checkpoint -> dotted path of our variable."""
        paths = variable_shapes(self, model)
        return {layout.key_of(path): path for path in paths if re.match(layout.only, path)}

    def heads(self, model: Any) -> list[dict[str, str]]:
        """Of each stack, name of an output map -> dotted path of our module that makes it.

        The maps of a list have the names "NAME.0" and so on. Only detectors with torch_layouts need this.
        """
        raise NotImplementedError

    def torch_heads(self, model: Any, layout: TorchLayout) -> list[dict[str, str]]:
        """Of each stack, name of an output map -> name of the module that makes it in the original."""
        names = self.torch_names(model, layout).items()

        def module_of(ours: str) -> str:  # what the keys of all its variables have in common
            keys = [key.rpartition(".")[0] for key, path in names if path.startswith(f"{ours}.")]
            return posixpath.commonpath([key.replace(".", "/") for key in keys]).replace("/", ".")

        return [{name: module_of(ours) for name, ours in stack.items()} for stack in self.heads(model)]


@functools.lru_cache(maxsize=64)  # more than there are layouts
def variable_shapes(detector: Detector, model: Any) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter and statistic of a network, by dotted path."""
    _, params, model_state = functional(detector.build(model, None))
    return {path: value.shape for path, value in (by_path(params) | by_path(model_state)).items()}


def make_network(
    detector: Detector, config: Config, rng: np.random.Generator | None, *, batch_norm_groups: int = 1
) -> tuple[Callable[..., tuple[Any, Tree]], Tree, Tree]:
    """(apply, params, model_state) of nn.functional, for `config.model`, computed as `config.compute` says."""
    network = detector.build(config.model, rng)
    configure(network, config.compute, batch_norm_groups=batch_norm_groups)
    return functional(network)


def make_predictor_network(detector: Detector, config: Config) -> tuple[Callable[..., tuple[Any, Tree]], Fold]:
    """(apply, fold) of nn.folding for `config.model`, computed as `config.compute` says: it only predicts."""
    network = detector.build(config.model, None)
    configure(network, config.compute)
    return folded(network)


def check_type(config: Config, detector: Detector) -> None:
    """Refuse options that are those of another detector.

    Raises: InputError: naming both.
    """
    wanted = type(detector.defaults)
    if type(config) is not wanted:
        raise InputError(
            f"model.detector is {config.model.detector!r}, which needs a {wanted.__name__}, but this is a "
            f"{type(config).__name__}; start from a recipe of that detector"
        )
