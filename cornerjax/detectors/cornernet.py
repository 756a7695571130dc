"""CornerNet: objects as pairs of corners (Law and Deng 2018).

`legacy.py` lists where this differs from the original and how to switch that.
"""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jaxtyping import Float

from cornerjax import ops
from cornerjax.config import Config, Model, Test
from cornerjax.detectors.base import Candidates, Finder, Outputs, Targets
from cornerjax.errors import InputError
from cornerjax.losses import batch_counts, corner_loss
from cornerjax.nn.functional import applied, by_path, functional
from cornerjax.nn.heads import CornerHeads
from cornerjax.nn.hourglass import Nearest, StackedHourglass
from cornerjax.nn.layers import ResidualBlock, Rngs, divide_batch_norm
from cornerjax.nn.pooling import find_pool
from cornerjax.ops.corners import decode_corners
from cornerjax.ops.precision import precise
from cornerjax.ops.true_corners import true_heat, true_tags_and_offsets
from cornerjax.targets import encode_corners, render_corners

LEAST_BUCKET_PX = 128  # test images are padded to a multiple of this, minus 1
PARTS = {"heat": "heat maps", "tag": "tags", "off": "offsets"}  # as the maps' names end -> what they hold

# Our path -> the key in a checkpoint of CornerNet-Lite, each rule in turn.
TORCH_RULES = (
    (r"^backbone\.stem\.", r"hg.pre."),
    (r"^backbone\.hourglasses\.", r"hg.hgs."),
    (r"^backbone\.outs\.", r"hg.cnvs."),
    (r"^backbone\.between\.", r"hg.inters."),
    (r"^backbone\.from_input\.", r"hg.inters_."),
    (r"^backbone\.from_output\.", r"hg.cnvs_."),
    (r"^(tl|br)\.(\d+)\.pool\.branch(\d)\.", r"\1_modules.\2.p\3_conv1."),
    (r"^(tl|br)\.(\d+)\.pool\.merge\.(conv|bn)\.", r"\1_modules.\2.p_\g<3>1."),
    (r"^(tl|br)\.(\d+)\.pool\.skip\.(conv|bn)\.", r"\1_modules.\2.\g<3>1."),
    (r"^(tl|br)\.(\d+)\.pool\.out\.", r"\1_modules.\2.conv2."),
    (r"^(tl|br)\.(\d+)\.(heat|tag|off)\.hidden\.", r"\1_\3s.\2.0.conv."),
    (r"^(tl|br)\.(\d+)\.(heat|tag|off)\.out\.", r"\1_\3s.\2.1."),
    (r"^attention\.(\d+)\.(\d+)\.hidden\.", r"att_modules.\1.\2.0.conv."),
    (r"^attention\.(\d+)\.(\d+)\.out\.", r"att_modules.\1.\2.1."),
    (r"(\.skip|\.inters_\.\d+|\.cnvs_\.\d+)\.conv\.", r"\1.0."),
    (r"(\.skip|\.inters_\.\d+|\.cnvs_\.\d+)\.bn\.", r"\1.1."),
    (r"\.expand1\.", r".conv_1x1."),
    (r"\.expand3\.", r".conv_3x3."),
    (r"\.(kernel|scale)$", r".weight"),
    (r"\.(mean|var)$", r".running_\1"),
)


class CornerNetwork(nnx.Module):
    """Stacked hourglasses, each with heads for both corners."""

    def __init__(self, model: Model, *, stride: int, block: type, upsampling: type, rngs: Rngs):
        self.backbone = StackedHourglass(
            stacks=model.stacks,
            stem_dim=model.stem_dim,
            stem_kernel=model.stem_kernel,
            stride=stride,
            dims=model.dims,
            blocks=model.blocks,
            dim=model.head_dim,
            block=block,
            upsampling=upsampling,
            remat=model.remat,
            rngs=rngs,
        )
        self.dtype, self.remat = model.dtype, model.remat

        def heads(corner: str) -> Any:
            return nnx.List(
                [
                    CornerHeads(
                        model.head_dim,
                        model.num_classes,
                        pool_dim=model.pool_dim,
                        kernel=model.head_kernel,
                        corner=corner,
                        pooling=model.pooling,
                        implementation=model.pooling_implementation,
                        remat=model.remat == "level",
                        rngs=rngs,
                    )
                    for _ in range(model.stacks)
                ]
            )

        self.tl, self.br = heads("tl"), heads("br")

    def __call__(self, images: Float[Array, "b H W 3"], *, train: bool) -> list[dict[str, Float[Array, "b h w _"]]]:
        """Maps of every stack in training, otherwise of the last one only.

        Args:
            images: normalised BGR; H and W + 1 divisible by the stride times 2 for each level of the hourglass.
        Returns: "tl_heat", "br_heat" (b, h, w, c) logits; "tl_tag", "br_tag" (b, h, w, 1); "tl_off", "br_off"
            (b, h, w, 2) as x, y in cells.
        """
        head = partial(applied, train=train, remat=self.remat == "stack")
        stacks = list(zip(self.tl, self.br, self.features(images, train=train), strict=True))
        return [jax.tree.map(precise, head(tl, x) | head(br, x)) for tl, br, (x, _) in stacks[0 if train else -1 :]]

    def features(self, images: Float[Array, "b H W 3"], *, train: bool) -> list[tuple[Array, list[Array]]]:
        """The backbone's, in the type that the network computes in."""
        return self.backbone(images.astype(jnp.bfloat16) if self.dtype == "bfloat16" else images, train=train)


class CornerNet:
    """The detector; base.Detector says what each method is."""

    defaults = Model()
    test_defaults = Test(flip=True)
    crop_px = (511, 511)
    parts: tuple[str, ...] = tuple(PARTS.values())
    crop: Callable | None = None
    detect: Callable[..., Finder] | None = None
    block: type = ResidualBlock
    upsampling: type = Nearest
    network: type = CornerNetwork

    def stride(self, model: Model) -> int:
        return 4

    def build(self, model: Model, rngs: Rngs) -> CornerNetwork:
        check_pooling(model)
        network = self.network(
            model, stride=self.stride(model), block=self.block, upsampling=self.upsampling, rngs=rngs
        )
        divide_batch_norm(network, model.batch_norm_groups)
        return network

    def check(self, config: Config) -> None:
        """Refuse a network that cannot be built and a crop that does not fit it.

        Raises: InputError: naming the field, its value and what is accepted.
        """
        check_model(config.model)
        unit = self._unit(config.model)
        for side in config.data.crop_px:
            below = (side + 1) // unit * unit - 1
            if side != below or side <= 0:
                legal = [str(px) for px in (below, below + unit) if px > 0]
                raise InputError(
                    f"data.crop_px has the side {side}; sides that fit this network are multiples of {unit}, minus 1: "
                    f"nearest {' and '.join(legal)}"
                )

    def input_size(self, height: int, width: int, model: Model) -> tuple[int, int]:
        unit = max(LEAST_BUCKET_PX, self._unit(model))  # both powers of 2: the result is size | (unit - 1)
        return -(-(height + 1) // unit) * unit - 1, -(-(width + 1) // unit) * unit - 1

    def encode(self, objects: dict[str, np.ndarray], config: Config) -> dict[str, np.ndarray]:
        return encode_corners(
            objects,
            map_size=self._map_size(config),
            crop_px=config.data.crop_px,
            max_objects=config.data.max_objects,
            iou=config.data.gaussian_iou,
            kind=config.data.gaussian_radius,
        )

    def render(self, encoded: dict[str, Any], config: Config, xp: Any) -> dict[str, Any]:
        return render_corners(encoded, num_classes=config.model.num_classes, map_size=self._map_size(config), xp=xp)

    def counts(self, targets: dict[str, Any], config: Config) -> dict[str, Any]:
        return batch_counts(targets)

    def loss(
        self, outputs: Outputs, targets: dict[str, Any], config: Config, counts: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        return corner_loss(
            outputs,
            targets,
            pull_weight=config.loss.pull,
            push_weight=config.loss.push,
            offset_weight=config.loss.offset,
            group=config.loss.group,
            push_itself=config.legacy.push_itself,
            counts=counts,
        )

    def decode(self, outputs: Outputs, config: Config) -> Candidates:
        test = config.test
        pairs = decode_corners(
            outputs[-1],
            top_k=test.top_k,
            max_pairs=test.max_pairs,
            window=test.peak_window,
            tag_distance=test.tag_distance,
            no_border=test.no_border,
            non_peaks=config.legacy.non_peaks,
        )
        return Candidates(*pairs)

    def with_truth(self, outputs: Outputs, targets: Targets, config: Config) -> Outputs:
        maps, encoded = outputs[-1], targets.encoded
        rendered = jax.vmap(lambda of_image: self.render(of_image, config, jnp))(encoded)
        beside = {f"{corner}_{kind}": maps[f"{corner}_{kind}"] for corner in ("tl", "br") for kind in ("tag", "off")}
        true = jax.vmap(partial(true_tags_and_offsets, tag_distance=config.test.tag_distance))(encoded, beside)
        true |= {f"{corner}_heat": true_heat(rendered[f"{corner}_heat"]) for corner in ("tl", "br")}
        for name, values in true.items():
            replaced = targets.replaced[PARTS[name[3:]]][:, None, None, None]
            true[name] = jnp.where(replaced, values, maps[name])
        return [*outputs[:-1], maps | true]

    def torch_names(self, model: Model) -> dict[str, str]:
        _, params, model_state = functional(self.build(model, None))
        return {torch_name(path): path for path in [*by_path(params), *by_path(model_state)]}

    def _unit(self, model: Model) -> int:
        """Image pixels a cell of the innermost level."""
        return self.stride(model) * 2 ** (len(model.dims) - 1)

    def _map_size(self, config: Config) -> tuple[int, int]:
        """Rows and columns of the maps of a training example."""
        stride = self.stride(config.model)
        height, width = config.data.crop_px
        return (height + 1) // stride, (width + 1) // stride


def torch_name(path: str) -> str:
    """The key that a checkpoint of CornerNet-Lite, without "module.", has for one of our variables."""
    for pattern, replacement in TORCH_RULES:
        path = re.sub(pattern, replacement, path)
    return path


def check_model(model: Model) -> None:
    """Refuse a hourglass network that cannot be built.

    Raises: InputError: naming the field, its value and what is accepted.
    """

    def refuse(name: str, accepted: str) -> None:
        raise InputError(f"model.{name} is {getattr(model, name)}; {accepted}")

    if len(model.dims) < 2:
        refuse("dims", "an hourglass needs at least two levels")
    if len(model.blocks) != len(model.dims):
        refuse("blocks", f"it needs one number for each of the {len(model.dims)} levels of model.dims")
    for name in ("dims", "blocks"):
        if min(getattr(model, name)) < 1:
            refuse(name, "every number must be at least 1")
    for name in ("num_classes", "stacks", "stem_dim", "head_dim", "pool_dim"):
        if getattr(model, name) < 1:
            refuse(name, "it must be at least 1")
    for name in ("stem_kernel", "head_kernel"):
        if getattr(model, name) < 1 or getattr(model, name) % 2 == 0:
            refuse(name, "it must be odd")
    check_pooling(model)


def check_pooling(model: Model) -> None:
    """Refuse pooling that is not there, or not on this machine: a run may have been trained on another.

    Raises: InputError: naming the field, its value and what is accepted.
    """
    try:
        find_pool(model.pooling)
    except ValueError as error:
        raise InputError(f"model.pooling is {model.pooling}; {error}") from error
    try:
        ops.check_implementation(model.pooling_implementation)
    except ValueError as error:
        raise InputError(f"model.pooling_implementation is {model.pooling_implementation}; {error}") from error
    if model.pooling != "corner" and model.pooling_implementation != "auto":
        raise InputError(
            f"model.pooling_implementation is {model.pooling_implementation}; only auto goes with model.pooling="
            f"{model.pooling}, which is no corner pooling"
        )
