"""Corners grouped to boxes by their tags: associative embedding, in losses, decoding, truth and pictures."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Bool, Float

from cornerjax.detectors.overlay import Evidence, Image, KeypointEvidence
from cornerjax.detectors.rows import Candidates, Detections
from cornerjax.detectors.truth import owners
from cornerjax.drawing import draw_groups
from cornerjax.keypoints import Keypoint
from cornerjax.losses import Losses, Maps
from cornerjax.ops.gather import gather_cells
from cornerjax.ops.keypoints import Peaks, find_keypoints
from cornerjax.ops.precision import precise

TOP_LEFT = Keypoint("tl", "top-left corner", lambda objects: objects["boxes"][:, :2], strokes=((1, 0), (0, 1)))
BOTTOM_RIGHT = Keypoint(
    "br", "bottom-right corner", lambda objects: objects["boxes"][:, 2:], strokes=((-1, 0), (0, -1))
)
CORNERS = (TOP_LEFT, BOTTOM_RIGHT)


def pull_push(
    tl_tags: Float[Array, "b n"], br_tags: Float[Array, "b n"], valid: Bool[Array, "b n"], *, push_itself: bool = False
) -> tuple[Float[Array, "b"], Float[Array, "b"]]:
    """How far the two tags of an object differ, and how close the mean tags of different objects are, for each image.

    Args:
        valid: which of the n places hold an object.
        push_itself: the original's form. It adds 1e-4 to the number of objects and of pairs, and compares each object
            with itself too, taking off 1 / objects everywhere instead: a constant remains, 1.0002 for a single object.
    Returns: pull, the squared distance to the mean, over objects; push, max(0, 1 - difference), over ordered pairs.
        Both are 0 for an image without objects, push for one with a single object too.
    Source: CornerNet (Law and Deng 2018), section 3.3; CornerNet-Lite, core/models/py_utils/losses.py, _ae_loss.
    """
    tl_tags, br_tags = precise(tl_tags), precise(br_tags)
    objects = valid.sum(1).astype(jnp.float32)
    pairs = objects * (objects - 1)
    # Differs from CornerNet: exact counts and no diagonal, unless push_itself.
    objects, pairs = (objects + 1e-4, pairs + 1e-4) if push_itself else (jnp.maximum(objects, 1), jnp.maximum(pairs, 1))

    mean = (tl_tags + br_tags) / 2
    distance = (tl_tags - mean) ** 2 + (br_tags - mean) ** 2
    pull = jnp.where(valid, distance, 0).sum(1) / objects

    closeness = jax.nn.relu(1 - jnp.abs(mean[:, :, None] - mean[:, None]))
    both = valid[:, :, None] & valid[:, None]
    if push_itself:
        closeness = closeness - (1 / objects)[:, None, None]
    else:
        both &= ~jnp.eye(valid.shape[1], dtype=bool)
    push = jnp.where(both, closeness, 0).sum((1, 2)) / pairs
    return pull, push


def tag_losses(
    maps: Maps, targets: Mapping[str, jax.Array], counts: Losses, *, push_itself: bool
) -> dict[str, Float[Array, ""]]:
    """pull_push at the corners of a batch, as means over its images.

    Args:
        maps: "tl_tag", "br_tag" (b, h, w, 1).
        targets: "tl_cells", "br_cells" (b, n, 2) as x, y; "valid" (b, n).
        counts: of losses.batch_counts.
    """
    tl, br = (gather_cells(maps[f"{name}_tag"], targets[f"{name}_cells"])[..., 0] for name in ("tl", "br"))
    pull, push = pull_push(tl, br, targets["valid"], push_itself=push_itself)
    return {"pull": pull.sum() / counts["images"], "push": push.sum() / counts["images"]}


def decode_corners(
    maps: Maps,
    *,
    top_k: int,
    max_pairs: int,
    window: int = 3,
    tag_distance: float = 0.5,
    no_border: bool = False,
    rounded: bool = False,
    non_peaks: bool = False,
) -> Candidates:
    """Find the best peaks of both heat maps and join them to boxes.

    Args:
        maps: "tl_heat", "br_heat" (b, h, w, c) logits; "tl_tag", "br_tag" (b, h, w, 1); "tl_off", "br_off"
            (b, h, w, 2) as x, y in cells; other names are ignored.
        max_pairs: boxes returned; fewer where top_k corners have fewer pairs.
        top_k, window, rounded, non_peaks: of ops.keypoints.find_keypoints.
        tag_distance: largest difference of the tags of a pair.
        no_border: reject top-left corners in the first row or column, and bottom-right ones in the last.
    Returns: boxes in cells, with extra "corner_scores" of the top-left and the bottom-right corner.
    Raises: ValueError: window is even.
    Source: CornerNet, models/py_utils/kp_utils.py, _decode.
    """
    corners, tags = [], []
    for name in ("tl", "br"):
        heat = maps[f"{name}_heat"]
        offsets = maps[f"{name}_off"]
        found = find_keypoints(heat, offsets, top_k=top_k, window=window, rounded=rounded, non_peaks=non_peaks)
        if no_border:
            h, w = heat.shape[1:3]
            border = jnp.array((0, 0) if name == "tl" else (w - 1, h - 1), found.cells.dtype)
            found = found._replace(scores=jnp.where((found.cells == border).any(-1), -1, found.scores))
        corners.append(found)
        tags.append(gather_cells(maps[f"{name}_tag"], found.cells)[..., 0].astype(jnp.float32))
    apart = jnp.abs(tags[0][:, :, None] - tags[1][:, None]) > tag_distance
    return pair_corners(corners[0], corners[1], apart, num=max_pairs)


def pair_corners(tl: Peaks, br: Peaks, apart: Bool[Array, "b k k2"], *, num: int) -> Candidates:
    """Join every top-left corner with every bottom-right corner that may belong to the same object.

    A pair is rejected if its classes differ, it is said to be apart, or the bottom-right corner lies left of or above
    the top-left one. Its score is the mean of the two.

    Args:
        num: pairs kept; with fewer than num pairs there are, all of them.
    Source: CornerNet, models/py_utils/kp_utils.py, _decode.
    """

    def each(array):  # all pairs (i, j) in one axis, top-left i outermost
        return array.reshape(array.shape[0], -1)

    (tl_x, tl_y), (br_x, br_y) = (jnp.unstack(corners.points, axis=-1) for corners in (tl, br))
    rejected = (
        (tl.classes[:, :, None] != br.classes[:, None])
        | apart
        | (br_x[:, None] < tl_x[:, :, None])
        | (br_y[:, None] < tl_y[:, :, None])
    )
    rejected |= (tl.scores[:, :, None] < 0) | (br.scores[:, None] < 0)
    scores = jnp.where(rejected, -1, (tl.scores[:, :, None] + br.scores[:, None]) / 2)
    k = br.scores.shape[1]
    scores, index = lax.top_k(each(scores), min(num, each(scores).shape[1]))

    def take(array, at):
        return jnp.take_along_axis(array, at.reshape(*at.shape, *[1] * (array.ndim - 2)), 1)

    i, j = index // k, index % k
    boxes = jnp.concatenate([take(tl.points, i), take(br.points, j)], -1)
    corner_scores = jnp.stack([take(tl.scores, i), take(br.scores, j)], -1)
    return Candidates(boxes, scores, take(tl.classes, i), {"corner_scores": corner_scores})


def true_tags(
    encoded: Mapping[str, Array], maps: Mapping[str, Float[Array, "h w _"]], *, tag_distance: float
) -> dict[str, Float[Array, "h w _"]]:
    """The tags of one image, true round the true corners, as predicted elsewhere.

    Near a true corner, see truth.owners, a tag is a number of the object, farther from all others and from all that are
    predicted than pairs may be. Elsewhere tags stay as they are: that there is no corner at all is for the heat maps to
    say. Objects that share a cell share the number, which is where pulling both tags of each together ends.

    Args:
        encoded: of targets.encode_keypoints.
        maps: as predicted, "tl_tag", "br_tag" (h, w, 1).
        tag_distance: largest difference of the tags of a pair.
    Returns: those of maps.
    """
    largest = jnp.maximum(abs(maps["tl_tag"]).max(), abs(maps["br_tag"]).max())
    numbers = largest + (2 * tag_distance + 1) * (1 + _joined(encoded))
    true = {}
    for corner in CORNERS:
        predicted = maps[f"{corner.name}_tag"]
        owner, near = owners(corner, encoded, *predicted.shape[:2])
        true[f"{corner.name}_tag"] = jnp.where(near[..., None], numbers[owner][..., None], predicted)
    return true


def _joined(encoded: Mapping[str, Array]) -> Float[Array, "n"]:
    """A number for each object, the same for those that are joined by cells they share."""
    valid, n = encoded["valid"], len(encoded["valid"])
    joined = jnp.eye(n, dtype=bool)
    for corner in CORNERS:
        cells = encoded[f"{corner.name}_cells"]
        joined |= (cells[:, None] == cells).all(-1) & valid[:, None] & valid
    numbers = jnp.arange(n, dtype=jnp.float32)
    return lax.fori_loop(0, n, lambda _, least: jnp.where(joined, least, jnp.inf).min(1), numbers)


def pairs(evidence: Evidence, found: Detections, *, tag_distance: float) -> list[tuple[int, int] | None]:
    """The corners that each box was made from, by their places in the evidence; None where none fit.

    That is where a box comes from another scale or the mirrored image, or was merged with others.

    Args:
        found: in pixels of the same image.
        tag_distance: largest difference of the tags of a pair.
    """
    return [
        _pair(evidence, box, label, tag_distance)
        for box, label in zip(found.boxes, found.classes.tolist(), strict=True)
    ]


def _pair(evidence: Evidence, box: Float[np.ndarray, "4"], label: int, tag_distance: float) -> tuple[int, int] | None:
    best = None
    first, second = evidence.keypoints["tl"], evidence.keypoints["br"]
    for i, to_first in _near(first, box[:2], label):
        for j, to_second in _near(second, box[2:], label):
            difference = abs(first.values["tag"][i] - second.values["tag"][j])
            alike = first.inputs[i] == second.inputs[j] and difference <= tag_distance
            if alike and (best is None or to_first + to_second < best[0]):
                best = to_first + to_second, (i, j)
    return None if best is None else best[1]


def _near(corners: KeypointEvidence, point: Float[np.ndarray, "2"], label: int) -> list[tuple[int, float]]:
    """Corners of a class within a cell of a point, and how far they are, in cells."""
    away = np.abs(corners.points - point).max(1) / corners.cell_px
    return [(i, float(away[i])) for i in np.flatnonzero((away <= 1) & (corners.classes == label)).tolist()]


def draw_tags(image: Image, evidence: Evidence, found: Detections, *, tag_distance: float) -> Image:
    """Corners in the colours of their tags, those of a box joined by a line with the two tags beside it."""
    joined = [pair for pair in pairs(evidence, found, tag_distance=tag_distance) if pair]
    first, second = evidence.keypoints["tl"], evidence.keypoints["br"]
    points = np.concatenate([first.points, second.points])
    tags = np.concatenate([first.values["tag"], second.values["tag"]])[:, 0]
    groups = [(i, len(first.points) + j) for i, j in joined]
    return draw_groups(image, points, tags, groups)
