"""CornerNet-Saccade: looks at the whole image, then closer at the places that hold something (Law et al. 2019)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jaxtyping import Float

from cornerjax.config import Config, Model, Test
from cornerjax.data.reference_crop import crop_around_reference
from cornerjax.detectors.base import Outputs, Targets
from cornerjax.detectors.cornernet import CornerNet, CornerNetwork
from cornerjax.detectors.saccades import Saccades
from cornerjax.errors import InputError
from cornerjax.losses import batch_counts, saccade_loss
from cornerjax.nn.functional import applied
from cornerjax.nn.heads import HEAT_BIAS, Head
from cornerjax.nn.layers import Rngs
from cornerjax.ops.precision import precise
from cornerjax.ops.true_corners import true_heat
from cornerjax.targets import encode_saccade, render_saccade

BUCKET_PX = 128  # test images lie in arrays whose sides are multiples of this


class SaccadeNetwork(CornerNetwork):
    """A CornerNetwork with an attention map at every level of the hourglass but the innermost."""

    def __init__(self, model: Model, *, stride: int, block: type, upsampling: type, rngs: Rngs):
        super().__init__(model, stride=stride, block=block, upsampling=upsampling, rngs=rngs)

        def head(dim: int) -> Head:
            return Head(model.head_dim, 1, cin=dim, kernel=3, bias=HEAT_BIAS, rngs=rngs)

        levels = model.dims[-2::-1]  # the innermost but one first
        self.attention = nnx.List([nnx.List([head(dim) for dim in levels]) for _ in range(model.stacks)])

    def __call__(self, images: Float[Array, "b H W 3"], *, train: bool) -> list[dict[str, Any]]:
        """As CornerNetwork's, and "attention": logits (b, h, w, 1) for each level, the coarsest first."""
        apply = partial(applied, train=train, remat=self.remat == "stack")
        stacks = list(zip(self.tl, self.br, self.attention, self.features(images, train=train), strict=True))
        return [
            jax.tree.map(
                precise,
                apply(tl, x)
                | apply(br, x)
                | {"attention": [head(level, train=train) for head, level in zip(heads, levels, strict=True)]},
            )
            for tl, br, heads, (x, levels) in stacks[0 if train else -1 :]
        ]


class CornerNetSaccade(CornerNet):
    """The detector; base.Detector says what each method is.

    Source: CornerNet-Lite, core/models/CornerNet_Saccade.py, core/sample/cornernet_saccade.py.
    """

    defaults = Model(detector="cornernet_saccade", stacks=3, dims=(256, 384, 384, 512), blocks=(1, 1, 1, 1))
    test_defaults = Test(top_k=12, max_pairs=12, tag_distance=0.3, no_border=True, nms_sigma=0.7)
    crop_px = (255, 255)
    parts = ("attention", *CornerNet.parts)
    crop: Callable | None = staticmethod(crop_around_reference)
    network = SaccadeNetwork

    def detect(self, apply: Callable, config: Config) -> Saccades:
        return Saccades(self, apply, config)

    def check(self, config: Config) -> None:
        super().check(config)
        data, maps = config.data, len(config.model.dims) - 1
        if data.crop_px[0] != data.crop_px[1]:
            raise InputError(f"data.crop_px is {data.crop_px}; looks are square, height and width must be the same")
        if max(config.test.saccade.view_px) > data.crop_px[0]:
            raise InputError(
                f"test.saccade.view_px is {config.test.saccade.view_px}; no view is larger than data.crop_px, "
                f"{data.crop_px[0]}"
            )
        ranges = data.attention_px
        if len(ranges) != maps or any(len(r) != 2 or r[0] >= r[1] for r in ranges):
            raise InputError(
                f"data.attention_px is {ranges}; it needs a smallest and a largest size for each of the {maps} maps"
            )
        if len(config.test.saccade.zooms) != maps:
            raise InputError(
                f"test.saccade.zooms is {config.test.saccade.zooms}; it needs one number for each of the {maps} maps"
            )
        if len(config.test.saccade.box_px) != 3:
            raise InputError(
                f"test.saccade.box_px is {config.test.saccade.box_px}; it needs three numbers: large, medium, small"
            )

    def input_size(self, height: int, width: int, model: Model) -> tuple[int, int]:
        return -(-height // BUCKET_PX) * BUCKET_PX, -(-width // BUCKET_PX) * BUCKET_PX

    def encode(self, objects: dict[str, np.ndarray], config: Config) -> dict[str, np.ndarray]:
        data = config.data
        return encode_saccade(
            objects,
            map_size=self._map_size(config),
            crop_px=data.crop_px,
            max_objects=data.max_objects,
            iou=data.gaussian_iou,
            kind=data.gaussian_radius,
            min_object_px=data.min_object_px,
            min_overlap=data.min_overlap,
            attention_px=data.attention_px,
            attention_sizes=self._attention_sizes(config),
            shared_ends=config.legacy.shared_ends,
        )

    def render(self, encoded: dict[str, Any], config: Config, xp: Any) -> dict[str, Any]:
        return render_saccade(
            encoded,
            num_classes=config.model.num_classes,
            map_size=self._map_size(config),
            attention_sizes=self._attention_sizes(config),
            xp=xp,
        )

    def counts(self, targets: dict[str, Any], config: Config) -> dict[str, Any]:
        return batch_counts(targets, count_ignored=config.legacy.count_ignored)

    def loss(
        self, outputs: Outputs, targets: dict[str, Any], config: Config, counts: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        return saccade_loss(
            outputs,
            targets,
            pull_weight=config.loss.pull,
            push_weight=config.loss.push,
            offset_weight=config.loss.offset,
            attention_weight=config.loss.attention,
            group=config.loss.group,
            push_itself=config.legacy.push_itself,
            count_ignored=config.legacy.count_ignored,
            counts=counts,
        )

    def with_truth(self, outputs: Outputs, targets: Targets, config: Config) -> Outputs:
        """As a CornerNet's; of the objects that training would leave out in a look, the attention only."""
        maps = super().with_truth(outputs, targets, config)[-1]
        rendered = jax.vmap(lambda of_look: self.render(of_look, config, jnp))(targets.encoded)
        replaced = targets.replaced["attention"][:, None, None, None]
        attention = [
            jnp.where(replaced, true_heat(rendered[f"attention_{i}"]), logits)
            for i, logits in enumerate(maps["attention"])
        ]
        return [*outputs[:-1], maps | {"attention": attention}]

    def _attention_sizes(self, config: Config) -> tuple[tuple[int, int], ...]:
        """Rows and columns of the attention maps, the coarsest first."""
        h, w = self._map_size(config)
        return tuple((h >> level, w >> level) for level in range(len(config.model.dims) - 2, -1, -1))
