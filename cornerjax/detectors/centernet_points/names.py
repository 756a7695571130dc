"""How the released checkpoints of CenterNet points name things, one layout for each backbone."""

from collections.abc import Mapping

from cornerjax.detectors.cornernet import FIRST_RULES
from cornerjax.detectors.layouts import TorchLayout
from cornerjax.nn.backbones.dla import DLA
from cornerjax.nn.backbones.hourglass import Hourglass
from cornerjax.nn.backbones.resnet import DEPTHS, ResNet

KINDS = {"heat": "hm", "size": "wh", "off": "reg"}  # our maps and the original's

# Our path -> the key in a checkpoint, each rule in turn; of all backbones, then of each.
ENDINGS = ((r"\.(kernel|scale)$", r".weight"), (r"\.(mean|var)$", r".running_\1"))
PLAIN_HEADS = tuple(
    (rf"^ct\.0\.{ours}\.{layer}\.", f"{theirs}.{i}.")
    for ours, theirs in KINDS.items()
    for layer, i in (("hidden", 0), ("out", 2))
)
HOURGLASS_RULES = (
    *(
        (rf"^ct\.(\d+)\.{ours}\.{layer}\.", rf"{theirs}.\1.{name}.")
        for ours, theirs in KINDS.items()
        for layer, name in (("hidden", "0.conv"), ("out", "1"))
    ),
    *FIRST_RULES,
)
RESNET_RULES = (
    *PLAIN_HEADS,
    (r"^backbone\.stem\.(conv|bn)\.", r"\g<1>1."),
    *((rf"^backbone\.rows\.{i}\.", f"layer{i + 1}.") for i in range(4)),
    (r"\.skip\.conv\.", ".downsample.0."),
    (r"\.skip\.bn\.", ".downsample.1."),
    *ENDINGS,
)


def _ups(names: Mapping[str, int], step: int) -> tuple[tuple[str, str], ...]:
    """Rules for the layers of the up-samplings, which the original numbers from the first to the last."""
    return tuple(
        (rf"^backbone\.ups\.{i}\.{name}\.", f"deconv_layers.{i * step + place}.")
        for i in range(3)
        for name, place in names.items()
    )


RES_RULES = (*_ups({"up": 0, "bn": 1}, 3), *RESNET_RULES)
RESDCN_RULES = (
    (r"\.dcn\.conv\.offset\.", ".dcn.conv.conv_offset_mask."),
    *_ups({r"dcn\.conv": 0, r"dcn\.bn": 1, "up": 3, "bn": 4}, 6),
    *RESNET_RULES,
)
DLA_RULES = (
    *PLAIN_HEADS,
    (r"^backbone\.stem\.conv\.", "base.base_layer.0."),
    (r"^backbone\.stem\.bn\.", "base.base_layer.1."),
    (r"^backbone\.convs\.(\d)\.conv\.", r"base.level\1.0."),
    (r"^backbone\.convs\.(\d)\.bn\.", r"base.level\1.1."),
    *((rf"^backbone\.trees\.{i}\.", f"base.level{i + 2}.") for i in range(4)),
    (r"\.project\.conv\.", ".project.0."),
    (r"\.project\.bn\.", ".project.1."),
    (r"^backbone\.aggregations\.(\d)\.", r"dla_up.ida_\1."),
    (r"^backbone\.last\.", "ida_up."),
    *(
        (rf"\.{ours}\.{i}\.", f".{theirs}_{i + 1}.")
        for i in range(3)
        for ours, theirs in {"projects": "proj", "ups": "up", "nodes": "node"}.items()
    ),
    (r"\.conv\.offset\.", ".conv.conv_offset_mask."),
    (r"(proj|node)_(\d)\.bn\.", r"\1_\2.actf.0."),
    *ENDINGS,
)

LAYOUTS = (
    TorchLayout("DLA-34", DLA_RULES, unused=(r"base\.fc\..*",)),
    TorchLayout("the hourglass", HOURGLASS_RULES, model={"backbone": Hourglass()}),
    *(
        TorchLayout(f"ResNet-{depth}", RES_RULES, model={"backbone": ResNet(depth=depth), "head_dim": 64})
        for depth in (18, 101)
    ),
    *(
        TorchLayout(
            f"ResNet-{depth} with deformable convolutions",
            RESDCN_RULES,
            model={"backbone": ResNet(depth=depth, up_dims=(256, 128, 64), deformable=True), "head_dim": 64},
        )
        for depth in (18, 101)
    ),
)

IMAGENET_LAYOUTS = (
    TorchLayout(
        "DLA-34 trained on ImageNet",
        (*DLA_RULES, (r"^base\.", "")),
        model={"backbone": DLA()},
        unused=(r"fc\..*",),
        only=r"backbone\.(stem|convs|trees)\.",
    ),
    *(
        TorchLayout(
            f"ResNet-{depth} trained on ImageNet",
            RESNET_RULES,
            model={"backbone": ResNet(depth=depth)},
            unused=(r"fc\..*",),
            only=r"backbone\.(stem|rows)\.",
        )
        for depth in DEPTHS
    ),
)
