"""What every implementation must compute, in NumPy, element after element."""

import numpy as np
from jaxtyping import Float


def running_max_reference(x: Float[np.ndarray, "..."], axis: int, reverse: bool) -> Float[np.ndarray, "..."]:
    """The running maximum; NaN stays once met."""
    x = np.flip(x, axis) if reverse else x
    y = np.maximum.accumulate(x, axis=axis)
    return np.flip(y, axis) if reverse else y


def gradient_reference(
    x: Float[np.ndarray, "..."], g: Float[np.ndarray, "..."], axis: int, reverse: bool
) -> Float[np.ndarray, "..."]:
    """The gradient for x, given the one for the running maximum: all of it goes to the first of equal elements.

    Source: CornerNet, models/py_utils/_cpools/src (walk in scan order, a strictly greater value takes over). There a
    value may take over after NaN, whose outputs are NaN all the same; here none does.
    """
    xs, ys = np.moveaxis(x, axis, 0), np.moveaxis(running_max_reference(x, axis, reverse), axis, 0)
    gs = np.moveaxis(g, axis, 0).astype(np.float64)
    dxs = np.zeros_like(gs)
    order = range(len(xs))[::-1] if reverse else range(len(xs))
    for column in np.ndindex(xs.shape[1:]):
        for before, i in zip([None, *order], order, strict=False):
            # The first element is a record whatever it is, -inf too.
            if before is None or xs[(i, *column)] > ys[(before, *column)]:
                record = i
            dxs[(record, *column)] += gs[(i, *column)]
    return np.moveaxis(dxs, 0, axis).astype(g.dtype)
