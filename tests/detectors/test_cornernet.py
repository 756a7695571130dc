import dataclasses
import re

import pytest
from recorded import (
    NOISE,
    by_torch_name,
    compare_forward,
    compare_maps,
    compare_training_step,
    image,
    opened,
    weights,
)

from cornerjax.config import Config, Data, Loss, Model
from cornerjax.detectors import get_detector
from cornerjax.errors import InputError
from cornerjax.legacy import Legacy

CORNERNET = get_detector("cornernet")


@pytest.fixture(scope="module")
def forward():
    return opened("cornernet")


@pytest.mark.slow
def test_the_published_network_gives_the_original_maps_and_boxes(golden, forward):
    compare_forward("cornernet", forward, golden("models/CornerNet_eval.npz"), golden("models/CornerNet_inter.npz"))


def eccv18(key):
    """The name in CornerNet's first repository of what CornerNet-Lite calls `key`."""
    key = key.removeprefix("hg.").replace("hgs.", "kps.", 1)
    return re.sub(r"^(tl|br)_offs", r"\1_regrs", re.sub(r"^(tl|br)_modules", r"\1_cnvs", key))


@pytest.mark.slow
def test_the_network_of_the_first_repository_is_the_same(golden, forward):
    recorded = golden("models/CornerNet_ECCV18_eval.npz")
    given = weights("cornernet", layout="cornernet_eccv18", rename=eccv18)
    outputs, inside, _ = forward(*given, image(recorded))
    maps = {eccv18(key): values for key, values in by_torch_name(outputs, first_stack=1).items()}
    maps |= {"kps.0": inside["hgs0"], "cnvs.0": inside["cnvs0"]}
    maps |= {f"{corner}_cnvs.1": inside[f"{corner}_module_last"] for corner in ("tl", "br")}
    compare_maps(maps, recorded, NOISE["CornerNet_ECCV18_eval"])


@pytest.mark.slow
def test_a_training_step_of_the_published_network_is_the_originals(golden):
    config = Config(loss=Loss(group=2.0), legacy=Legacy(push_itself=True))
    recordings = golden("models/CornerNet_train.npz"), golden("train_step/cornernet_grads.npz")
    compare_training_step("cornernet", config, *recordings)


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
        ({"pooling_implementation": "fast"}, r"pooling_implementation is fast; .*there are: auto, .*scan"),
        ({"pooling_implementation": "pallas_triton"}, r"is pallas_triton; pallas_triton runs on gpu; on cpu there are"),
        ({"pooling": "full", "pooling_implementation": "scan"}, r"is scan; only auto goes with model.pooling=full"),
        ({"pooling": "max"}, r"model\.pooling is max; there are: corner, full, none, and functions"),
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


def test_a_run_whose_pool_is_not_on_this_machine_is_refused_in_a_sentence():
    with pytest.raises(InputError, match=r"^model\.pooling is gone:pool; No module named 'gone'; there are: corner"):
        CORNERNET.build(Model(num_classes=1, pooling="gone:pool"), None)
