"""Crops of an image: where they are cut is decided on the host, the pixels are resized on the device.

The geometry is in whole pixels, all of it decided here, once, in the arithmetic of the original (see locations.py).
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Float32, Int, UInt8


class Windows(NamedTuple):
    """The parts of images that crops show, all (n, 2) int32 as y, x; rows of zeros make black crops.

    Made of NumPy arrays on the host; inside a jitted function, of JAX's.
    """

    start: np.ndarray | Array  # first pixel of the part that lies inside the image
    size: np.ndarray | Array  # its height and width; 0: nothing does
    corner: np.ndarray | Array  # the part's place in the crop
    resized: np.ndarray | Array  # its height and width there
    offset: np.ndarray | Array  # pixel of the image, or beyond it, where the window of the whole crop starts


def view_locations(height: int, width: int, view_px: Sequence[int]) -> Float32[np.ndarray, "n 3"]:
    """The views of a whole image, as y, x, scale: its longer side is resized to each of view_px.

    Returns: float32, as in the original, where it decides how many pixels a view takes.
    Source: CornerNet-Lite, core/test/cornernet_saccade.py, get_locs.
    """
    return np.array([(height // 2, width // 2, px / max(height, width)) for px in view_px], np.float32)


def crop_windows(locations: Float[np.ndarray, "n _"], height: int, width: int, *, side: int) -> Windows:
    """Lay a window around each location, so large that it fills a crop at the location's scale.

    Only the part inside the image is resized, by itself, and put into a black crop. It reaches half a window, in whole
    pixels, to both sides, so that an odd window loses its last row and column, as in the original.

    Args:
        locations: y, x in pixels, scale; further columns are ignored. Their dtype is that of the arithmetic.
        height, width: of the image.
        side: of the crops, in pixels.
    Source: CornerNet-Lite, core/test/cornernet_saccade.py, prepare_images, crop_image_gpu.
    """
    window = (side / locations[:, 2:3]).astype(np.int32)
    half, centre = window // 2, locations[:, :2].astype(np.int32)
    start, stop = np.maximum(centre - half, 0), np.minimum(centre + half, np.array([height, width], np.int32))
    factor = side / np.maximum(window, 1)
    before, after = ((pixels * factor).astype(np.int32) for pixels in (centre - start, stop - centre))
    size, resized = np.maximum(stop - start, 0), np.maximum(before + after, 0)
    return Windows(start, size, side // 2 - before, resized, offset=centre - half)


def placements(
    windows: Windows, scales: Float[np.ndarray, "n"], *, nominal: bool
) -> tuple[Float32[np.ndarray, "n 2"], Float32[np.ndarray, "n 2"]]:
    """What to_image needs to know of each crop: its pixels for one of the image, and where its first pixel lies there.

    Args:
        windows: on the host.
        scales: of the locations they were made for.
        nominal: answer with these scales, and with the windows' offsets; otherwise with those of the resized pixels.
    Returns: scales and offsets, as y, x.
    """
    # Differs from CornerNet-Saccade: without nominal, boxes go back the way that the pixels came.
    if nominal:
        return np.repeat(scales[:, None], 2, 1).astype(np.float32), np.asarray(windows.offset, np.float32)
    something = (windows.size > 0) & (windows.resized > 0)
    true = np.where(something, windows.resized, 1) / np.where(something, windows.size, 1)
    return true.astype(np.float32), np.asarray(windows.start - windows.corner / true, np.float32)


def cut_crops(
    images: UInt8[Array, "p H W 3"], index: Int[Array, "n"], windows: Windows, *, side: int
) -> Float[Array, "n side side 3"]:
    """Resize the windows' parts of images and put each into a black crop.

    Bilinear, with half-pixel centres and without antialiasing, which is torch's `align_corners=False`.

    Args:
        images: each starts at its array's first pixel; what is beyond its size is not read.
        index: the image of each crop, in [0, p).
        side: of the crops, in pixels, as given to crop_windows.
    Returns: values in [0, 1].
    Source: CornerNet-Lite, core/test/cornernet_saccade.py, crop_image_gpu.
    """
    p, H, W, _ = images.shape
    rows = images.reshape(p * H, W, 3)  # of all images: picking whole images first would copy them

    def cut(first_row, start, size, corner, resized):
        crop = _resize_rows(rows, first_row + start[0], size[0], corner[0], resized[0], side)
        columns = _resize_rows(crop.swapaxes(0, 1), start[1], size[1], corner[1], resized[1], side)
        return columns.swapaxes(0, 1) / 255

    return jax.vmap(cut)(index * H, *windows[:4])


def _resize_rows(x, start, size, corner, resized, side):
    """Rows start to start + size of x as rows corner to corner + resized of `side` rows, the others 0."""
    row = jnp.arange(side, dtype=jnp.int32) - corner
    # (row + 1/2) * size / resized - 1/2 as a fraction of integers: in float32 it would lose the weights' last digits.
    unit = jnp.maximum(2 * resized, 1)
    place = jnp.maximum((2 * row + 1) * size - resized, 0)
    weight = (place % unit).astype(jnp.float32) / unit.astype(jnp.float32)
    near = place // unit
    far = jnp.minimum(near + 1, size - 1)
    a, b = (x.at[start + i].get(mode="clip").astype(jnp.float32) for i in (near, far))
    inside = (row >= 0) & (row < resized) & (size > 0)
    return jnp.where(inside[:, None, None], a + (b - a) * weight[:, None, None], 0)


def to_image(
    boxes: Float[Array, "n k 4"], scales: Float[Array, "n 2"], offsets: Float[Array, "n 2"], *, side: int, cells: int
) -> Float[Array, "n k 4"]:
    """Boxes in cells of a crop's map -> in pixels of the image; nothing is clipped.

    Args:
        boxes: x1 y1 x2 y2.
        scales, offsets: of each crop, see placements.
        side: of the crops, in pixels.
        cells: of a side of their maps.
    Source: CornerNet-Lite, core/test/cornernet_saccade.py, rescale_dets_, remap_dets_.
    """
    scale, offset = (jnp.tile(yx[:, ::-1], 2)[:, None] for yx in (scales, offsets))
    return boxes / (cells / side) / scale + offset
