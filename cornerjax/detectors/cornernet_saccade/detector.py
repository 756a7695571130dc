"""The detector; base.Detector says what each method is."""

from collections.abc import Callable, Mapping
from functools import partial
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jaxtyping import Float

from cornerjax.data.crop import Cropped, Draws
from cornerjax.data.geometry import typed
from cornerjax.detectors.base import Array as Either
from cornerjax.detectors.base import Image, Maps, Outputs, Targets, TestProcedure
from cornerjax.detectors.cornernet import LITE_RULES, CornerDetector, CornerModel, CornerNetwork
from cornerjax.detectors.cornernet_saccade.crop import crop_around_reference
from cornerjax.detectors.cornernet_saccade.options import SaccadeConfig
from cornerjax.detectors.cornernet_saccade.overlays import OVERLAYS
from cornerjax.detectors.cornernet_saccade.procedure import SaccadeProcedure
from cornerjax.detectors.cornernet_saccade.targets import encode_saccade, render_saccade
from cornerjax.detectors.layouts import TorchLayout
from cornerjax.detectors.truth import replaced, true_heat
from cornerjax.errors import InputError
from cornerjax.keypoints import Objects
from cornerjax.losses import Losses, batch_counts, count_peaks, focal, sum_of
from cornerjax.nn.functional import applied
from cornerjax.nn.heads import HEAT_BIAS, Head
from cornerjax.nn.layers import Rng
from cornerjax.ops.precision import precise
from cornerjax.targets import Encoded

BUCKET_PX = 128  # test images lie in arrays whose sides are multiples of this
RULES = (
    *LITE_RULES,
    (r"^attention\.(\d+)\.(\d+)\.hidden\.", r"att_modules.\1.\2.0.conv."),
    (r"^attention\.(\d+)\.(\d+)\.out\.", r"att_modules.\1.\2.1."),
)


class SaccadeNetwork(CornerNetwork):
    """A CornerNetwork with an attention map at every level of the hourglass but the innermost."""

    def __init__(self, model: CornerModel, *, rng: Rng):
        super().__init__(model, rng=rng)

        def head(dim: int) -> Head:
            return Head(model.backbone.dim, 1, cin=dim, kernel=3, bias=HEAT_BIAS, rng=rng)

        levels = model.backbone.dims[-2::-1]  # the innermost but one first
        self.attention = nnx.List([nnx.List([head(dim) for dim in levels]) for _ in range(model.backbone.stacks)])

    def __call__(self, images: Float[Array, "b H W 3"], *, train: bool) -> Outputs:
        """As CornerNetwork's, and "attention": logits (b, h, w, 1) for each level, the coarsest first."""
        apply = partial(applied, train=train, remat=self.compute.remat == "stack")
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


class CornerNetSaccade(CornerDetector[SaccadeConfig]):
    """Source: CornerNet-Lite, core/models/CornerNet_Saccade.py, core/sample/cornernet_saccade.py."""

    defaults = SaccadeConfig()
    parts = ("attention", *CornerDetector.parts)
    overlays = (*OVERLAYS, *CornerDetector.overlays)
    torch_layouts = (TorchLayout("CornerNet-Lite", RULES),)

    def build(self, model: CornerModel, rng: Rng) -> SaccadeNetwork:
        return SaccadeNetwork(model, rng=rng)

    def procedure(self, apply: Callable, config: SaccadeConfig) -> TestProcedure:
        return SaccadeProcedure(self, apply, config)

    def check(self, config: SaccadeConfig) -> None:
        super().check(config)
        data, saccade, maps = config.data, config.test.saccade, len(config.model.backbone.dims) - 1
        if data.crop_px[0] != data.crop_px[1]:
            raise InputError(f"data.crop_px is {data.crop_px}; crops are square, height and width must be the same")
        if max(saccade.view_px) > data.crop_px[0]:
            raise InputError(
                f"test.saccade.view_px is {saccade.view_px}; no view is larger than data.crop_px, {data.crop_px[0]}"
            )
        ranges = data.attention_px
        if len(ranges) != maps or any(least >= most for least, most in ranges):
            raise InputError(
                f"data.attention_px is {ranges}; it needs a smallest and a largest size for each of the {maps} maps"
            )
        sizes = list(zip(*ranges, strict=True))
        if any(list(of_all) != sorted(set(of_all), reverse=True) for of_all in sizes):
            raise InputError(f"data.attention_px is {ranges}; the ranges stand in the order of the maps, largest first")
        if len(saccade.zooms) != maps:
            raise InputError(f"test.saccade.zooms is {saccade.zooms}; it needs one number for each of the {maps} maps")
        if config.test.flip or config.test.scales != (1.0,):
            name, value = ("flip", True) if config.test.flip else ("scales", config.test.scales)
            raise InputError(
                f"test.{name} is {value}, which CornerNet-Saccade has no use for: it looks at an image at the sizes of "
                "test.saccade.view_px, as it is; accepted are test.flip False and test.scales (1.0,)"
            )

    def input_size(self, height: int, width: int, model: CornerModel) -> tuple[int, int]:
        return -(-height // BUCKET_PX) * BUCKET_PX, -(-width // BUCKET_PX) * BUCKET_PX

    def crop(self, image: Image, objects: Objects, draws: Draws, config: SaccadeConfig) -> Cropped:
        return crop_around_reference(image, typed(objects, self.precision), draws, config)

    def encode(self, objects: Objects, config: SaccadeConfig) -> Encoded:
        data = config.data
        return encode_saccade(
            objects,
            map_size=self.map_size(config),
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

    def render(self, encoded: Mapping[str, Either], config: SaccadeConfig, xp: ModuleType) -> dict[str, Either]:
        return render_saccade(
            encoded,
            num_classes=config.model.num_classes,
            map_size=self.map_size(config),
            attention_sizes=self._attention_sizes(config),
            xp=xp,
        )

    def counts(self, targets: Mapping[str, Array], config: SaccadeConfig) -> Losses:
        shared = batch_counts(targets, self.keypoints, count_ignored=config.legacy.count_ignored)
        maps = {name: values for name, values in targets.items() if name.startswith("attention_")}
        return shared | {name: count_peaks(values) for name, values in maps.items()}

    def stack_losses(self, maps: Maps, targets: Mapping[str, Array], config: SaccadeConfig, counts: Losses) -> Losses:
        attention = sum_of(
            focal(logits, targets[f"attention_{i}"], peaks=counts[f"attention_{i}"])
            for i, logits in enumerate(maps["attention"])
        )
        return super().stack_losses(maps, targets, config, counts) | {"attention": attention}

    def loss_weights(self, config: SaccadeConfig) -> dict[str, float]:
        shared = super().loss_weights(config)
        return {"focal": shared.pop("focal"), "attention": config.loss.attention, **shared}

    def heads(self, model: CornerModel) -> list[dict[str, str]]:
        levels = range(len(model.backbone.dims) - 1)
        return [
            corners | {f"attention.{level}": f"attention.{stack}.{level}" for level in levels}
            for stack, corners in enumerate(super().heads(model))
        ]

    def with_truth(self, outputs: Outputs, targets: Targets, config: SaccadeConfig) -> Outputs:
        """As a CornerNet's; of the objects that training would leave out in a crop, the attention only."""
        maps = super().with_truth(outputs, targets, config)[-1]
        rendered = jax.vmap(lambda of_crop: self.render(of_crop, config, jnp))(targets.encoded)
        attention = [
            replaced(logits, true_heat(rendered[f"attention_{i}"]), targets.replaced["attention"])
            for i, logits in enumerate(maps["attention"])
        ]
        return [*outputs[:-1], maps | {"attention": attention}]

    def target_panels(
        self, rendered: Mapping[str, np.ndarray], config: SaccadeConfig
    ) -> dict[str, list[tuple[str, Float[np.ndarray, "_ _"]]]]:
        sizes = config.data.attention_px
        maps = [(f"{least}-{most} px", rendered[f"attention_{i}"][..., 0]) for i, (least, most) in enumerate(sizes)]
        return {"attention": maps}

    def _attention_sizes(self, config: SaccadeConfig) -> tuple[tuple[int, int], ...]:
        """Rows and columns of the attention maps, the coarsest first."""
        h, w = self.map_size(config)
        return tuple((h >> level, w >> level) for level in range(len(config.model.backbone.dims) - 2, -1, -1))
