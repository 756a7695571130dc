"""The procedure of looking closer, with a network that can be worked out by hand: it sees one bright rectangle."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from cornerjax.inference.procedure import Procedure

from cornerjax.config import Config, Data, Saccade, Test
from cornerjax.detectors.base import Candidates
from cornerjax.detectors.cornernet_saccade import CornerNetSaccade
from cornerjax.errors import InputError
from cornerjax.legacy import Legacy
from cornerjax.ops.pixels import MEAN, STD

SURE_PX = 12  # longer side, in a look, from which on the network is sure of what it sees
SIDE = 63
CONFIG = Config(
    data=Data(crop_px=(SIDE, SIDE)),
    test=Test(batch=4, saccade=Saccade(view_px=(48, 63), max_crops=3, crop_batch=4)),
    legacy=Legacy(),
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
    seen, side = bright.any((1, 2)), jnp.maximum(x2 - x1, y2 - y1)
    scores = jnp.where(seen, jnp.where(side >= SURE_PX, 0.9, 0.2), -1).astype(jnp.float32)
    y, x = jnp.arange(16)[:, None], jnp.arange(16)[None]
    middle = (y == ((y1 + y2) // 8)[:, None, None]) & (x == ((x1 + x2) // 8)[:, None, None])
    small = jnp.where(middle & seen[:, None, None], 5.0, -5.0)[..., None]
    coarser = [jnp.full((len(images), n, n, 1), -5.0) for n in (4, 8)]
    return [{"tl_heat": small, "attention": [*coarser, small], "boxes": boxes, "scores": scores}], model_state


class Seeing(CornerNetSaccade):
    def decode(self, outputs, config):
        boxes, scores = outputs[-1]["boxes"][:, None], outputs[-1]["scores"][:, None]
        return Candidates(boxes, scores, jnp.zeros(scores.shape, jnp.int32), jnp.stack([scores, scores], -1))


def procedure(config=CONFIG):
    return Procedure(Seeing(), apply, config, ["bright"])


def scene(height, width, box):
    image = np.full((height, width, 3), 30, np.uint8)
    x1, y1, x2, y2 = box
    image[y1:y2, x1:x2] = 250
    return image


def find(finder, images):
    return dict(finder({}, {}, finder.plan([image.shape[:2] for image in images]), images.__getitem__))


SCENES = [
    (120, 160, (100, 40, 110, 48)),
    (160, 120, (4, 130, 12, 140)),
    (90, 90, (40, 40, 52, 50)),
    (140, 150, (30, 100, 40, 104)),
    (128, 128, (60, 20, 70, 30)),
]


def test_a_small_object_is_found_by_looking_closer():
    """In the views it is too small to be sure of; a crop at four times their scale shows it well."""
    for height, width, box in SCENES:
        finder = procedure()
        found = find(finder, [scene(height, width, box)])[0]
        np.testing.assert_allclose(found.scores[0], 0.9)
        np.testing.assert_allclose(found.boxes[0], box, atol=1)
        none = dataclasses.replace(CONFIG.test.saccade, attention=(0.999,))
        blind = procedure(dataclasses.replace(CONFIG, test=dataclasses.replace(CONFIG.test, saccade=none)))
        assert len(find(blind, [scene(height, width, box)])[0]) == 0


@pytest.mark.parametrize("crop_batch", [1, 3, 32])
def test_packing_changes_nothing(crop_batch):
    images = [scene(*given) for given in SCENES]
    alone = [find(procedure(), [image])[0] for image in images]
    packed = dataclasses.replace(CONFIG.test.saccade, crop_batch=crop_batch)
    together = find(
        procedure(dataclasses.replace(CONFIG, test=dataclasses.replace(CONFIG.test, saccade=packed))), images
    )
    for i, expected in enumerate(alone):
        np.testing.assert_array_equal(together[i].boxes, expected.boxes)
        np.testing.assert_array_equal(together[i].scores, expected.scores)


def test_nothing_is_compiled_again():
    finder = procedure()
    images = [scene(height, width, box) for height, width, box in SCENES] * 2
    find(finder, images)
    compiled = [part._cache_size() for part in (finder.finder.cut, finder.finder.look, finder.finder.select)]
    find(finder, images[::-1])
    find(finder, [scene(100, 120, (5, 5, 15, 15))] * 8)
    assert [part._cache_size() for part in (finder.finder.cut, finder.finder.look, finder.finder.select)] == compiled


def test_there_are_at_most_max_crops_looks_over_all_rounds():
    twice = dataclasses.replace(CONFIG.test.saccade, attention=(0.3, 0.3), max_crops=2)
    finder = procedure(dataclasses.replace(CONFIG, test=dataclasses.replace(CONFIG.test, saccade=twice))).finder
    image = scene(400, 400, (200, 200, 204, 204))
    _, rounds = finder.trace({}, {}, [image], finder.bucket(400, 400), 1)
    assert len(rounds[0].image) == 2
    assert sum(len(seen.image) for seen in rounds[1:]) <= 2
    assert len(rounds) == 3  # a second round looks closer at what the first one found


def test_boxes_end_at_the_border_of_the_image():
    """The original's scale, which is not quite that of the pixels, brings this box a little beyond it."""
    image, nominal = scene(100, 100, (80, 80, 100, 100)), Legacy(nominal_scale=True)
    inside = find(procedure(dataclasses.replace(CONFIG, legacy=nominal)), [image])[0]
    assert inside.boxes.max() == 100
    unclipped = dataclasses.replace(nominal, unclipped=True)
    beyond = find(procedure(dataclasses.replace(CONFIG, legacy=unclipped)), [image])[0]
    assert beyond.boxes.max() > 100


def test_an_image_without_objects_has_no_boxes():
    assert len(find(procedure(), [scene(70, 90, (0, 0, 0, 0))])[0]) == 0


def test_a_sliver_of_an_image_is_refused():
    with pytest.raises(InputError, match="image of 1000x30 pixels: both sides must be at least 64"):
        procedure().plan([(30, 1000)])
