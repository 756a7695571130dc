"""Every op besides the pools on the device, against NumPy or against recordings of the original programs."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from on_accelerator import references
from on_accelerator.bench import GOLDEN, Bench
from on_accelerator.boxes import checks_of_boxes
from on_accelerator.checking import Check, largest_difference, near, run_all

from cornerjax.keypoints import Keypoint
from cornerjax.ops import convolution, deformable_conv, gather_cells, keep_peaks, line_max, top_cells
from cornerjax.ops.batch_norm import batch_norm
from cornerjax.ops.edges import RISING_SUMS, aggregate_edges
from cornerjax.ops.partial_sort import partial_sort
from cornerjax.ops.pixels import finish_image
from cornerjax.targets import encode_keypoints, render_keypoints

HIGHEST = lax.Precision.HIGHEST


def measure(bench: Bench) -> None:
    run_all(bench, [*checks_of_maps(bench.small), *checks_of_boxes(bench.small)])


def checks_of_maps(small: bool) -> Iterator[Check]:
    """What makes maps of maps, reads them, and prepares images."""
    yield from deformable(small)
    yield from convolutions(small)
    yield from normalisations(small)
    rng = np.random.default_rng(0)
    side, c = (12, 3) if small else (128, 80)
    x = np.round(rng.standard_normal((2, side, side + 4, c)), 2).astype(np.float32)
    scores = 1 / (1 + np.exp(-x))
    for name in RISING_SUMS:
        for axis, way in ((1, "columns"), (2, "rows")):
            run = partial(aggregate_edges, axis=axis, implementation=name)
            yield Check("edges", f"{name}, {way}", run, (scores,), near(references.edges(scores, axis)), 2e-5)
    for window in (3, 7):
        expected = references.peaks(x, window)
        yield Check("peaks", f"window {window}", partial(keep_peaks, window=window), (x,), near(expected), 0.0)
    k = 20 if small else 100
    order = np.argsort(-x.reshape(2, -1), kind="stable")[:, :k]
    best = np.take_along_axis(x.reshape(2, -1), order, 1), order
    yield Check("top k", f"{k}, equal ones in order", lambda x: top_cells(x, k)[:2], (x,), near(best), 0.0)
    row = x[0].ravel()
    yield Check("top k", "as PyTorch's", lambda x: partial_sort(x, k), (row,), partial(wrong_sort, row, k), 0.0)
    cells = rng.integers(0, side, (2, k, 2))
    read = np.stack([one[at[:, 1], at[:, 0]] for one, at in zip(x, cells, strict=True)])
    yield Check("gather", "cells", gather_cells, (x, cells), near(read), 0.0)
    yield Check("line maxima", "columns", partial(line_max, axis=1), (x,), near(x.max(1, keepdims=True)), 0.0)
    yield from inputs(small)


def wrong_sort(x: np.ndarray, k: int, found: tuple[np.ndarray, np.ndarray]) -> float:
    values, places = found
    return largest_difference((values, x[places]), (np.sort(x)[::-1][:k], values))


def deformable(small: bool) -> Iterator[Check]:
    """Recordings with gradients; a larger map in the two precisions."""
    recorded = np.load(GOLDEN / "ops" / "dcn_v2.npz")

    def nhwc(name: str) -> np.ndarray:
        return recorded[name].transpose(0, 2, 3, 1)

    def with_gradients(x: Any, offset: Any, mask: Any, kernel: Any, g: Any, **options: int) -> tuple[Any, ...]:
        y, pull = jax.vjp(partial(deformable_conv, **options, precision=HIGHEST), x, offset, mask, kernel)
        return y, *pull(g)

    cases = {"c1": "stride 2", "c0": "stride 1", "c2": "dilation 2"}
    for case, what in list(cases.items())[: 1 if small else None]:
        options = zip(("stride", "padding", "dilation"), recorded[f"{case}_stride_pad_dil"].tolist(), strict=True)
        kernel, slope = (recorded[f"{case}_{name}"].transpose(2, 3, 1, 0) for name in ("weight", "gweight"))
        given = (*(nhwc(f"{case}_{name}") for name in ("x", "offset", "mask")), kernel, nhwc(f"{case}_g"))
        expected = (nhwc(f"{case}_y") - recorded[f"{case}_bias"],)
        expected += (*(nhwc(f"{case}_{name}") for name in ("gx", "goffset", "gmask")), slope)
        run = partial(with_gradients, **dict(options))
        yield Check("deformable convolution", f"recorded, gradients, {what}", run, given, near(expected), 2e-5)
    rng, (side, c) = np.random.default_rng(0), (8, 4) if small else (64, 64)
    drawn = [rng.standard_normal((2, side, side, n)) * scale for n, scale in ((c, 1), (18, 2))]
    arrays = (*drawn, rng.random((2, side, side, 9)), rng.standard_normal((3, 3, c, c)) / np.sqrt(9 * c))
    given = tuple(array.astype(np.float32) for array in arrays)
    expected = references.deformed(*given)
    for precision, limit in ((HIGHEST, 2e-5), (None, 0.02)):
        run = partial(deformable_conv, precision=precision)
        name = "default" if precision is None else "highest"
        yield Check("deformable convolution", f"precision {name}", run, given, near(expected), limit)


def convolutions(small: bool) -> Iterator[Check]:
    """Those with forms of their own; a gradient is right where it says what a small step along the input gives."""
    rng = np.random.default_rng(0)

    def along(op: Any, x: Any, kernel: Any, g: Any, dx: Any, dkernel: Any) -> tuple[Any, ...]:
        y, pull = jax.vjp(op, x, kernel)
        return y, *(
            jnp.vdot(slope, step, precision=HIGHEST) for slope, step in zip(pull(g), (dx, dkernel), strict=True)
        )

    for name, (side, shape, op, reference) in kinds_of_convolution(small).items():
        x, dx = rng.standard_normal((2, 2, side, side, shape[3])).astype(np.float32)
        kernel, dkernel = (rng.standard_normal((2, *shape)) / np.sqrt(np.prod(shape[:3]))).astype(np.float32)
        y = reference(x, kernel)
        g = (rng.standard_normal(y.shape) / np.sqrt(y.size)).astype(np.float32)
        expected = (y, np.vdot(g, reference(dx, kernel)), np.vdot(g, reference(x, dkernel)))
        given = (x, kernel, g, dx, dkernel)
        yield Check("convolution", f"{name}, gradients", partial(along, op), given, near(expected), 1e-4)


def kinds_of_convolution(small: bool) -> dict[str, tuple[int, tuple[int, ...], Any, Any]]:
    """Side of the map, shape of the kernel, the op and its reference."""
    side, c = (6, 3) if small else (64, 128)
    large, wide = (32, 96) if small else (side, c)  # less than that, a 3x3 kernel has JAX's own gradient
    conv, convolved = partial(convolution.conv, precision=HIGHEST), references.convolved
    transposed = references.transposed
    return {
        "1x1": (side, (1, 1, c, c), conv, convolved),
        "3x3": (large, (3, 3, wide, wide), conv, convolved),
        "3x3, stride 2": (large, (3, 3, wide, wide), partial(conv, stride=2), partial(convolved, stride=2)),
        "depthwise": (
            side,
            (3, 3, 1, c),
            partial(convolution.depthwise_conv, precision=HIGHEST),
            references.depthwise,
        ),
        "transposed": (
            side,
            (4, 4, c, c),
            partial(convolution.conv_transpose, precision=HIGHEST),
            partial(transposed, factor=2, apart=False),
        ),
        "depthwise transposed": (
            side,
            (8, 8, 1, c),
            partial(convolution.depthwise_conv_transpose, factor=4),
            partial(transposed, factor=4, apart=True),
        ),
    }


def normalisations(small: bool) -> Iterator[Check]:
    """Batch normalisation in training, with gradients; its mean is larger than what it normalises."""
    rng, (side, c), eps = np.random.default_rng(0), (6, 3) if small else (64, 128), 1e-5

    def with_gradients(x: Any, scale: Any, bias: Any, g: Any) -> tuple[Any, ...]:
        (y, mean, var), pull = jax.vjp(lambda *given: batch_norm(*given, eps), x, scale, bias)
        return y, mean, var, *pull((g, jnp.zeros_like(mean), jnp.zeros_like(var)))

    x = 3 + 2 * rng.standard_normal((2, 2, side, side, c))
    g = rng.standard_normal(x.shape) / np.sqrt(x.size / c)
    scale, bias = rng.uniform(0.5, 1.5, (2, c)).astype(np.float32)
    for dtype, limit in (("float32", 2e-5), ("bfloat16", 0.03)):
        x, g = (np.asarray(jnp.asarray(one, dtype)) for one in (x, g))
        expected = references.normalised(x, scale, bias, g, eps)
        yield Check("batch norm", f"{dtype}, gradients", with_gradients, (x, scale, bias, g), near(expected), limit)


def inputs(small: bool) -> Iterator[Check]:
    """What data.render="device" does in the training step, against the same on the host."""
    rng, side = np.random.default_rng(0), 31 if small else 511
    image = rng.integers(0, 256, (side, side, 3), np.uint8)
    draws = (np.int32([2, 0, 1]), np.float32([0.3, -0.2, 0.1]), np.float32([0.1, -0.1, 0.05]))
    expected = finish_image(image, True, *draws, np)
    run = partial(finish_image, xp=jnp)
    yield Check("pixels", "colours and mirror", run, (image, np.bool_(True), *draws), near(expected), 1e-5)
    cells = -(-side // 4)
    corners = rng.uniform(0, side / 2, (20, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(2, side / 2, (20, 2))], 1).astype(np.float32)
    keypoints = [Keypoint("tl", "top-left corner", lambda objects: objects["boxes"][:, :2])]
    encoded = encode_keypoints(
        {"boxes": boxes, "classes": rng.integers(0, 5, 20).astype(np.int32)},
        keypoints,
        map_size=(cells, cells),
        crop_px=(side, side),
        max_objects=32,
        iou=0.3,
    )
    draw = partial(render_keypoints, keypoints=keypoints, num_classes=5, map_size=(cells, cells))
    expected = draw(encoded, xp=np)
    yield Check("heat maps", "drawing", partial(draw, xp=jnp), (encoded,), near(expected), 1e-6)
