"""Deep layer aggregation, brought back to a quarter of the image's size by deformable convolutions (Yu et al. 2018)."""

import dataclasses
from functools import partial
from typing import ClassVar

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import Float

from cornerjax.config import Compute
from cornerjax.nn.backbones import Features
from cornerjax.nn.functional import applied
from cornerjax.nn.layers import (
    BatchNorm,
    Conv,
    ConvBN,
    ConvBNReLU,
    DeformableConvBNReLU,
    DepthwiseConvTranspose,
    Rng,
    max_pool,
)
from cornerjax.validation import Channels

BLOCKS = (1, 1, 1, 2, 2, 1)  # of the first two levels convolutions, of the others the height of a tree
FIRST = 2  # the level of the output, at a quarter of the image's size


@dataclasses.dataclass(frozen=True)
class DLA:
    """DLA-34; a width of 16 is the published one."""

    width: Channels = 16  # channels of the first of six levels; each of the others has twice as many

    stacks = 1
    stride = 4
    unit_px = 32  # sides of images are multiples of this

    @property
    def dims(self) -> tuple[int, ...]:
        """Channels of the levels."""
        return tuple(self.width << i for i in range(len(BLOCKS)))

    @property
    def dim(self) -> int:
        return self.dims[FIRST]

    def check(self) -> None:
        """Every one can be built."""

    def build(self, rng: Rng) -> "DLAFeatures":
        return DLAFeatures(self, rng=rng)


class Block(nnx.Module):
    """Two 3x3 convolutions to which a map of the caller's is added."""

    folds: ClassVar = {"bn1": ("conv1",), "bn2": ("conv2",)}

    def __init__(self, cin: int, cout: int, *, stride: int = 1, rng: Rng):
        self.conv1, self.bn1 = Conv(cin, cout, 3, stride=stride, rng=rng), BatchNorm(cout)
        self.conv2, self.bn2 = Conv(cout, cout, 3, rng=rng), BatchNorm(cout)

    def __call__(
        self, x: Float[Array, "b h w c"], residual: Float[Array, "b h2 w2 c2"], *, train: bool
    ) -> Float[Array, "b h2 w2 c2"]:
        y = nnx.relu(self.bn1(self.conv1(x), train=train))
        return nnx.relu(self.bn2(self.conv2(y), train=train) + residual)


class Tree(nnx.Module):
    """Two blocks, or two trees, whose outputs a 1x1 convolution puts together.

    Args:
        height: 1 has blocks.
        keep: the input, halved, is put together with the outputs as well.
        more: channels of further maps that are put together.
    Source: CenterNet of xingyizhou, models/networks/pose_dla_dcn.py, Tree.
    """

    def __init__(self, height: int, cin: int, cout: int, *, stride: int, keep: bool = False, more: int = 0, rng: Rng):
        self.tree1: Block | Tree
        self.tree2: Block | Tree
        self.root: ConvBNReLU | None
        together = 2 * cout + (cin if keep else 0) + more
        if height == 1:
            self.tree1, self.tree2 = Block(cin, cout, stride=stride, rng=rng), Block(cout, cout, rng=rng)
            self.root = ConvBNReLU(together, cout, 1, rng=rng)
        else:
            self.tree1 = Tree(height - 1, cin, cout, stride=stride, rng=rng)
            self.tree2 = Tree(height - 1, cout, cout, stride=1, more=together - cout, rng=rng)
            self.root = None
        # Of a tree of trees nothing reads it, so it has no gradient; its statistics move, as in the original.
        self.project = ConvBN(cin, cout, 1, rng=rng) if cin != cout else None
        self.stride, self.keep = stride, keep

    def __call__(
        self, x: Float[Array, "b h w c"], children: tuple[Array, ...] = (), *, train: bool
    ) -> Float[Array, "b h2 w2 c2"]:
        """children: further maps that are put together with the outputs."""
        bottom = max_pool(x, self.stride, stride=self.stride) if self.stride > 1 else x
        residual = bottom if self.project is None else self.project(bottom, train=train)
        if self.keep:
            children = (*children, bottom)
        tree1, tree2, root = self.tree1, self.tree2, self.root
        if isinstance(tree1, Tree) and isinstance(tree2, Tree):
            first = tree1(x, train=train)
            return tree2(first, (*children, first), train=train)
        assert isinstance(tree1, Block)
        assert isinstance(tree2, Block)
        assert root is not None
        first = tree1(x, residual, train=train)
        second = tree2(first, first, train=train)
        return root(jnp.concatenate([second, first, *children], -1), train=train)


class Aggregation(nnx.Module):
    """Coarser maps brought to the size of the first, one after the other, each added to what came before.

    Args:
        dims: channels of the maps, the finest first; all of them become dim.
        factors: how many times coarser each but the first is.
    Source: CenterNet of xingyizhou, models/networks/pose_dla_dcn.py, IDAUp.
    """

    def __init__(self, dim: int, dims: tuple[int, ...], factors: tuple[int, ...], *, rng: Rng):
        self.projects = nnx.List([DeformableConvBNReLU(cin, dim, rng=rng) for cin in dims[1:]])
        self.ups = nnx.List([DepthwiseConvTranspose(dim, factor) for factor in factors])
        self.nodes = nnx.List([DeformableConvBNReLU(dim, dim, rng=rng) for _ in factors])

    def __call__(self, maps: list[Array], *, train: bool) -> list[Array]:
        """Every map but the first together with those before it."""
        made = [maps[0]]
        for x, project, up, node in zip(maps[1:], self.projects, self.ups, self.nodes, strict=True):
            made.append(node(up(project(x, train=train)) + made[-1], train=train))
        return made


class DLAFeatures(nnx.Module):
    """See DLA.

    Source: CenterNet of xingyizhou, models/networks/pose_dla_dcn.py, DLASeg.
    """

    compute = Compute()

    def __init__(self, options: DLA, *, rng: Rng):
        dims = options.dims
        self.stem = ConvBNReLU(3, dims[0], 7, rng=rng)
        self.convs = nnx.List(
            [ConvBNReLU(dims[0], dims[0], 3, rng=rng), ConvBNReLU(dims[0], dims[1], 3, stride=2, rng=rng)]
        )
        self.trees = nnx.List(
            [
                Tree(BLOCKS[i], dims[i - 1], dims[i], stride=2, keep=i > FIRST, rng=rng)
                for i in range(FIRST, len(BLOCKS))
            ]
        )
        outer = dims[FIRST:]
        # Each starts one level finer than the one before, which has left all coarser maps equally wide.
        self.aggregations = nnx.List(
            [
                Aggregation(outer[-i - 1], (outer[-i - 1], *[outer[-i]] * i), (2,) * i, rng=rng)
                for i in range(1, len(outer))
            ]
        )
        self.last = Aggregation(outer[0], outer[:-1], tuple(2**i for i in range(1, len(outer) - 1)), rng=rng)

    def __call__(self, images: Float[Array, "b H W 3"], *, train: bool) -> list[Features]:
        """One stack of features.

        Args:
            images: normalised; H and W are multiples of 32.
        """
        apply = partial(applied, train=train, remat=self.compute.remat != "none")
        x = self.stem(images, train=train)
        for conv in self.convs:
            x = apply(conv, x)
        maps: list[Array] = []
        for tree in self.trees:
            x = apply(tree, x)
            maps.append(x)
        levels = maps[::-1]
        outputs: list[Array] = []
        for i, aggregate in enumerate(self.aggregations, start=1):
            start = len(maps) - 1 - i
            maps[start:] = apply(aggregate, maps[start:])
            outputs.insert(0, maps[-1])
        return [Features(apply(self.last, outputs)[-1], levels)]
