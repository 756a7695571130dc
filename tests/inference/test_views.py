"""The test procedure of whole images after the network, against recordings of the originals."""

import dataclasses
from functools import partial

import jax.numpy as jnp
import numpy as np
from cornerjax.inference.procedure import Procedure
from cornerjax.inference.views import look

from cornerjax.config import Config, Test
from cornerjax.detectors.base import Candidates
from cornerjax.detectors.cornernet import CornerNet
from cornerjax.legacy import apply_preset

RELEASED = apply_preset(Config(test=Test(flip=True)), "released")


class Recorded(CornerNet):
    """Answers every image of a batch with rows x1 y1 x2 y2 score tl_score br_score class, in cells."""

    def __init__(self, rows):
        self.rows = jnp.asarray(rows)

    def decode(self, outputs, config):
        rows = self.rows
        return Candidates(rows[..., :4], rows[..., 4], rows[..., 7].astype(jnp.int32), rows[..., 5:7])


def no_network(params, model_state, images, train):
    return [{}], {}


def test_cells_become_pixels_as_in_the_original(golden):
    recorded = golden("post/rescale.npz")
    y_border, _, x_border, _ = recorded["resc_borders"][0]
    height, width = recorded["resc_sizes"][0]
    config = dataclasses.replace(RELEASED, test=Test())
    find = partial(look, Recorded(recorded["resc_in"]), no_network, config, {}, {})
    found = find(
        jnp.zeros((1, 255, 383, 3), jnp.uint8),
        jnp.array([[x_border, y_border]]),
        jnp.ones((1, 2)),
        jnp.array([[width, height]]),
    )
    np.testing.assert_allclose(found.boxes, recorded["resc_out"][..., :4], atol=1e-4)
    np.testing.assert_array_equal(found.scores, recorded["resc_in"][..., 4])


def test_the_first_repositorys_test_function_gives_the_same_boxes(golden):
    """From prescribed candidates of an image and its mirror image: rescale, merge, soft-NMS, best hundred."""
    recorded = golden("post/cornernet_eccv18.npz")
    raw = recorded["raw"]
    assert (raw[..., 4] < 0).sum() == 60  # rejected ones are among them
    procedure = Procedure(Recorded(raw), no_network, RELEASED, ["?"] * 3)
    image = recorded["image"]
    ((_, found),) = procedure({}, {}, procedure.plan([image.shape[:2]]), lambda i: image)
    expected = recorded["top"]
    ours = np.column_stack([found.boxes, found.scores, found.classes + 1])
    assert ours.shape == expected.shape
    ours, expected = (rows[np.lexsort(rows.round(2).T)] for rows in (ours, expected))
    np.testing.assert_allclose(ours[:, :4], expected[:, :4], atol=1e-3)
    np.testing.assert_allclose(ours[:, 4], expected[:, 4], atol=1e-5)
    np.testing.assert_array_equal(ours[:, 5], expected[:, 5])
