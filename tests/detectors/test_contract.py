"""What every detector promises, on a network narrow enough to compile in seconds."""

import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recorded import FAST_COMPILE, layout_of, manifest, published, torch_names

from cornerjax.detectors import DETECTORS, check, get_detector
from cornerjax.detectors.base import Detector, make_network, variable_shapes
from cornerjax.errors import InputError
from cornerjax.nn.backbones.hourglass import Hourglass
from cornerjax.nn.functional import by_path, parameter_count
from cornerjax.validation import replaced

OBJECTS = {
    "boxes": np.array([[4.5, 8.25, 40, 50], [30, 20, 60, 61.5]], np.float32),
    "classes": np.array([2, 0], np.int32),
    "extreme_points": np.array(
        [[[20, 8.25], [4.5, 30], [10, 50], [40, 44]], [[50, 20], [30, 33], [41, 61.5], [60, 50]]], np.float32
    ),
}
EVERY = pytest.mark.parametrize("name", DETECTORS)

# Of each detector, what makes its published network narrow: small crops, and of hourglasses two with two levels.
CORNERS: dict[str, Any] = {
    "model": {
        "backbone": {"stacks": 2, "stem_dim": 8, "stem_kernel": 3, "dims": (8, 12), "blocks": (1, 1), "dim": 8},
        "head_kernel": 1,
        "pool_dim": 8,
    },
    "data.crop_px": (63, 63),
    "loss.group": 2.0,
    "test": {"top_k": 10, "max_pairs": 20, "tag_distance": 100.0},
}
NARROW = {
    "cornernet": CORNERS,
    "cornernet_squeeze": CORNERS,
    "cornernet_saccade": {
        **CORNERS,
        "data.attention_px": ((16, 256),),
        "test.saccade": {"view_px": (63,), "zooms": (1.0,)},
    },
    "extremenet": {
        "model": {key: value for key, value in CORNERS["model"].items() if key != "pool_dim"},
        "data.crop_px": (63, 63),
        "test": {"top_k": 10, "quadruples": 20, "point_floor": 1e-6, "centre_floor": 1e-6},
    },
    "centernet_triplets": CORNERS | {"test": {**CORNERS["test"], "top_k": 40}},
    "centernet_points": {
        "model": {"backbone": Hourglass(**CORNERS["model"]["backbone"]), "head_dim": 8},  # DLA takes a minute
        "data.crop_px": (64, 64),
        "test.top_k": 10,
    },
}
# Of a detector, a pattern of the parameters that do not start as PyTorch's do; its own test says how they start.
OWN_START = {"centernet_points": r"ct\..*\.(size|off)\..*\.bias"}


def narrow(name):
    """The narrow configuration, for three classes."""
    shared = {"model.num_classes": 3, "data": {"max_objects": 4, "batch": 2}}
    return replaced(replaced(DETECTORS[name].defaults, shared), NARROW[name])


def side(name):
    """Rows, and columns, of the heat maps."""
    return DETECTORS[name].map_size(narrow(name))[0]


@pytest.fixture(scope="module")
def ran():
    """ran(name) -> what one jitted training step and one jitted test step of a detector give; run once."""
    results = {}

    def run(name):
        config, detector = narrow(name), DETECTORS[name]
        apply, params, model_state = make_network(detector, config, np.random.default_rng(0))
        encoded = detector.encode(OBJECTS, config)
        heat = detector.render(encoded, config, np)
        targets = jax.tree.map(lambda value: np.stack([value] * 2), encoded | heat)
        images = np.random.default_rng(1).standard_normal((2, *config.data.crop_px, 3)).astype(np.float32)

        @partial(jax.jit, compiler_options=FAST_COMPILE)
        def train_step(params, model_state, images, targets):
            def objective(params):
                outputs, after = apply(params, model_state, images, train=True)
                losses = detector.loss(outputs, targets, config)
                return losses["total"], (outputs, after, losses)

            return jax.grad(objective, has_aux=True)(params)

        @partial(jax.jit, compiler_options=FAST_COMPILE)
        def test_step(params, model_state, images):
            outputs, after = apply(params, model_state, images, train=False)
            return outputs, after, detector.decode(outputs, config)

        grads, train = train_step(params, model_state, images, targets)
        return {
            "config": config,
            "state": model_state,
            "params": params,
            "encoded": encoded,
            "heat": heat,
            "grads": grads,
            "train": train,
            "test": test_step(params, model_state, images),
        }

    def once(name):
        if name not in results:
            results[name] = run(name)
        return results[name]

    return once


@EVERY
def test_has_the_names_of_the_contract(name):
    assert isinstance(DETECTORS[name], Detector)
    assert DETECTORS[name].defaults.model.detector == name
    assert get_detector(name) is DETECTORS[name]


def test_an_unknown_detector_is_refused_with_the_list():
    with pytest.raises(InputError, match=r"no detector 'yolo'; there are: cornernet, cornernet_squeeze"):
        get_detector("yolo")


@EVERY
def test_the_configuration_is_accepted(name):
    assert check(narrow(name)) is DETECTORS[name]
    DETECTORS[name].check(narrow(name))


@EVERY
def test_outputs(ran, name):
    """The maps of keypoints; others are of single detectors."""
    r, maps_of = ran(name), {}
    for keypoint in DETECTORS[name].keypoints:
        maps_of[f"{keypoint.name}_heat"] = (2, side(name), side(name), 3)
        if keypoint.offset:
            maps_of[f"{keypoint.name}_off"] = (2, side(name), side(name), 2)
    train_outputs, test_outputs = r["train"][0], r["test"][0]
    assert len(test_outputs) == 1
    for maps in train_outputs + test_outputs:
        assert {key: maps[key].shape for key in maps_of} == maps_of


@EVERY
def test_heads_are_the_modules_that_make_the_outputs(ran, name):
    """All outputs of all stacks; the modules are there."""
    r = ran(name)
    heads = DETECTORS[name].heads(r["config"].model)
    assert len(heads) == len(r["train"][0])
    for maps, of_stack in zip(r["train"][0], heads, strict=True):
        leaves, _ = jax.tree_util.tree_flatten_with_path(maps)
        assert {jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves} == of_stack.keys()
    modules = [module for of_stack in heads for module in of_stack.values()]
    assert len(set(modules)) == len(modules)
    for module in modules:
        assert any(path.startswith(f"{module}.") for path in by_path(r["params"]))


@EVERY
def test_every_parameter_has_a_finite_gradient(ran, name):
    grads = by_path(ran(name)["grads"])
    assert all(np.isfinite(g).all() for g in grads.values())
    assert not [path for path, g in grads.items() if not np.abs(g).max() > 0]


@EVERY
def test_training_moves_every_running_statistic_and_testing_none(ran, name):
    r = ran(name)
    before, trained, tested = (by_path(state) for state in (r["state"], r["train"][1], r["test"][1]))
    assert set(before) == set(trained) == set(tested)
    assert not [path for path in before if np.array_equal(before[path], trained[path])]
    assert not [path for path in before if not np.array_equal(before[path], tested[path])]


@EVERY
def test_the_loss_is_the_sum_of_its_parts(ran, name):
    losses = {part: float(value) for part, value in ran(name)["train"][2].items()}
    total = losses.pop("total")
    assert losses.keys() == DETECTORS[name].loss_weights(narrow(name)).keys()
    assert total > 0
    assert total == pytest.approx(sum(losses.values()), rel=1e-5)


@EVERY
def test_candidates(ran, name):
    boxes, scores, classes, extra = ran(name)["test"][2]
    k = scores.shape[1]
    assert (boxes.shape, scores.shape, classes.shape) == ((2, k, 4), (2, k), (2, k))
    assert {values.shape[:2] for values in extra.values()} <= {(2, k)}
    assert set(DETECTORS[name].extras) <= extra.keys()
    assert classes.dtype == jnp.int32
    assert (np.diff(scores) <= 0).all()
    kept = np.asarray(scores) >= 0
    assert kept.any()
    assert ((np.asarray(classes)[kept] >= 0) & (np.asarray(classes)[kept] < 3)).all()


@EVERY
def test_targets_have_fixed_shapes_and_peaks_at_the_keypoints(ran, name):
    r = ran(name)
    shapes = {key: (value.shape, value.dtype.name) for key, value in r["encoded"].items()}
    expected: dict[str, tuple[tuple[int, ...], str]]
    expected = {"classes": ((4,), "int32"), "radii": ((4,), "int32"), "valid": ((4,), "bool")}
    for keypoint in DETECTORS[name].keypoints:
        expected[f"{keypoint.name}_cells"] = ((4, 2), "int32")
        if keypoint.offset:
            expected[f"{keypoint.name}_off"] = ((4, 2), "float32")
    assert shapes.items() >= expected.items()
    for keypoint in DETECTORS[name].keypoints:
        cells = np.floor(keypoint.at(OBJECTS) * side(name) / narrow(name).data.crop_px[0]).astype(int)
        heat = r["heat"][f"{keypoint.name}_heat"]
        assert heat.shape == (side(name), side(name), 3)
        peaks = {(y, x, c) for (x, y), c in zip(cells.tolist(), OBJECTS["classes"].tolist(), strict=True)}
        assert set(zip(*(index.tolist() for index in np.nonzero(heat == 1)), strict=True)) == peaks


@EVERY
def test_host_and_device_render_alike(ran, name):
    r = ran(name)
    on_device = jax.jit(lambda encoded: DETECTORS[name].render(encoded, r["config"], jnp))(r["encoded"])
    assert set(on_device) == set(r["heat"])
    for key, value in r["heat"].items():
        np.testing.assert_allclose(on_device[key], value, atol=1e-6)


@EVERY
def test_the_same_seed_gives_the_same_weights(ran, name):
    r = ran(name)
    again, other = (
        by_path(make_network(DETECTORS[name], r["config"], np.random.default_rng(seed))[1]) for seed in (0, 1)
    )
    jax.tree.map(np.testing.assert_array_equal, again, by_path(r["params"]))
    drawn = {path for path in again if path.endswith(".kernel") and not re.fullmatch(OWN_START.get(name, ""), path)}
    assert not [path for path in drawn if np.array_equal(again[path], other[path])]


@EVERY
def test_initial_values_are_pytorchs(ran, name):
    """Uniform between -1 and 1 over the root of the inputs of an output; heat and attention start at a score of 0.1."""
    state = by_path(ran(name)["state"])
    own = OWN_START.get(name, "")
    params = {path: value for path, value in by_path(ran(name)["params"]).items() if not re.fullmatch(own, path)}
    kernels = {path.removesuffix(".kernel"): value for path, value in params.items() if path.endswith(".kernel")}
    bounds = {layer: np.prod(kernel.shape[:3]) ** -0.5 for layer, kernel in kernels.items()}
    drawn = [kernel / bounds[layer] for layer, kernel in kernels.items()]
    for path, value in params.items():
        layer, _, kind = path.rpartition(".")
        if kind == "scale" or (kind == "bias" and layer not in kernels):  # of a normalisation
            np.testing.assert_array_equal(value, np.float32(kind == "scale"), err_msg=path)
        elif layer.endswith("heat.out") or (layer.startswith("attention.") and layer.endswith(".out")):
            assert kind == "kernel" or (value == np.float32(-2.19)).all(), path
        elif kind == "bias":
            drawn.append(value / bounds[layer])
    for path, value in state.items():
        np.testing.assert_array_equal(value, np.float32(path.endswith("var")), err_msg=path)
    for values in drawn:
        assert np.abs(values).max() <= 1
        if values.size > 200:
            assert np.abs(values).max() > 0.9
            assert abs(values.mean()) < 5 / np.sqrt(3 * values.size)
    everything = np.concatenate([values.ravel() for values in drawn])
    np.testing.assert_allclose(np.quantile(everything, [0.1, 0.3, 0.5, 0.7, 0.9]), [-0.8, -0.4, 0, 0.4, 0.8], atol=0.03)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("cornernet", 201_035_212),
        ("cornernet_squeeze", 31_771_852),
        ("cornernet_saccade", 116_969_339),
        ("extremenet", 198_531_504),
        ("centernet_triplets", 210_062_960),
        ("centernet_points", 19_675_892),
    ],
)
def test_published_size(name, parameters):
    _, params, _ = make_network(get_detector(name), published(name), None)
    assert parameter_count(params) == parameters


@pytest.mark.parametrize(
    ("name", "layout"), [(name, i) for name in DETECTORS for i in range(len(DETECTORS[name].torch_layouts))]
)
def test_torch_names_are_those_of_the_released_checkpoint(name, layout):
    shapes = variable_shapes(get_detector(name), published(name, layout).model)
    names = torch_names(name, layout)
    assert sorted(names.values()) == sorted(shapes)

    def in_torch_order(shape):  # height, width, in, out -> out, in, height, width
        return tuple(shape[i] for i in (3, 2, 0, 1)) if len(shape) == 4 else shape

    needed = {
        key: shape
        for key, shape in manifest(name, layout).items()
        if not any(re.fullmatch(pattern, key) for pattern in layout_of(name, layout).unused)
    }
    assert {key: in_torch_order(shapes[path]) for key, path in names.items()} == needed


@EVERY
def test_an_image_that_cannot_be_halved_is_refused(name):
    config = narrow(name)
    if not isinstance(config.model.backbone, Hourglass):
        pytest.skip("images of any size can be halved")
    apply, params, model_state = make_network(DETECTORS[name], config, None)
    images = jax.ShapeDtypeStruct((1, 64 + DETECTORS[name].stride(config.model), 63, 3), np.float32)
    with pytest.raises(ValueError, match=r"images of 63x.* pixels give .*; this network needs multiples of 2 cells"):
        jax.eval_shape(partial(apply, train=False), params, model_state, images)
