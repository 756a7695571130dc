"""From uint8 pixels to what the network sees: mirror, colour jitter, PCA lighting, normalisation.

Every function serves one image on the host (`xp` is numpy) and inside a jitted step (`xp` is jax.numpy).
Colours are BGR, and so are the constants.
"""

from types import ModuleType

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, UInt8

Array = jax.Array | np.ndarray

# Source: CornerNet-Lite, core/dbs/coco.py.
MEAN = np.array([0.40789654, 0.44719302, 0.47026115], np.float32)
STD = np.array([0.28863828, 0.27408164, 0.27809835], np.float32)
EIGEN_VALUES = np.array([0.2141788, 0.01817699, 0.00341571], np.float32)
EIGEN_VECTORS = np.array(
    [
        [-0.58752847, -0.69563484, 0.41340352],
        [-0.5832747, 0.00994535, -0.81221408],
        [-0.56089297, 0.71832671, 0.41158938],
    ],
    np.float32,
)
GREY = np.array([0.114, 0.587, 0.299], np.float32)  # cv2's weights

BRIGHTNESS, CONTRAST, SATURATION = 0, 1, 2


def finish_image(
    image: UInt8[Array, "H W 3"],
    flip: Bool[Array, ""] | bool,
    jitter_order: Int[Array, "3"],
    jitter: Float[Array, "3"],
    lighting: Float[Array, "3"],
    xp: ModuleType,
) -> Float[Array, "H W 3"]:
    """All pixel work on one cropped image: mirror, scale to [0, 1], jitter, light, normalise; nothing is clipped.

    Args:
        image: BGR.
        flip: mirror left to right.
        jitter_order, jitter: see jitter_colours.
        lighting: see add_lighting.
    """
    image = mirror(image, flip, xp)
    # One plane a colour in memory, under the same shape: NumPy's broadcasting is ten times faster along long rows.
    planes = xp.moveaxis(xp.stack([image[..., i] for i in range(3)]), 0, -1).astype(xp.float32)
    planes /= 255
    planes = jitter_colours(planes, jitter_order, jitter, xp)
    planes = add_lighting(planes, lighting)
    planes = normalise(planes)
    return xp.stack([planes[..., i] for i in range(3)], axis=-1)


# The functions below use += and the like: a NumPy image is changed in place, which is what keeps the host fast, a JAX
# array is not. Both return the result.


def mirror(image: Shaped[Array, "H W 3"], flip: Bool[Array, ""] | bool, xp: ModuleType) -> Shaped[Array, "H W 3"]:
    """The image, left to right where flip; of a NumPy image a view."""
    if xp is np:
        return image[:, ::-1] if flip else image
    return xp.where(flip, image[:, ::-1], image)


def jitter_colours(
    image: Float[Array, "H W 3"], order: Int[Array, "3"], offsets: Float[Array, "3"], xp: ModuleType
) -> Float[Array, "H W 3"]:
    """Change brightness, contrast and saturation, one after the other; a NumPy image is changed in place.

    The grey image that contrast and saturation blend with is that of the image before the first of them.

    Args:
        image: BGR in [0, 1].
        order: which of BRIGHTNESS, CONTRAST, SATURATION comes first, second and third.
        offsets: the three factors less 1, in the order they are used.
    Source: CornerNet-Lite, core/sample/utils.py, color_jittering_.
    """
    grey = image[..., 0] * GREY[0] + image[..., 1] * GREY[1] + image[..., 2] * GREY[2]
    mean = grey.mean()
    for i in range(3):
        image *= 1 + offsets[i]
        blend = xp.where(order[i] == CONTRAST, mean, xp.where(order[i] == SATURATION, grey, 0))
        image -= (blend * offsets[i])[..., None]
    return image


def add_lighting(image: Float[Array, "H W 3"], weights: Float[Array, "3"]) -> Float[Array, "H W 3"]:
    """Add a colour along the principal components of natural images' colours; a NumPy image is changed in place.

    Args:
        image: BGR in [0, 1].
        weights: of the three components, in units of their standard deviation.
    Source: CornerNet-Lite, core/sample/utils.py, lighting_.
    """
    image += (EIGEN_VECTORS * (EIGEN_VALUES * weights)).sum(1)
    return image


def normalise(image: Float[Array, "*b H W 3"]) -> Float[Array, "*b H W 3"]:
    """From BGR in [0, 1] to mean 0 and variance 1 over the pixels of COCO; a NumPy image is changed in place."""
    image -= MEAN
    image /= STD
    return image
