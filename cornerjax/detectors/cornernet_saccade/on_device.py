"""What of CornerNet-Saccade's test procedure runs on the device, for a batch of crops or of images."""

from collections.abc import Callable

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from cornerjax.detectors.base import Detector, Outputs, Targets
from cornerjax.detectors.cornernet_saccade.options import SaccadeConfig
from cornerjax.detectors.cornernet_saccade.windows import Windows, to_image
from cornerjax.detectors.rows import Candidates, Found
from cornerjax.detectors.selection import clip_to_images, select
from cornerjax.ops.peaks import keep_peaks
from cornerjax.ops.pixels import normalise

Crops = Float[jax.Array, "n side side 3"]  # BGR in [0, 1]
Placement = Float[jax.Array, "n 2"]  # as y, x


def find(
    detector: Detector,
    apply: Callable,
    config: SaccadeConfig,
    params: dict,
    model_state: dict,
    crops: Crops,
    scales: Placement,
    offsets: Placement,
    targets: Targets | tuple[()],
) -> tuple[Candidates, list[Float[jax.Array, "n _ _"]]]:
    """Boxes of the crops in pixels of their images, and the peaks of their attention.

    Args:
        scales, offsets: of windows.placements.
        targets: what takes the place of the network's outputs, if anything.
    """
    outputs = forward(apply, params, model_state, crops)
    return decode(detector, config, outputs, crops, scales, offsets, targets)


def forward(apply: Callable, params: dict, model_state: dict, crops: Crops) -> Outputs:
    """The first half of find: the network's outputs."""
    return apply(params, model_state, normalise(crops), train=False)[0]


def decode(
    detector: Detector,
    config: SaccadeConfig,
    outputs: Outputs,
    crops: Crops,
    scales: Placement,
    offsets: Placement,
    targets: Targets | tuple[()],
) -> tuple[Candidates, list[Float[jax.Array, "n _ _"]]]:
    """The second half of find; of the crops only the shape counts."""
    if targets:
        outputs = detector.with_truth(outputs, targets, config)
    found = detector.decode(outputs, config)
    cells = outputs[-1]["tl_heat"].shape[1]
    boxes = to_image(jnp.asarray(found.boxes), scales, offsets, side=crops.shape[1], cells=cells)
    attention = []
    for logits in outputs[-1]["attention"]:
        peaks = keep_peaks(jax.nn.sigmoid(logits), window=config.test.saccade.attention_window)
        attention.append(jnp.maximum(peaks, 0)[..., 0])
    return found._replace(boxes=boxes), attention


def select_from(detector: Detector, config: SaccadeConfig, found: Candidates, sizes: Float[jax.Array, "b 2"]) -> Found:
    """The boxes of all crops of an image become its boxes."""
    if not config.legacy.unclipped:
        # Differs from CornerNet-Saccade: boxes end where the image does, and those beyond it are dropped.
        found = clip_to_images(found, sizes, drop_empty=True)
    # Unlike the other originals, this one leaves out what soft-NMS dropped.
    return select(found, config, finish=detector.finish, stale=False)


def over_image(
    logits: Float[jax.Array, "1 h w 1"], window: Windows, side: int, height: int, width: int
) -> Float[np.ndarray, "H W"]:
    """An attention map of a view as heat over the image; cells stay squares, so that their size shows."""
    heat = cv2.resize(np.asarray(jax.nn.sigmoid(logits))[0, ..., 0], (side, side), interpolation=cv2.INTER_NEAREST)
    (y, x), (h, w) = window.corner, window.resized
    inside = heat[y : y + h, x : x + w]
    return np.asarray(cv2.resize(inside, (width, height), interpolation=cv2.INTER_NEAREST), np.float32)
