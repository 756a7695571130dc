"""The test procedure of whole images: against recordings of the originals after the network, and with one, mirrored."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from cornerjax.detectors import DETECTORS, apply_preset
from cornerjax.detectors.base import View, make_network
from cornerjax.detectors.cornernet import CornerConfig, CornerModel, CornerNet, CornerTest
from cornerjax.detectors.rows import Candidates, Extra
from cornerjax.inference.batching import BatchPredictor
from cornerjax.inference.whole_image import combine, decode
from cornerjax.nn.backbones.hourglass import Hourglass

RELEASED = apply_preset(CornerConfig(test=CornerTest(flip=True)), "released")


class Recorded(CornerNet):
    """Answers every image of a batch with rows x1 y1 x2 y2 score tl_score br_score class, in cells."""

    def __init__(self, rows):
        self.rows = jnp.asarray(rows)

    def decode(self, outputs, config):
        rows = self.rows
        extra: Extra = {"corner_scores": rows[..., 5:7]}
        return Candidates(rows[..., :4], rows[..., 4], rows[..., 7].astype(jnp.int32), extra)


def no_network(params, model_state, images, train):
    return [{}], {}


def test_cells_become_pixels_as_in_the_original(golden):
    recorded = golden("post/rescale.npz")
    y_border, _, x_border, _ = recorded["resc_borders"][0]
    height, width = recorded["resc_sizes"][0]
    config, detector = dataclasses.replace(RELEASED, test=CornerTest()), Recorded(recorded["resc_in"])
    placement = jnp.array([[x_border, y_border]]), jnp.ones((1, 2)), jnp.array([[width, height]])
    candidates = decode(detector, config, [{}], jnp.zeros((1, 255, 383, 3), jnp.uint8), *placement)
    found = combine(candidates, [View(1.0, False, *placement)], config)
    np.testing.assert_allclose(found.boxes, recorded["resc_out"][..., :4], atol=1e-4)
    np.testing.assert_array_equal(found.scores, recorded["resc_in"][..., 4])


def test_the_first_repositorys_test_function_gives_the_same_boxes(golden):
    """From prescribed candidates of an image and its mirror image: rescale, merge, soft-NMS, best hundred."""
    recorded = golden("post/cornernet_eccv18.npz")
    raw = recorded["raw"]
    assert (raw[..., 4] < 0).sum() == 60  # rejected ones are among them
    batches = BatchPredictor(Recorded(raw), no_network, RELEASED, ["?"] * 3)
    image = recorded["image"]
    ((_, found),) = batches({}, {}, batches.plan([image.shape[:2]]), lambda i: image)
    expected = recorded["top"]
    ours = np.column_stack([found.boxes, found.scores, found.classes + 1])
    assert ours.shape == expected.shape
    ours, expected = (rows[np.lexsort(rows.round(2).T)] for rows in (ours, expected))
    np.testing.assert_allclose(ours[:, :4], expected[:, :4], atol=1e-3)
    np.testing.assert_allclose(ours[:, 4], expected[:, 4], atol=1e-5)
    np.testing.assert_array_equal(ours[:, 5], expected[:, 5])


NARROW = Hourglass(stacks=1, stem_dim=4, stem_kernel=3, dims=(4, 4), blocks=(1, 1), dim=4)
TEST = CornerTest(batch=1, scales=(0.5, 1.0), top_k=100, max_pairs=40, tag_distance=100.0, nms="none")
NETWORK = CornerConfig(model=CornerModel(num_classes=2, backbone=NARROW, pool_dim=4), test=TEST)


def unmatched(rows, others):
    """How many rows have none alike among the others, to a hundredth of a pixel and a thousandth in score."""
    near = np.abs(rows[:, None] - others) <= [0.01, 0.01, 0.01, 0.01, 1e-3, 0]
    return int((~near.all(-1).any(1)).sum())


def test_with_flips_a_mirrored_image_has_the_mirrored_boxes():
    """Of a real network, which is far from symmetric. The image has as much room on its left as on its right."""
    image = np.random.default_rng(1).integers(0, 256, (90, 103, 3), np.uint8)
    image[30:60, 20:44], image[10:40, 60:95] = (255, 40, 0), (20, 200, 250)
    mirrored = np.ascontiguousarray(image[:, ::-1])
    apply, params, model_state = make_network(DETECTORS["cornernet"], NETWORK, np.random.default_rng(0))

    def find_in_both(*, flip):
        config = dataclasses.replace(NETWORK, test=dataclasses.replace(TEST, flip=flip))
        predictor = BatchPredictor(DETECTORS["cornernet"], apply, config, ["a", "b"])
        found = dict(predictor(params, model_state, predictor.plan([(90, 103)] * 2), [image, mirrored].__getitem__))
        ours, theirs = (np.column_stack([found[i].boxes, found[i].scores, found[i].classes]) for i in (0, 1))
        x1, y1, x2, *rest = theirs.T
        return ours, np.stack([103 - x2, y1, 103 - x1, *rest], -1)

    ours, theirs = find_in_both(flip=True)
    assert len(ours) == len(theirs) > 20
    assert unmatched(ours, theirs) == unmatched(theirs, ours) == 0
    ours, theirs = find_in_both(flip=False)
    assert unmatched(ours, theirs) > len(ours) / 2
