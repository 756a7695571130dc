import dataclasses
import re

import pytest
from recorded import NOISE, by_torch_name, compare_maps, compare_training_step, image, opened, published, weights
from recorded_corners import ORIGINAL_LOSS, compare_forward, inside, targets

from cornerjax.detectors import check
from cornerjax.detectors.cornernet import CornerConfig, CornerModel, CornerNet
from cornerjax.errors import InputError
from cornerjax.nn.backbones.hourglass import Hourglass
from cornerjax.validation import replaced

CORNERNET = CornerNet()


def changed(changes):
    """The configuration of the published network, changed."""
    return replaced(CornerConfig(), {"model.num_classes": 80, **changes})


@pytest.fixture(scope="module")
def forward():
    return opened("cornernet", inside)


@pytest.mark.slow
def test_the_published_network_gives_the_original_maps_and_boxes(golden, forward):
    compare_forward("cornernet", forward, golden("models/CornerNet_eval.npz"), golden("models/CornerNet_inter.npz"))


@pytest.mark.slow
def test_the_network_of_the_first_repository_is_the_same(golden, forward):
    recorded = golden("models/CornerNet_ECCV18_eval.npz")
    outputs, found_inside, _ = forward(*weights("cornernet", layout=1), image(recorded))
    maps = by_torch_name("cornernet", outputs, layout=1)
    maps |= {"kps.0": found_inside["hgs0"], "cnvs.0": found_inside["cnvs0"]}
    maps |= {f"{corner}_cnvs.1": found_inside[f"{corner}_module_last"] for corner in ("tl", "br")}
    compare_maps(maps, recorded, NOISE["CornerNet_ECCV18_eval"])


@pytest.mark.slow
def test_a_training_step_of_the_published_network_is_the_originals(golden):
    maps, step = golden("models/CornerNet_train.npz"), golden("train_step/cornernet_grads.npz")
    config = published("cornernet", **ORIGINAL_LOSS)
    compare_training_step("cornernet", config, targets("cornernet", step), maps, step)


@pytest.mark.parametrize(
    ("given", "legal"), [((127, 128), (127, 255)), ((1, 511), (127, 511)), ((640, 480), (767, 511))], ids=str
)
def test_test_images_are_padded_to_multiples_of_128_minus_1(given, legal):
    height, width = given
    assert CORNERNET.input_size(height, width, CORNERNET.defaults.model) == legal
    assert legal == tuple(side | 127 for side in given)
    deep = replaced(CORNERNET.defaults.model, {"backbone": Hourglass(dims=(8,) * 8, blocks=(1,) * 8)})
    assert CORNERNET.input_size(127, 600, deep) == (511, 1023)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.backbone": {"dims": (32,), "blocks": (1,)}}, r"backbone\.dims is \(32,\); .* at least two levels"),
        (
            {"model.backbone.blocks": (1, 1)},
            r"backbone\.blocks is \(1, 1\); .* for each of the 6 levels",
        ),
        ({"model.num_classes": 0}, r"model\.num_classes is 0; a network needs at least 1"),
        ({"compute.pooling_implementation": "fast"}, r"pooling_implementation is fast; .*there are: auto, .*scan"),
        (
            {"compute.pooling_implementation": "pallas_triton"},
            r"is pallas_triton; pallas_triton runs on gpu; on cpu there are",
        ),
        (
            {"model.pooling": "full", "compute.pooling_implementation": "scan"},
            r"is scan; only auto goes with model.pooling=full",
        ),
        ({"model.pooling": "max"}, r"model\.pooling is max; there are: corner, full, none, and functions"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_network_that_cannot_be_built_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        CORNERNET.check(changed(changes))


@pytest.mark.parametrize(
    ("field", "value", "accepted"),
    [
        ("backbone.blocks", (1, 1, 1, 0, 1, 1), "1 to 16"),
        ("backbone.dims", (), "one to 10 numbers"),
        ("backbone.stacks", 0, "1 to 16"),
        ("backbone.stem_kernel", 4, "an odd number from 1 to 255"),
        ("head_kernel", 2, "an odd number from 1 to 255"),
    ],
)
def test_a_number_that_no_network_has_is_refused(field, value, accepted):
    """Whoever gave it: on the command line, or in a recipe."""
    with pytest.raises(InputError, match=rf"^model\.{field}.* is .*; accepted (is|are) {re.escape(accepted)}$"):
        changed({f"model.{field}": value})
    model, name = CornerModel(num_classes=80), field.removeprefix("backbone.")
    if name == field:
        wrong = dataclasses.replace(model, **{name: value})
    else:
        wrong = dataclasses.replace(model, backbone=dataclasses.replace(model.backbone, **{name: value}))
    with pytest.raises(InputError, match=rf"^model\.{field}.* is .*; accepted (is|are) {re.escape(accepted)}$"):
        check(dataclasses.replace(CornerConfig(), model=wrong))


@pytest.mark.parametrize(
    ("field", "value", "accepted"),
    [
        ("backbone.stride", 2, "4, 8"),
        ("backbone.block", "fires", "residual, fire"),
        ("pool_dim", 1.0, "a whole number"),
    ],
)
def test_a_choice_that_there_is_not_is_refused(field, value, accepted):
    with pytest.raises(InputError, match=rf"^model\.{field} is .*; accepted (is|are) {accepted}$"):
        changed({f"model.{field}": value})


@pytest.mark.parametrize(
    ("crop_px", "message"),
    [
        ((511, 512), "side 512; .*multiples of 128, minus 1: nearest 511 and 639"),
        ((100, 127), "side 100; .*multiples of 128, minus 1: nearest 127"),
        ((1, 127), "side 1; .*nearest 127"),
    ],
    ids=str,
)
def test_a_crop_that_does_not_fit_is_refused(crop_px, message):
    with pytest.raises(InputError, match=message):
        CORNERNET.check(changed({"data.crop_px": crop_px}))


def test_a_crop_may_be_smaller_than_the_least_test_image():
    backbone = Hourglass(dims=(8, 8), blocks=(1, 1))
    CORNERNET.check(changed({"model.backbone": backbone, "data.crop_px": (63, 31)}))


def test_a_run_whose_pool_is_not_on_this_machine_is_refused_in_a_sentence():
    gone = changed({"model.pooling": "gone:pool"})
    with pytest.raises(InputError, match=r"^model\.pooling is gone:pool; No module named 'gone'; there are: corner"):
        CORNERNET.check(gone)
