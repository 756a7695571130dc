"""CenterNet points against recordings of the original: every backbone, and its initial values."""

import json
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recorded import (
    FAST_COMPILE,
    GOLDEN,
    NOISE,
    RECORDINGS,
    by_torch_name,
    compare_maps,
    compare_training_step,
    dense,
    image,
    opened,
    published,
    torch_names,
    weights,
)

from cornerjax.detectors import get_detector
from cornerjax.detectors.base import make_network
from cornerjax.detectors.centernet_points.detector import CenterNetPoints
from cornerjax.detectors.centernet_points.options import PointConfig, PointModel
from cornerjax.errors import InputError
from cornerjax.nn.backbones.dla import DLA
from cornerjax.nn.backbones.hourglass import Hourglass
from cornerjax.nn.backbones.resnet import ResNet
from cornerjax.nn.functional import by_path, parameter_count
from cornerjax.validation import replaced
from cornerjax.weights.match import match_backbone

NAME = "centernet_points"
POINTS = CenterNetPoints()
LAYOUTS = {name.removeprefix("CenterNetZ_"): i for i, name in enumerate(RECORDINGS[NAME])}
RECORDED = pytest.mark.parametrize("backbone", ["res_18", "resdcn_18", "dla_34", "hourglass"])


@pytest.mark.parametrize(
    ("backbone", "parameters"),
    [
        ("hourglass", 191_284_008),
        ("dla_34", 19_675_892),
        ("resdcn_101", 49_673_189),
        ("resdcn_18", 14_437_349),
        ("res_101", 53_435_476),
        ("res_18", 15_820_372),
    ],
)
def test_published_sizes(backbone, parameters):
    _, params, _ = make_network(POINTS, published(NAME, LAYOUTS[backbone]), None)
    assert parameter_count(params) == parameters


@pytest.mark.parametrize(
    ("file", "backbone"),
    [
        ("resnet18", ResNet()),
        ("resnet18", ResNet(deformable=True, up_dims=(256, 128, 64))),
        ("resnet101", ResNet(depth=101)),
        ("dla34", DLA()),
    ],
)
def test_files_of_imagenet_hold_what_a_backbone_needs(file, backbone):
    shapes = json.loads((GOLDEN / "manifest" / f"imagenet_{file}.json").read_text())
    values = {key: np.zeros(shape, np.float32) for key, shape in shapes.items()}
    model = replaced(POINTS.defaults.model, {"backbone": backbone})
    found = match_backbone(POINTS, model, values, source="file")
    assert found.unused == ["fc.bias", "fc.weight"]
    assert len(found.values) == len(values) - 2


def inside(network, images, *, train):
    """The recorded maps inside a backbone."""
    backbone = network.backbone
    (first, levels), *_ = backbone(images, train=train)
    if isinstance(backbone, type(Hourglass().build(None))):
        return {"kps.0": levels[-1]}
    if hasattr(backbone, "ups"):
        return {"deconv_layers": first, "layer1": levels[-1], "layer4": levels[0]}
    deepest = backbone.aggregations[0].projects[0](levels[0], train=train)
    return {"base.level2": levels[-1], "base.level5": levels[0], "dla_up.ida_0.proj_1": deepest, "ida_up.node_2": first}


@pytest.mark.slow
@RECORDED
def test_the_published_networks_give_the_original_maps_and_boxes(golden, backbone):
    layout, recording = LAYOUTS[backbone], f"CenterNetZ_{backbone}"
    recorded, boxes = golden(f"models/{recording}_eval.npz"), golden(f"decode/{recording}_test_dets.npz")
    outputs, found_inside, found = opened(NAME, inside, layout=layout)(*weights(NAME, layout), image(recorded))
    maps = by_torch_name(NAME, outputs, layout=layout) | found_inside
    compare_maps(maps, recorded, NOISE[f"{recording}_eval"])
    ours = np.column_stack([found.boxes[0], found.scores[0], found.classes[0]])
    off = np.abs(ours[:, None] - boxes["test_dets"][0]).max(-1)
    # What lies at the hundredth place depends on the last digit.
    assert (off.min(1) < 1e-3).sum() >= 98
    assert (off.min(0) < 1e-3).sum() >= 98


def recorded_targets(step):
    """What the loss needs of a recorded training step."""
    width = np.int32(step["gt_hm__shape"][3])
    y, x = np.divmod(step["gt_ind"].astype(np.int32), width)
    return {
        "valid": step["gt_reg_mask"].astype(bool),
        "ct_heat": dense(step, "gt_hm"),
        "ct_cells": np.stack([x, y], -1),
        "ct_off": step["gt_reg"],
        "sizes": step["gt_wh"],
    }


@pytest.mark.slow
@RECORDED
def test_a_training_step_of_the_published_networks_is_the_originals(golden, backbone):
    layout, recording = LAYOUTS[backbone], f"CenterNetZ_{backbone}"
    maps, step = golden(f"models/{recording}_train.npz"), golden(f"train_step/{recording}_grads.npz")
    config = published(NAME, layout)
    compare_training_step(NAME, config, recorded_targets(step), maps, step, layout=layout)


@pytest.mark.parametrize("backbone", ["res_18", "resdcn_18", "dla_34"])
def test_initial_values_are_the_originals(backbone):
    """Those that are not PyTorch's defaults; the recording says of each parameter how it is distributed."""
    layout = LAYOUTS[backbone]
    recorded = json.loads((GOLDEN / "init" / f"CenterNetZ_{backbone}.json").read_text())
    _, params, _ = make_network(POINTS, published(NAME, layout), np.random.default_rng(0))
    params, paths = by_path(params), torch_names(NAME, layout)
    for key, said in recorded.items():
        if key.startswith("base.fc") or paths[key] not in params:
            continue
        value = np.asarray(params[paths[key]])
        assert said["zero"] == (not value.any()), key
        if "exact_kernel" in said:
            for channel in range(value.shape[-1]):
                np.testing.assert_allclose(value[:, :, 0, channel], said["exact_kernel"], err_msg=key)
        elif "exact_kernel_of_output_channel_0" in said:
            kernel = np.array(said["exact_kernel_of_output_channel_0"])
            np.testing.assert_allclose(value[:, :, 0], np.tile(kernel[..., None], value.shape[-1]), err_msg=key)
            said, value = said["rest"], value[:, :, 1:]
        if not said.get("zero") and value.size > 1000:
            np.testing.assert_allclose(value.std(), said["std"], rtol=0.1, atol=1e-6, err_msg=key)


NARROW: dict[str, Hourglass | ResNet | DLA] = {
    "hourglass": Hourglass(stacks=2, stem_dim=4, stem_kernel=3, dims=(4, 6), blocks=(1, 1), dim=4),
    "res_18": ResNet(width=2, up_dims=(4, 4, 4)),
    "res_50": ResNet(depth=50, width=2, up_dims=(4, 4, 4)),
    "resdcn_18": ResNet(width=2, up_dims=(4, 4, 4), deformable=True),
    "dla_34": DLA(width=2),
}


def narrow(backbone, **changes):
    model = PointModel(num_classes=3, backbone=NARROW[backbone], head_dim=4)
    return replaced(PointConfig(model=model), {"data": {"crop_px": (64, 64), "max_objects": 4}, **changes})


@pytest.mark.parametrize("backbone", NARROW)
def test_every_backbone_gives_maps_of_a_quarter_of_the_size(backbone):
    config = narrow(backbone)
    POINTS.check(config)
    apply, params, model_state = make_network(POINTS, config, np.random.default_rng(0))
    images = jax.ShapeDtypeStruct((2, 128, 64, 3), np.float32)
    for train in (False, True):
        outputs, _ = jax.eval_shape(lambda *a, train=train: apply(*a, train=train), params, model_state, images)
        assert len(outputs) == (config.model.backbone.stacks if train else 1)
        for maps in outputs:
            assert {name: value.shape[3] for name, value in maps.items()} == {"ct_heat": 3, "ct_size": 2, "ct_off": 2}
            assert {value.shape[:3] for value in maps.values()} == {(2, 32, 16)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.crop_px": (64, 80)}, r"^data\.crop_px has the side 80; .* multiples of 32: nearest 64 and 96$"),
        ({"data.crop_px": (16, 64)}, r"^data\.crop_px has the side 16; .* nearest 32$"),
        ({"test.fixed_px": (100, 64)}, r"^test\.fixed_px has the side 100; .* nearest 96 and 128$"),
        ({"test.fixed_px": (64,)}, r"^test\.fixed_px is \(64,\); accepted are a height and a width, or nothing$"),
        ({"model.num_classes": 0}, r"model\.num_classes is 0"),
    ],
    ids=str,
)
def test_sides_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        POINTS.check(narrow("dla_34", **changes))


@pytest.mark.parametrize(
    ("backbone", "given", "legal"),
    [("dla_34", (240, 320), (256, 352)), ("res_18", (31, 32), (32, 64)), ("dla_34", (512, 511), (544, 512))],
)
def test_test_images_are_padded_to_a_multiple_of_32_above(backbone, given, legal):
    height, width = given
    assert POINTS.input_size(height, width, narrow(backbone).model) == legal


def test_the_published_hourglass_needs_multiples_of_128():
    assert POINTS.input_size(240, 320, PointModel(backbone=Hourglass())) == (256, 384)


@pytest.mark.parametrize(
    ("changes", "nms"),
    [
        ({}, "none"),
        ({"test.scales": (1.0, 2.0)}, "gaussian"),
        ({"test.scales": (1.0, 2.0), "test.nms": "hard"}, "hard"),
    ],
)
def test_only_several_scales_are_suppressed_unasked(changes, nms):
    assert POINTS.nms(narrow("dla_34", **changes)) == nms


def test_the_mean_of_mirrored_maps_is_that_of_the_scores():
    rng = np.random.default_rng(0)
    one, other = (
        [
            {
                f"ct_{kind}": jnp.asarray(rng.standard_normal((1, 2, 3, 2)), jnp.float32)
                for kind in ("heat", "size", "off")
            }
        ]
        for _ in range(2)
    )
    (maps,) = POINTS.average_mirrored(one, other, PointConfig())
    back = jax.tree.map(lambda x: x[:, :, ::-1], other[0])
    heat = (jax.nn.sigmoid(one[0]["ct_heat"]) + jax.nn.sigmoid(back["ct_heat"])) / 2
    np.testing.assert_allclose(jax.nn.sigmoid(maps["ct_heat"]), heat, rtol=1e-6)
    np.testing.assert_allclose(maps["ct_size"], (one[0]["ct_size"] + back["ct_size"]) / 2, rtol=1e-6)
    np.testing.assert_array_equal(maps["ct_off"], one[0]["ct_off"])


def test_dla_makes_two_maps_that_nothing_reads():
    """Their weights have no gradient, their statistics move: see the recordings of the original."""
    config = narrow("dla_34")
    apply, params, model_state = make_network(POINTS, config, np.random.default_rng(0))
    images = jnp.asarray(np.random.default_rng(1).standard_normal((2, 64, 64, 3)), jnp.float32)

    @partial(jax.jit, compiler_options=FAST_COMPILE)
    @partial(jax.grad, has_aux=True)
    def step(params):
        outputs, after = apply(params, model_state, images, train=True)
        return sum(x.sum() for x in jax.tree.leaves(outputs)), after

    slopes, after = step(params)
    slopes, after, before = by_path(slopes), by_path(after), by_path(model_state)
    unread = {path for path, slope in slopes.items() if not np.any(slope)}
    expected = re.compile(r"backbone\.trees\.[12]\.project\..*")
    assert unread == {path for path in slopes if expected.fullmatch(path)}
    assert len(unread) == 6
    moved = [path for path in before if expected.fullmatch(path)]
    assert len(moved) == 4
    assert all(not np.array_equal(before[path], after[path]) for path in moved)


def test_the_detector_is_in_the_list():
    assert isinstance(get_detector(NAME), CenterNetPoints)
