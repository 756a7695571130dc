"""Modulated deformable convolution: a convolution whose taps look where it is told to (DCNv2, Zhu et al. 2019)."""

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from cornerjax.ops.precision import precise

PATCHES = lax.GatherDimensionNumbers(offset_dims=(1, 2, 3), collapsed_slice_dims=(), start_index_map=(0, 1))


def deformable_conv(
    x: Float[Array, "b H W c"],
    offsets: Float[Array, "b h w twice_taps"],
    mask: Float[Array, "b h w taps"],
    kernel: Float[Array, "kh kw c k"],
    *,
    stride: int = 1,
    padding: int = 1,
    dilation: int = 1,
    precision: lax.Precision | None = None,
) -> Float[Array, "b h w k"]:
    """Every tap of a kernel samples the map beside its usual place, between four cells, and is weighed by a mask.

    Outside the map there are zeros. The taps are computed one after the other, and once more for the gradient, so that
    no map of all samples is ever kept.

    Args:
        offsets: y, x in cells for each tap, rows of the kernel outermost.
        mask: the weight of each tap.
        stride, padding, dilation: of the ordinary convolution that this is with no offsets and a mask of ones.
    Raises: ValueError: offsets or mask do not fit the kernel, or the size of the output.
    Source: Deformable ConvNets v2 (Zhu et al. 2019), section 3.2.
    """
    kh, kw, _, cout = kernel.shape
    h, w = (
        (side + 2 * padding - dilation * (taps - 1) - 1) // stride + 1
        for side, taps in zip(x.shape[1:3], (kh, kw), strict=True)
    )
    expected = (len(x), h, w, 2 * kh * kw), (len(x), h, w, kh * kw)
    if (offsets.shape, mask.shape) != expected:
        raise ValueError(
            f"offsets and mask have the shapes {offsets.shape} and {mask.shape}, expected {expected[0]} and "
            f"{expected[1]}"
        )
    # With these zeros, and places moved to just outside the map, every border rule follows.
    padded = jnp.pad(x, ((0, 0), (1, 2), (1, 2), (0, 0)))
    row, column, tap_y, tap_x = jnp.ogrid[:h, :w, :kh, :kw]
    usual = jnp.stack(
        jnp.broadcast_arrays(row * stride + tap_y * dilation, column * stride + tap_x * dilation), -1
    ).reshape(h, w, kh * kw, 2)
    offsets = precise(offsets).reshape(*mask.shape, 2)
    places = (usual - padding).astype(offsets.dtype) + offsets

    @jax.checkpoint
    def add_tap(total, tap):
        at, weight, taps = tap
        samples = jax.vmap(sample)(padded, at, precise(weight)).astype(x.dtype)
        return total + jnp.matmul(samples, taps, precision=precision, preferred_element_type=total.dtype), None

    each = (
        jnp.moveaxis(places, 3, 0),
        jnp.moveaxis(mask, 3, 0),
        kernel.reshape(kh * kw, *kernel.shape[2:]).astype(x.dtype),
    )
    start = jnp.zeros((len(x), h, w, cout), precise(x[:0]).dtype)
    return lax.scan(add_tap, start, each)[0].astype(x.dtype)


def sample(
    padded: Float[Array, "H3 W3 c"], places: Float[Array, "h w 2"], weight: Float[Array, "h w"]
) -> Float[Array, "h w c"]:
    """A map between its cells, times a weight.

    Args:
        padded: the map with a cell of zeros before and two behind, in both directions.
        places: y, x in cells of the map itself; everything outside is 0.
    """
    h, w = places.shape[:2]
    limits = jnp.array([padded.shape[0] - 3, padded.shape[1] - 3], places.dtype)
    # Unlike jnp.clip it has no gradient for places on the border itself, of which the original has none either.
    places = lax.clamp(jnp.full_like(places, -1), places, jnp.broadcast_to(limits, places.shape))
    first = lax.stop_gradient(jnp.floor(places))
    patches = lax.gather(
        padded,
        (first.astype(jnp.int32) + 1).reshape(h * w, 2),
        PATCHES,
        (2, 2, padded.shape[2]),
        mode=lax.GatherScatterMode.CLIP,  # a place that is not finite reads no other memory
    )
    (y, x) = jnp.unstack((places - first).reshape(h * w, 2), axis=1)
    corners = jnp.stack([(1 - y) * (1 - x), (1 - y) * x, y * (1 - x), y * x], -1) * weight.reshape(h * w, 1)
    return blend(precise(patches).reshape(h * w, 4, -1), corners).reshape(h, w, -1)


@jax.custom_vjp
def blend(values: Float[Array, "n 4 c"], weights: Float[Array, "n 4"]) -> Float[Array, "n c"]:
    """The weighted sum of four rows, many times over."""
    one, two, three, four = (values[:, i] * weights[:, i, None] for i in range(4))
    return one + two + three + four


def _blend_forward(values: Array, weights: Array) -> tuple[Array, tuple[Array, Array]]:
    return blend(values, weights), (values, weights)


def _blend_backward(kept: tuple[Array, Array], slope: Float[Array, "n c"]) -> tuple[Array, Array]:
    """As derived by JAX, but with the sum over channels as a product of matrices.

    XLA on CPUs reads the cells anew for every addend of such a sum: four times the time of the whole convolution.
    """
    values, weights = kept
    of_weights = jnp.einsum("nkc,nc->nk", values, slope, precision=lax.Precision.HIGHEST)
    return slope[:, None] * weights[..., None], of_weights


blend.defvjp(_blend_forward, _blend_backward)
