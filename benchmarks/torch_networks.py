"""CornerNet-Squeeze and CenterNet points with a ResNet in PyTorch: the layers of our networks, from torch.nn.

Every module has the name that it has in ours, so our weights can be loaded, and loading them fails where a layer is
missing, left over or of another shape. ReLU works in place, as is usual in PyTorch.

Corner pooling is torch.cummax, flipped where it scans from the end. The originals have a C++ extension for it, which is
faster forward than torch.cummax and slower backward than our op. Of two maps of 128x128 cells and 128 channels, on one
core, in ms along columns and rows: extension 8.4 and 8.7, torch.cummax 85 and 21, ours 3.1 and 2.8; with the gradient
extension 76 and 116, torch.cummax 111 and 43, ours 10.1 and 9.4. Among equal maxima torch.cummax gives the gradient to
the last, the extension and our op to the first.
"""

import math
import re
from collections import OrderedDict

import numpy as np
import torch
from torch import Tensor, nn

from cornerjax.config import Model
from cornerjax.detectors.centernet_points.options import PointModel
from cornerjax.detectors.cornernet import CornerModel
from cornerjax.nn.backbones.hourglass import Hourglass
from cornerjax.nn.backbones.resnet import BLOCKS, EXPANSION, ResNet
from cornerjax.nn.functional import Tree, by_path, nested

SCANS = {"top": (2, True), "bottom": (2, False), "left": (3, True), "right": (3, False)}  # axis, from its end
CORNERS = {"tl": ("top", "left"), "br": ("bottom", "right")}
ENDINGS = ((r"\.(kernel|scale)$", ".weight"), (r"\.(mean|var)$", r".running_\1"))  # our names and those of torch.nn


def torch_network(model: Model) -> nn.Module:
    """The network of a configuration, with PyTorch's initial weights; NCHW images -> maps by name, one dict a stack.

    In training it returns the maps of every stack, otherwise those of the last one only.
    """
    if isinstance(model, CornerModel) and model.backbone.block == "fire" and model.pooling == "corner":
        return CornerNetwork(model)
    if isinstance(model, PointModel):
        backbone = model.backbone
        if isinstance(backbone, ResNet) and not backbone.deformable:
            return PointNetwork(model, backbone)
    raise ValueError(f"there is no such network in PyTorch here: {model}")


def drawn(tree: Tree, rng: np.random.Generator) -> Tree:
    """Parameters or statistics drawn at random, of a size with which every map stays alive through all layers."""

    def draw(path: str, shape: tuple[int, ...]) -> np.ndarray:
        noise, kind = rng.standard_normal(shape, np.float32), path.rpartition(".")[2]
        if kind == "kernel":
            return noise * math.sqrt(2 / math.prod(shape[:3]))
        return 1 + 0.1 * np.abs(noise) if kind in ("scale", "var") else 0.1 * noise

    return nested({path: draw(path, value.shape) for path, value in by_path(tree).items()})


def in_torch(tree: Tree) -> dict[str, Tensor]:
    """Arrays of our network by the names, and in the layout, of the PyTorch network."""
    found = {}
    for path, value in by_path(tree).items():
        for pattern, replacement in ENDINGS:
            path = re.sub(pattern, replacement, path)
        array = np.asarray(value)
        found[path] = torch.tensor(array.transpose(3, 2, 0, 1) if array.ndim == 4 else array)
    return found


def load(network: nn.Module, params: Tree, model_state: Tree) -> None:
    """Give the PyTorch network our weights and statistics.

    Raises: RuntimeError: the two networks do not have the same arrays.
    """
    network.load_state_dict(in_torch(params) | in_torch(model_state))


def conv_bn(cin: int, cout: int, kernel: int, stride: int = 1, *, relu: bool = False) -> nn.Sequential:
    conv = nn.Conv2d(cin, cout, kernel, stride, padding=kernel // 2, bias=False)
    layers: OrderedDict[str, nn.Module] = OrderedDict(conv=conv, bn=nn.BatchNorm2d(cout))
    if relu:
        layers["relu"] = nn.ReLU(inplace=True)
    return nn.Sequential(layers)


class Residual(nn.Module):
    """Two 3x3 convolutions and a skip, which is a 1x1 convolution where the shape changes."""

    def __init__(self, cin: int, cout: int, stride: int = 1):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(cin, cout, 3, stride, padding=1, bias=False), nn.BatchNorm2d(cout)
        self.conv2, self.bn2 = nn.Conv2d(cout, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout)
        self.skip = conv_bn(cin, cout, 1, stride) if stride > 1 or cin != cout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu_()
        return (self.bn2(self.conv2(y)) + self.skip(x)).relu_()


class Bottleneck(nn.Module):
    """A 3x3 convolution between two 1x1 ones, and a skip; the stride is that of the 3x3 convolution."""

    def __init__(self, cin: int, dim: int, stride: int = 1):
        super().__init__()
        cout = EXPANSION * dim
        self.conv1, self.bn1 = nn.Conv2d(cin, dim, 1, bias=False), nn.BatchNorm2d(dim)
        self.conv2, self.bn2 = nn.Conv2d(dim, dim, 3, stride, padding=1, bias=False), nn.BatchNorm2d(dim)
        self.conv3, self.bn3 = nn.Conv2d(dim, cout, 1, bias=False), nn.BatchNorm2d(cout)
        self.skip = conv_bn(cin, cout, 1, stride) if stride > 1 or cin != cout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu_()
        y = self.bn2(self.conv2(y)).relu_()
        return (self.bn3(self.conv3(y)) + self.skip(x)).relu_()


class Fire(nn.Module):
    """Squeeze to half the channels, expand by a 1x1 and a depthwise 3x3 convolution; a skip where the shape stays."""

    def __init__(self, cin: int, cout: int, stride: int = 1):
        super().__init__()
        half = cout // 2
        self.conv1, self.bn1 = nn.Conv2d(cin, half, 1, bias=False), nn.BatchNorm2d(half)
        self.expand1 = nn.Conv2d(half, half, 1, stride, bias=False)
        self.expand3 = nn.Conv2d(half, half, 3, stride, padding=1, groups=half, bias=False)
        self.bn2 = nn.BatchNorm2d(cout)
        self.skip = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x))
        y = self.bn2(torch.cat([self.expand1(y), self.expand3(y)], 1))
        return (y + x if self.skip else y).relu_()


class Level(nn.Module):
    """One level of an hourglass of fire blocks, and those inside it."""

    def __init__(self, dims: tuple[int, ...], blocks: tuple[int, ...]):
        super().__init__()
        dim, inner, n = dims[0], dims[1], blocks[0]
        self.up1 = nn.Sequential(*(Fire(dim, dim) for _ in range(n)))
        self.low1 = nn.Sequential(Fire(dim, inner, 2), *(Fire(inner, inner) for _ in range(n - 1)))
        if len(dims) > 2:
            self.low2: nn.Module = Level(dims[1:], blocks[1:])
        else:
            self.low2 = nn.Sequential(*(Fire(inner, inner) for _ in range(blocks[1])))
        self.low3 = nn.Sequential(*(Fire(inner, inner) for _ in range(n - 1)), Fire(inner, dim))
        self.up2 = nn.ConvTranspose2d(dim, dim, 4, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        low = self.low3(self.low2(self.low1(x)))
        return self.up1(x) + self.up2(low)


class StackedHourglass(nn.Module):
    """A stem and hourglasses one after the other; of each the features for its heads."""

    def __init__(self, options: Hourglass):
        super().__init__()
        first, dim, stacks = options.dims[0], options.dim, options.stacks
        halvings = int(math.log2(options.stride)) - 1
        widths = [options.stem_dim, *[first] * halvings]
        stem = [Residual(widths[i], first, 2) for i in range(halvings)]
        self.stem = nn.Sequential(conv_bn(3, options.stem_dim, options.stem_kernel, 2, relu=True), *stem)
        self.hourglasses = nn.ModuleList(Level(options.dims, options.blocks) for _ in range(stacks))
        self.outs = nn.ModuleList(conv_bn(first, dim, 3, relu=True) for _ in range(stacks))
        self.from_input = nn.ModuleList(conv_bn(first, first, 1) for _ in range(stacks - 1))
        self.from_output = nn.ModuleList(conv_bn(dim, first, 1) for _ in range(stacks - 1))
        self.between = nn.ModuleList(Residual(first, first) for _ in range(stacks - 1))

    def forward(self, images: Tensor) -> list[Tensor]:
        x, features = self.stem(images), []
        for i, (hourglass, out) in enumerate(zip(self.hourglasses, self.outs, strict=True)):
            features.append(out(hourglass(x)))
            if i < len(self.between):
                both = self.from_input[i](x) + self.from_output[i](features[-1])
                x = self.between[i](both.relu_())
        return features


def running_max(x: Tensor, direction: str) -> Tensor:
    axis, reverse = SCANS[direction]
    if reverse:
        return x.flip(axis).cummax(axis).values.flip(axis)
    return x.cummax(axis).values


class CornerPool(nn.Module):
    """Two branches pooled towards a corner and added, with a skip around them."""

    def __init__(self, dim: int, pool_dim: int, corner: str):
        super().__init__()
        self.branch1 = conv_bn(dim, pool_dim, 3, relu=True)
        self.branch2 = conv_bn(dim, pool_dim, 3, relu=True)
        self.merge, self.skip = conv_bn(pool_dim, dim, 3), conv_bn(dim, dim, 1)
        self.out = conv_bn(dim, dim, 3, relu=True)
        self.directions = CORNERS[corner]

    def forward(self, x: Tensor) -> Tensor:
        along_h, along_w = self.directions
        pooled = running_max(self.branch1(x), along_h) + running_max(self.branch2(x), along_w)
        return self.out((self.merge(pooled) + self.skip(x)).relu_())


def head(cin: int, dim: int, cout: int, kernel: int) -> nn.Sequential:
    hidden, out = nn.Conv2d(cin, dim, kernel, padding=kernel // 2), nn.Conv2d(dim, cout, 1)
    return nn.Sequential(OrderedDict(hidden=hidden, relu=nn.ReLU(inplace=True), out=out))


class CornerHeads(nn.Module):
    """Corner pooling and the three maps of one corner."""

    def __init__(self, model: CornerModel, corner: str):
        super().__init__()
        dim = model.backbone.dim
        self.pool = CornerPool(dim, model.pool_dim, corner)
        self.heat = head(dim, dim, model.num_classes, model.head_kernel)
        self.tag = head(dim, dim, 1, model.head_kernel)
        self.off = head(dim, dim, 2, model.head_kernel)
        self.corner = corner

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.pool(x)
        return {f"{self.corner}_{name}": getattr(self, name)(x) for name in ("heat", "tag", "off")}


class CornerNetwork(nn.Module):
    """Stacked hourglasses, each with heads for both corners."""

    def __init__(self, model: CornerModel):
        super().__init__()
        self.backbone = StackedHourglass(model.backbone)
        self.tl, self.br = (
            nn.ModuleList(CornerHeads(model, corner) for _ in range(model.backbone.stacks)) for corner in CORNERS
        )

    def forward(self, images: Tensor) -> list[dict[str, Tensor]]:
        stacks = list(zip(self.tl, self.br, self.backbone(images), strict=True))
        return [tl(x) | br(x) for tl, br, x in stacks[0 if self.training else -1 :]]


class Upsampling(nn.Module):
    """Twice as many rows and columns by a transposed convolution."""

    def __init__(self, cin: int, cout: int):
        super().__init__()
        self.up = nn.ConvTranspose2d(cin, cout, 4, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(cout)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.up(x)).relu_()


class ResNetFeatures(nn.Module):
    """A residual network and three up-samplings."""

    def __init__(self, options: ResNet):
        super().__init__()
        block, expansion = (Bottleneck, EXPANSION) if options.depth >= 50 else (Residual, 1)
        self.stem, cin = conv_bn(3, options.width, 7, 2, relu=True), options.width
        self.rows, self.ups = nn.Sequential(), nn.Sequential()
        for i, count in enumerate(BLOCKS[options.depth]):
            dim = options.width << i
            first, cin = block(cin, dim, 2 if i else 1), dim * expansion
            self.rows.append(nn.Sequential(first, *(block(cin, dim) for _ in range(count - 1))))
        for dim in options.up_dims:
            self.ups.append(Upsampling(cin, dim))
            cin = dim

    def forward(self, images: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(self.stem(images), 3, stride=2, padding=1)
        return self.ups(self.rows(x))


class PointNetwork(nn.Module):
    """A residual network with the three maps of centres."""

    def __init__(self, model: PointModel, backbone: ResNet):
        super().__init__()
        self.backbone = ResNetFeatures(backbone)
        couts = {"heat": model.num_classes, "size": 2, "off": 2}
        heads = {name: head(backbone.dim, model.head_dim, cout, 3) for name, cout in couts.items()}
        self.ct = nn.ModuleList([nn.ModuleDict(heads)])

    def forward(self, images: Tensor) -> list[dict[str, Tensor]]:
        x = self.backbone(images)
        return [{f"ct_{name}": module(x) for name, module in heads.items()} for heads in self.ct]
