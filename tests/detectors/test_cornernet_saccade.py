from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from recorded import compare_training_step, opened, published
from recorded_corners import ORIGINAL_LOSS, compare_forward, inside, targets

from cornerjax.config import load_recipe
from cornerjax.detectors.base import make_network
from cornerjax.detectors.cornernet_saccade.detector import CornerNetSaccade
from cornerjax.detectors.cornernet_saccade.options import SaccadeConfig
from cornerjax.errors import InputError
from cornerjax.validation import replaced

SACCADE = CornerNetSaccade()
NAME = "cornernet_saccade"
CONFIG = replaced(
    SACCADE.defaults,
    {
        "model": {
            "num_classes": 3,
            "backbone": {"stacks": 2, "stem_dim": 8, "dims": (8, 10, 12), "blocks": (1, 1, 1), "dim": 8},
            "pool_dim": 8,
        },
        "data": {"crop_px": (63, 63), "max_objects": 3, "attention_px": ((32, 96), (0, 32))},
        "test.saccade": {"view_px": (48, 63), "zooms": (1.0, 2.0)},
    },
)


@pytest.mark.slow
def test_the_published_network_gives_the_original_maps_and_boxes(golden):
    recordings = golden("models/CornerNet_Saccade_eval.npz"), golden("models/CornerNet_Saccade_inter.npz")
    compare_forward(NAME, opened(NAME, inside), *recordings)


@pytest.mark.slow
def test_a_training_step_of_the_published_network_is_the_originals(golden):
    maps, step = golden("models/CornerNet_Saccade_train.npz"), golden("train_step/cornernet_saccade_grads.npz")
    own = {"loss.attention": 1 / 3, "legacy.count_ignored": True}  # the original divides by the number of stacks twice
    config = replaced(published(NAME, **ORIGINAL_LOSS), own)
    compare_training_step(NAME, config, targets(NAME, step), maps, step)


@pytest.mark.parametrize("train", [False, True], ids=["test", "train"])
def test_every_stack_has_an_attention_map_for_each_level_but_the_innermost(train):
    apply, params, model_state = make_network(SACCADE, CONFIG, None)
    images = jax.ShapeDtypeStruct((2, 63, 63, 3), np.float32)
    outputs, _ = jax.eval_shape(partial(apply, train=train), params, model_state, images)
    assert len(outputs) == (2 if train else 1)
    for maps in outputs:
        assert [logits.shape for logits in maps.pop("attention")] == [(2, 8, 8, 1), (2, 16, 16, 1)]
        assert {name: logits.shape for name, logits in maps.items()} == {
            f"{corner}_{part}": (2, 16, 16, n)
            for corner in ("tl", "br")
            for part, n in (("heat", 3), ("tag", 1), ("off", 2))
        }


def test_targets_tell_apart_what_the_loss_leaves_out_and_which_map_looks_for_what():
    boxes = np.array([[1, 1, 41, 31], [30, 30, 50, 50], [5, 5, 12, 12], [0, 40, 20, 60]], np.float32)
    overlap = np.array([1, 0.5, 1, 0.6], np.float32)  # the second is cut off by half; the third is small
    objects = {"boxes": boxes, "classes": np.array([0, 1, 2, 2], np.int32), "overlap": overlap}
    encoded = SACCADE.encode(objects, CONFIG)
    assert encoded["valid"].tolist() == [True, True, False]  # three places: the last of those left out has none
    assert encoded["ignored"].tolist() == [False, False, True]
    assert encoded["classes"].tolist() == [0, 2, 1]
    assert encoded["attended"].tolist() == [[True, False], [False, True], [False, True]]
    assert encoded["att_cells"].tolist() == [[[2, 2], [5, 4]], [[1, 6], [2, 12]], [[5, 5], [10, 10]]]

    maps = SACCADE.render(encoded, CONFIG, np)
    assert {name: values.shape for name, values in maps.items()} == {
        **{f"{corner}_{part}": (16, 16, 3) for corner in ("tl", "br") for part in ("heat", "valid")},
        "attention_0": (8, 8, 1),
        "attention_1": (16, 16, 1),
    }
    assert np.argwhere(maps["attention_0"] == 1).tolist() == [[2, 2, 0]]
    assert np.argwhere(maps["attention_1"] == 1).tolist() == [[10, 10, 0], [12, 2, 0]]
    assert set(np.nonzero(maps["tl_valid"] == 0)[2].tolist()) == {1}


def test_the_configuration_of_the_published_network_is_accepted():
    SACCADE.check(CONFIG)
    SACCADE.check(replaced(SaccadeConfig(), {"model.num_classes": 80}))


def test_the_defaults_are_those_of_the_paper():
    recipe = load_recipe(Path(__file__).parents[2] / "configs" / "cornernet_saccade.py")
    data = SaccadeConfig().data
    assert isinstance(recipe, SaccadeConfig)
    assert (data.crop_scales, data.gaussian_iou) == (recipe.data.crop_scales, recipe.data.gaussian_iou)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.crop_px": (63, 127)}, r"data\.crop_px is \(63, 127\); .*height and width must be the same"),
        ({"data.crop_px": (60, 60)}, r"data\.crop_px has the side 60; .*multiples of 16, minus 1: nearest 47 and 63"),
        ({"data.attention_px": ((0, 32),)}, r"data\.attention_px is .*; it needs .* for each of the 2 maps"),
        (
            {"data.attention_px": ((32, 32), (0, 32))},
            r"data\.attention_px is \(\(32, 32\), .*a largest size for each",
        ),
        ({"data.attention_px": ((0, 32), (32, 96))}, r"data\.attention_px is \(\(0, 32\), .*largest first"),
        ({"data.attention_px": ((0, 96), (0, 32))}, r"data\.attention_px is \(\(0, 96\), .*largest first"),
        ({"test.flip": True}, r"test\.flip is True, which CornerNet-Saccade has no use for"),
        (
            {"test.scales": (0.5, 1.0)},
            r"test\.scales is \(0\.5, 1\.0\), which .*accepted are .*\(1\.0,\)",
        ),
        ({"test.saccade.view_px": (48, 64)}, r"test\.saccade\.view_px is \(48, 64\); no view is larger than .*63"),
        (
            {"test.saccade.zooms": (1.0, 2.0, 4.0)},
            r"test\.saccade\.zooms is .*; it needs one number for each of the 2 maps",
        ),
        ({"test.saccade.box_px": (192, 64)}, r"test\.saccade\.box_px is \(192, 64\); accepted is a list of 3$"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_configuration_that_does_not_fit_is_refused(changes, message):
    with pytest.raises(InputError, match=f"^{message}"):
        SACCADE.check(replaced(CONFIG, changes))


@pytest.mark.parametrize(
    ("image", "bucket"), [((128, 128), (128, 128)), ((100, 129), (128, 256)), ((480, 640), (512, 640))], ids=str
)
def test_test_images_lie_in_arrays_with_sides_of_multiples_of_128(image, bucket):
    height, width = image
    assert SACCADE.input_size(height, width, CONFIG.model) == bucket
    assert SACCADE.procedure(make_network(SACCADE, CONFIG, None)[0], CONFIG).bucket(height, width) == bucket
