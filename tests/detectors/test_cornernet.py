import dataclasses
from functools import partial

import jax
import numpy as np
import pytest

from cornerjax.config import Config, Data, InputError, Model
from cornerjax.detectors import get_detector

CORNERNET = get_detector("cornernet")
# Largest difference of the original in float32 from itself in float64, for the recorded maps.
NOISE = {"heat": 1.28e-4, "tag": 9.8e-5, "off": 1.07e-4}


@pytest.mark.slow
def test_the_published_network_gives_the_original_maps(golden, released, original):
    recorded = golden("models/CornerNet_eval.npz")
    apply, params, model_state = released("cornernet")
    image = original["image"](recorded["in_shape"], int(recorded["in_seed"]))
    np.testing.assert_allclose(image.sum(dtype=np.float64), recorded["in_sum_f64"])
    (maps,), _ = jax.jit(partial(apply, train=False))(params, model_state, image.transpose(0, 2, 3, 1))
    assert len(maps) == 6
    for name, values in maps.items():
        expected = recorded[f"{name}s.1"].transpose(0, 2, 3, 1)
        np.testing.assert_allclose(values, expected, rtol=0, atol=8 * NOISE[name.split("_")[1]], err_msg=name)


@pytest.mark.parametrize(
    ("given", "legal"), [((127, 128), (127, 255)), ((1, 511), (127, 511)), ((640, 480), (767, 511))], ids=str
)
def test_test_images_are_padded_to_multiples_of_128_minus_1(given, legal):
    assert CORNERNET.input_size(*given, Model()) == legal
    assert legal == tuple(side | 127 for side in given)
    deep = dataclasses.replace(Model(), dims=(8,) * 8, blocks=(1,) * 8)
    assert CORNERNET.input_size(127, 600, deep) == (511, 1023)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"dims": (32,), "blocks": (1,)}, r"model\.dims is \(32,\); an hourglass needs at least two levels"),
        ({"blocks": (1, 1)}, r"model\.blocks is \(1, 1\); it needs one number for each of the 6 levels"),
        ({"blocks": (1, 1, 1, 0, 1, 1)}, r"model\.blocks is .*; every number must be at least 1"),
        ({"stacks": 0}, r"model\.stacks is 0; it must be at least 1"),
        ({"num_classes": 0}, r"model\.num_classes is 0; it must be at least 1"),
        ({"stem_kernel": 4}, r"model\.stem_kernel is 4; it must be odd"),
        ({"pooling_implementation": "fast"}, r"pooling_implementation is fast; there are: auto, .*scan"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_network_that_cannot_be_built_is_refused(model, message):
    config = Config(model=Model(**{"num_classes": 80} | model))
    with pytest.raises(InputError, match=message):
        CORNERNET.check(config)


@pytest.mark.parametrize(
    ("crop_px", "message"),
    [
        ((511, 512), "side 512; .*multiples of 128, minus 1: nearest 511 and 639"),
        ((100, 127), "side 100; .*multiples of 128, minus 1: nearest 127"),
        ((-1, 127), "side -1; .*nearest 127"),
    ],
    ids=str,
)
def test_a_crop_that_does_not_fit_is_refused(crop_px, message):
    config = Config(model=Model(num_classes=3), data=Data(crop_px=crop_px))
    with pytest.raises(InputError, match=message):
        CORNERNET.check(config)


def test_a_crop_may_be_smaller_than_the_least_test_image():
    model = Model(num_classes=3, dims=(8, 8), blocks=(1, 1))
    CORNERNET.check(Config(model=model, data=Data(crop_px=(63, 31))))
