"""The procedure of cropping, with a network that can be worked out by hand: it finds one bright rectangle."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from cornerjax.detectors.cornernet_saccade.detector import CornerNetSaccade
from cornerjax.detectors.cornernet_saccade.on_device import select_from
from cornerjax.detectors.cornernet_saccade.options import SaccadeConfig, SaccadeLegacy
from cornerjax.detectors.rows import Candidates
from cornerjax.errors import InputError
from cornerjax.inference.batching import BatchPredictor
from cornerjax.legacy import switched
from cornerjax.ops.pixels import MEAN, STD
from cornerjax.validation import replaced

SURE_PX = 12  # longer side, in a crop, from which on the network is sure of what it finds
SIDE = 63
CONFIG = replaced(
    SaccadeConfig(),
    {
        "data.crop_px": (SIDE, SIDE),
        "test": {"batch": 4, "saccade": {"view_px": (48, 63), "max_crops": 3, "crop_batch": 4}},
    },
)


def apply(params, model_state, images, train):
    """A box round all bright pixels; attention at its middle, in the map for small objects."""
    bright = (images * STD + MEAN).mean(-1) > 0.5
    edges = []
    for axis in (2, 1):
        line = bright.any(3 - axis)
        edges.append((jnp.argmax(line, 1), SIDE - jnp.argmax(line[:, ::-1], 1)))
    (x1, x2), (y1, y2) = edges
    boxes = jnp.stack([x1, y1, x2, y2], -1).astype(jnp.float32) * np.float32(16 / SIDE)
    found, side = bright.any((1, 2)), jnp.maximum(x2 - x1, y2 - y1)
    scores = jnp.where(found, jnp.where(side >= SURE_PX, 0.9, 0.2), -1).astype(jnp.float32)
    y, x = jnp.arange(16)[:, None], jnp.arange(16)[None]
    middle = (y == ((y1 + y2) // 8)[:, None, None]) & (x == ((x1 + x2) // 8)[:, None, None])
    small = jnp.where(middle & found[:, None, None], 5.0, -5.0)[..., None]
    coarser = [jnp.full((len(images), n, n, 1), -5.0) for n in (4, 8)]
    return [{"tl_heat": small, "attention": [*coarser, small], "boxes": boxes, "scores": scores}], model_state


class OneRectangle(CornerNetSaccade):
    def decode(self, outputs, config):
        boxes, scores = outputs[-1]["boxes"][:, None], outputs[-1]["scores"][:, None]
        return Candidates(boxes, scores, jnp.zeros(scores.shape, jnp.int32), {})


def predictor(changes=None):
    return BatchPredictor(OneRectangle(), apply, replaced(CONFIG, changes or {}), ["bright"])


def scene(height, width, box):
    image = np.full((height, width, 3), 30, np.uint8)
    x1, y1, x2, y2 = box
    image[y1:y2, x1:x2] = 250
    return image


def find(batches, images):
    return dict(batches({}, {}, batches.plan([image.shape[:2] for image in images]), images.__getitem__))


SCENES = [
    (120, 160, (100, 40, 110, 48)),
    (160, 120, (4, 130, 12, 140)),
    (90, 90, (40, 40, 52, 50)),
    (140, 150, (30, 100, 40, 104)),
    (128, 128, (60, 20, 70, 30)),
]


@pytest.fixture(scope="module")
def alone():
    """What is found in each of SCENES by itself."""
    batches = predictor()
    return [find(batches, [scene(*given)])[0] for given in SCENES]


def test_a_small_object_is_found_in_a_crop(alone):
    """In the views it is too small to be sure of; a crop at four times their scale shows it well."""
    without_crops = predictor({"test.saccade.attention": (0.999,)})
    for found, (height, width, box) in zip(alone, SCENES, strict=True):
        np.testing.assert_allclose(found.scores[0], 0.9)
        np.testing.assert_allclose(found.boxes[0], box, atol=1)
        assert len(find(without_crops, [scene(height, width, box)])[0]) == 0


@pytest.mark.parametrize("crop_batch", [1, 3, 32])
def test_packing_changes_nothing(alone, crop_batch):
    together = find(predictor({"test.saccade.crop_batch": crop_batch}), [scene(*given) for given in SCENES])
    for i, expected in enumerate(alone):
        np.testing.assert_array_equal(together[i].boxes, expected.boxes)
        np.testing.assert_array_equal(together[i].scores, expected.scores)


def test_nothing_is_compiled_again():
    batches = predictor()
    images = [scene(height, width, box) for height, width, box in SCENES] * 2
    find(batches, images)
    parts = (batches.procedure.cut, batches.procedure.find, batches.procedure.select)
    compiled = [part._cache_size() for part in parts]
    find(batches, images[::-1])
    find(batches, [scene(100, 120, (5, 5, 15, 15))] * 8)
    assert [part._cache_size() for part in parts] == compiled


def test_there_are_at_most_max_crops_crops_over_all_stages():
    saccade = predictor({"test.saccade": {"attention": (0.3, 0.3), "max_crops": 2}}).procedure
    image = scene(400, 400, (200, 200, 204, 204))
    stages = saccade.stages({}, {}, np.pad(image, ((0, 112), (0, 112), (0, 0)))[None], [(400, 400)])
    assert len(stages[0].image) == 2
    assert sum(len(stage.image) for stage in stages[1:]) <= 2
    assert len(stages) == 3  # a second stage crops closer what the first one found


def test_boxes_end_at_the_border_of_the_image():
    """The original's scale, which is not quite that of the pixels, brings this box a little beyond it."""
    image = scene(100, 100, (80, 80, 100, 100))
    inside = find(predictor({"legacy.nominal_scale": True}), [image])[0]
    assert inside.boxes.max() == 100
    beyond = find(predictor({"legacy": {"nominal_scale": True, "unclipped": True}}), [image])[0]
    assert beyond.boxes.max() > 100


def test_boxes_of_equal_scores_go_in_the_originals_order():
    """Its soft-NMS changes the places of rows: of two equal ones the later may come first, and the other loses."""
    boxes = jnp.array([[[0, 0, 10, 10], [2, 0, 12, 10], [100, 100, 110, 110.0]]])
    found = Candidates(boxes, jnp.array([[0.8, 0.8, 0.9]]), jnp.zeros((1, 3), jnp.int32), {})
    released = dataclasses.replace(SaccadeConfig(), legacy=switched(SaccadeLegacy(), on=True))
    left = select_from(CornerNetSaccade(), released, found, jnp.full((1, 2), 200.0))
    assert np.asarray(left.boxes[0, :, 0]).tolist() == [100, 2, 0]
    np.testing.assert_allclose(left.scores[0], [0.9, 0.8, 0.4034], atol=1e-4)


def test_an_image_without_objects_has_no_boxes():
    assert len(find(predictor(), [scene(70, 90, (0, 0, 0, 0))])[0]) == 0


def test_a_sliver_of_an_image_is_refused():
    with pytest.raises(InputError, match="image of 1000x30 pixels: both sides must be at least 64"):
        predictor().plan([(30, 1000)])
