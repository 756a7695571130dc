"""Batch normalisation in training, with a gradient that passes over the map as few times as it can.

JAX's own derivative goes through the mean and the variance one after the other: three sums over the map, each of which
waits for the one before, on every device for every other device. Both sums that the gradient is made of can be taken
at once.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from cornerjax.ops.precision import precise

CELLS = (1, 2, 3)  # the axes of a group that are normalised over

Statistics = Float[Array, "g 1 1 1 c"]


@partial(jax.jit, static_argnums=3)  # layers of one shape are traced once
def batch_norm(
    x: Float[Array, "g b h w c"], scale: Float[Array, " c"], bias: Float[Array, " c"], eps: float
) -> tuple[Float[Array, "g b h w c"], Statistics, Statistics]:
    """Normalise each channel of each group with its mean and variance over images, rows and columns.

    Returns:
        The normalised map in the type of x; its mean and biased variance in float32 or better. These two are for
        running statistics: no gradient goes through them.

    Source: Batch Normalization (Ioffe and Szegedy 2015), section 3.
    """
    return _batch_norm(x, scale, bias, eps)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _batch_norm(x, scale, bias, eps):
    return _forward(x, scale, bias, eps)[0]


def _forward(x, scale, bias, eps):
    wide = precise(x)
    mean = wide.mean(CELLS, keepdims=True)
    var = jnp.square(wide - mean).mean(CELLS, keepdims=True)  # E[x^2] - E[x]^2 would cancel
    y = (wide - mean) * (scale * lax.rsqrt(var + eps)) + bias
    return (y.astype(x.dtype), mean, var), (x, scale, mean, var)


@jax.named_scope("batch_norm")  # its sums over the devices can be told from others by this name
def _backward(eps, residuals, gradients):
    x, scale, mean, var = residuals
    g, n = precise(gradients[0]), x.size // (x.shape[0] * x.shape[-1])
    normalised = (precise(x) - mean) * lax.rsqrt(var + eps)
    g_mean, g_along = g.mean(CELLS, keepdims=True), (g * normalised).mean(CELLS, keepdims=True)
    dx = scale * lax.rsqrt(var + eps) * (g - g_mean - normalised * g_along)
    dscale, dbias = (n * value.sum((0, 1, 2, 3)) for value in (g_along, g_mean))
    return dx.astype(x.dtype), dscale, dbias


_batch_norm.defvjp(_forward, _backward)
