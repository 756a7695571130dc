"""Convolutions, batch normalisation and the residual block, with PyTorch's initial values and padding.

Weights are made as NumPy arrays, so that building a network compiles and computes nothing. `rng` is a NumPy generator,
or None for zeros that a checkpoint is going to replace. The modules are our own rather than Flax's because padding,
initial values and running variance are those of PyTorch.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array, lax
from jaxtyping import Float

from cornerjax.config import Compute
from cornerjax.ops.batch_norm import batch_norm
from cornerjax.ops.convolution import conv, conv_transpose, depthwise_conv, depthwise_conv_transpose
from cornerjax.ops.deformable import deformable_conv
from cornerjax.ops.precision import precise

Rng = np.random.Generator | None
PRECISIONS = {"default": None, "highest": lax.Precision.HIGHEST}  # None: as jax's own setting says


def initial(rng: Rng, shape: tuple[int, ...], fan_in: int) -> nnx.Param:
    """PyTorch's default for weights and biases: uniform between -1/sqrt(fan_in) and 1/sqrt(fan_in)."""
    if rng is None:
        return nnx.Param(np.zeros(shape, np.float32))
    return nnx.Param((rng.random(shape, np.float32) * 2 - 1) / np.float32(np.sqrt(fan_in)))


def normal(rng: Rng, shape: tuple[int, ...], std: float) -> nnx.Param:
    """Normally distributed round 0."""
    if rng is None:
        return nnx.Param(np.zeros(shape, np.float32))
    return nnx.Param(rng.standard_normal(shape, np.float32) * np.float32(std))


def kernel_from_torch(value: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """A parameter of PyTorch in our layout: kernels of convolutions of all kinds get their two sides first."""
    return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value


class Conv(nnx.Module):
    """Convolution with an odd square kernel and (kernel - 1) / 2 zeros on every side; it computes in the input's type.

    "SAME" would be wrong: with stride 2 and an even number of rows it pads below only.
    """

    compute = Compute()

    def __init__(self, cin: int, cout: int, kernel: int, *, stride: int = 1, bias: bool = False, rng: Rng):
        fan_in = cin * kernel**2
        self.kernel = initial(rng, (kernel, kernel, cin, cout), fan_in)
        self.bias = initial(rng, (cout,), fan_in) if bias else None
        self.stride = stride

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        precision = PRECISIONS[self.compute.precision]
        y = conv(x, self.kernel[...].astype(x.dtype), stride=self.stride, precision=precision)
        return y if self.bias is None else y + self.bias[...].astype(x.dtype)


class DepthwiseConv(nnx.Module):
    """A 3x3 kernel for each channel; no bias."""

    compute = Compute()

    def __init__(self, dim: int, *, stride: int = 1, rng: Rng):
        self.kernel = initial(rng, (3, 3, 1, dim), 9)
        self.stride = stride

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
        precision = PRECISIONS[self.compute.precision]
        return depthwise_conv(x, self.kernel[...].astype(x.dtype), stride=self.stride, precision=precision)


class ConvTranspose(nnx.Module):
    """Learned up-sampling by 2: transposed 4x4 convolution.

    Args:
        cin: channels of the input.
        cout: of the output; None: as many.
    """

    compute = Compute()

    def __init__(self, cin: int, cout: int | None = None, *, bias: bool = True, rng: Rng):
        cout = cout or cin
        self.kernel = initial(rng, (4, 4, cout, cin), cout * 16)
        self.bias = initial(rng, (cout,), cout * 16) if bias else None

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c2"]:
        y = conv_transpose(x, self.kernel[...].astype(x.dtype), precision=PRECISIONS[self.compute.precision])
        return y if self.bias is None else y + self.bias[...].astype(x.dtype)


class DepthwiseConvTranspose(nnx.Module):
    """Learned up-sampling of each channel by itself, which starts as a bilinear one; no bias.

    Args:
        factor: even; the kernel has twice this side.
    """

    def __init__(self, dim: int, factor: int):
        ramp = 1 - np.abs((np.arange(2 * factor) + 0.5) / factor - 1)
        self.kernel = nnx.Param(np.tile((ramp[:, None] * ramp)[..., None, None], dim).astype(np.float32))
        self.factor = factor

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
        return depthwise_conv_transpose(x, self.kernel[...].astype(x.dtype), factor=self.factor)


class DeformableConv(nnx.Module):
    """Modulated deformable 3x3 convolution with a bias, whose offsets and masks come from an ordinary one.

    It starts as half of an ordinary convolution: offsets are 0 and masks 0.5.

    Source: Deformable ConvNets v2 (Zhu et al. 2019), section 3.2.
    """

    compute = Compute()

    def __init__(self, cin: int, cout: int, *, rng: Rng):
        self.kernel = initial(rng, (3, 3, cin, cout), cin * 9)
        self.bias = nnx.Param(np.zeros(cout, np.float32))
        self.offset = Conv(cin, 27, 3, bias=True, rng=None)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c2"]:
        offsets, mask = jnp.split(self.offset(x), [18], axis=-1)
        y = deformable_conv(
            x,
            offsets,
            jax.nn.sigmoid(mask),
            self.kernel[...],
            precision=PRECISIONS[self.compute.precision],
        )
        return y + self.bias[...].astype(x.dtype)


class BatchNorm(nnx.Module):
    """Batch normalisation as in PyTorch: the running variance is the unbiased one, momentum 0.1.

    In training the statistics are those of the whole batch, over all devices, or of each of `groups` equal parts of it,
    one after the other; the running ones follow the mean of the parts'. All of them are float32 or better.
    """

    momentum, eps = 0.1, 1e-5

    def __init__(self, dim: int):
        self.scale = nnx.Param(np.ones(dim, np.float32))
        self.bias = nnx.Param(np.zeros(dim, np.float32))
        self.mean = nnx.BatchStat(np.zeros(dim, np.float32))
        self.var = nnx.BatchStat(np.ones(dim, np.float32))
        self.groups = 1
        self.folded = False  # whether the convolution before it does all but add the bias, see nn.folding

    @jax.named_scope("batch_norm")  # its sums over the devices can be told from others by this name
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w c"]:
        if self.folded:
            if train:
                raise ValueError("a folded network only predicts; train the one that it was made of")
            return x + self.bias[...].astype(x.dtype)
        if train:
            parts = x.reshape(self.groups, -1, *x.shape[1:])
            y, mean, var = batch_norm(parts, self.scale[...], self.bias[...], self.eps)
            self._remember(mean, var, parts.size // (self.groups * x.shape[-1]))
            return y.reshape(x.shape)
        factor = self.scale[...] * lax.rsqrt(self.var[...] + self.eps)
        return ((precise(x) - self.mean[...]) * factor + self.bias[...]).astype(x.dtype)

    def _remember(self, mean: Float[Array, "g 1 1 1 c"], var: Float[Array, "g 1 1 1 c"], n: int) -> None:
        """The statistics of this batch, of n values a channel in each group, enter the running ones."""
        old, new = 1 - self.momentum, self.momentum
        # Differs from CornerNet: there the running ones are those of the first group, that of the first GPU.
        group_mean, group_var = (lax.stop_gradient(value.mean((0, 1, 2, 3))) for value in (mean, var))
        self.mean.set_value(old * self.mean[...] + new * group_mean)
        self.var.set_value(old * self.var[...] + new * n / max(n - 1, 1) * group_var)


def configure(network: nnx.Module, compute: Compute, *, batch_norm_groups: int = 1) -> None:
    """Tell every module of a network how to compute, and every BatchNorm in how many groups to take the batch.

    A module that wants to know has a class attribute `compute`.
    """
    for _, module in nnx.iter_graph(network):
        if isinstance(module, nnx.Module) and hasattr(type(module), "compute"):
            module.compute = compute  # type: ignore[attr-defined]
        if isinstance(module, BatchNorm):
            module.groups = batch_norm_groups


class ConvBN(nnx.Module):
    """Convolution and batch normalisation."""

    folds: ClassVar = {"bn": ("conv",)}

    def __init__(self, cin: int, cout: int, kernel: int, *, stride: int = 1, rng: Rng):
        self.conv = Conv(cin, cout, kernel, stride=stride, rng=rng)
        self.bn = BatchNorm(cout)

    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h2 w2 c2"]:
        return self.bn(self.conv(x), train=train)


class ConvBNReLU(ConvBN):
    """Convolution, batch normalisation and ReLU."""

    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h2 w2 c2"]:
        return nnx.relu(super().__call__(x, train=train))


class DeformableConvBNReLU(nnx.Module):
    """Deformable convolution, batch normalisation and ReLU."""

    folds: ClassVar = {"bn": ("conv",)}

    def __init__(self, cin: int, cout: int, *, rng: Rng):
        self.conv = DeformableConv(cin, cout, rng=rng)
        self.bn = BatchNorm(cout)

    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w c2"]:
        return nnx.relu(self.bn(self.conv(x), train=train))


def max_pool(x: Float[Array, "b h w c"], window: int, *, stride: int, padding: int = 0) -> Float[Array, "b h2 w2 c"]:
    """The maximum of a square of cells, every stride cells."""
    pad = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    least = np.array(-np.inf, x.dtype)  # as a JAX array, its value would be unknown in a compiled function
    return lax.reduce_window(x, least, lax.max, (1, window, window, 1), (1, stride, stride, 1), pad)


class ResidualBlock(nnx.Module):
    """Two 3x3 convolutions and a skip; the skip is a 1x1 convolution where the shape changes."""

    folds: ClassVar = {"bn1": ("conv1",), "bn2": ("conv2",)}

    def __init__(self, cin: int, cout: int, *, stride: int = 1, rng: Rng):
        self.conv1, self.bn1 = Conv(cin, cout, 3, stride=stride, rng=rng), BatchNorm(cout)
        self.conv2, self.bn2 = Conv(cout, cout, 3, rng=rng), BatchNorm(cout)
        self.skip = ConvBN(cin, cout, 1, stride=stride, rng=rng) if stride > 1 or cin != cout else None

    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h2 w2 c2"]:
        y = nnx.relu(self.bn1(self.conv1(x), train=train))
        y = self.bn2(self.conv2(y), train=train)
        return nnx.relu(y + (x if self.skip is None else self.skip(x, train=train)))
