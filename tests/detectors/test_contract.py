"""What every detector promises, on a network narrow enough to compile in seconds."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recorded import manifest, published, torch_names

from cornerjax.config import Config, Data, Loss, Saccade, Test
from cornerjax.detectors import DETECTORS, get_detector
from cornerjax.detectors.base import Detector
from cornerjax.errors import InputError
from cornerjax.nn.functional import by_path, functional, parameter_count

FAST_COMPILE = {"xla_backend_optimization_level": 0}  # these networks run once
NARROW = {"stacks": 2, "stem_dim": 8, "stem_kernel": 3, "head_dim": 8, "head_kernel": 1, "pool_dim": 8}
OBJECTS = {
    "boxes": np.array([[4.5, 8.25, 40, 50], [30, 20, 60, 61.5]], np.float32),
    "classes": np.array([2, 0], np.int32),
}
EVERY = pytest.mark.parametrize("name", DETECTORS)


def narrow(name):
    """A configuration for 63x63 crops, two stacks, two levels, three classes."""
    defaults = DETECTORS[name].defaults
    model = dataclasses.replace(defaults, num_classes=3, dims=(8, 12), blocks=(1, 1), **NARROW)
    data = Data(crop_px=(63, 63), max_objects=4, batch=2, attention_px=((16, 256),))
    test = Test(top_k=10, max_pairs=20, tag_distance=100.0, saccade=Saccade(view_px=(63,), zooms=(1.0,)))
    return Config(model=model, data=data, loss=Loss(group=2.0), test=test)


@pytest.fixture(scope="module")
def ran():
    """ran(name) -> what one jitted training step and one jitted test step of a detector give; run once."""
    results = {}

    def run(name):
        config, detector = narrow(name), DETECTORS[name]
        apply, params, model_state = functional(detector.build(config.model, np.random.default_rng(0)))
        encoded = detector.encode(OBJECTS, config)
        heat = detector.render(encoded, config, np)
        targets = jax.tree.map(lambda value: np.stack([value] * 2), encoded | heat)
        images = np.random.default_rng(1).standard_normal((2, 63, 63, 3)).astype(np.float32)

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
    assert DETECTORS[name].defaults.detector == name
    assert get_detector(name) is DETECTORS[name]


def test_an_unknown_detector_is_refused_with_the_list():
    with pytest.raises(InputError, match=r"no detector 'yolo'; there are: cornernet, cornernet_squeeze"):
        get_detector("yolo")


@EVERY
def test_the_configuration_is_accepted(name):
    DETECTORS[name].check(narrow(name))


@EVERY
def test_outputs(ran, name):
    """The maps of corners; others are of single detectors."""
    r = ran(name)
    side = 64 // DETECTORS[name].stride(r["config"].model)
    sizes = {"heat": 3, "tag": 1, "off": 2}
    expected = {f"{corner}_{part}": (2, side, side, n) for corner in ("tl", "br") for part, n in sizes.items()}
    train_outputs, test_outputs = r["train"][0], r["test"][0]
    assert [{key: maps[key].shape for key in expected} for maps in train_outputs] == [expected] * 2
    assert [{key: maps[key].shape for key in expected} for maps in test_outputs] == [expected]


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
    assert total > 0
    assert total == pytest.approx(sum(losses.values()), rel=1e-5)


@EVERY
def test_candidates(ran, name):
    boxes, scores, classes, corner_scores = ran(name)["test"][2]
    assert (boxes.shape, scores.shape, classes.shape) == ((2, 20, 4), (2, 20), (2, 20))
    assert corner_scores.shape == (2, 20, 2)
    assert classes.dtype == jnp.int32
    assert (np.diff(scores) <= 0).all()
    kept = np.asarray(scores) >= 0
    assert kept.any()
    assert ((np.asarray(classes)[kept] >= 0) & (np.asarray(classes)[kept] < 3)).all()


@EVERY
def test_targets_have_fixed_shapes_and_peaks_at_the_corners(ran, name):
    r = ran(name)
    shapes = {key: (value.shape, value.dtype.name) for key, value in r["encoded"].items()}
    assert (
        shapes.items()
        >= {
            "classes": ((4,), "int32"),
            "radii": ((4,), "int32"),
            "valid": ((4,), "bool"),
            "tl_cells": ((4, 2), "int32"),
            "br_cells": ((4, 2), "int32"),
            "tl_off": ((4, 2), "float32"),
            "br_off": ((4, 2), "float32"),
        }.items()
    )
    side = 64 // DETECTORS[name].stride(r["config"].model)
    for corner, points in (("tl", OBJECTS["boxes"][:, :2]), ("br", OBJECTS["boxes"][:, 2:])):
        cells = np.floor(points * side / 63).astype(int)
        heat = r["heat"][f"{corner}_heat"]
        assert heat.shape == (side, side, 3)
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
    again = functional(DETECTORS[name].build(r["config"].model, np.random.default_rng(0)))[1]
    other = functional(DETECTORS[name].build(r["config"].model, np.random.default_rng(1)))[1]
    jax.tree.map(np.testing.assert_array_equal, again, r["params"])
    assert not np.array_equal(
        other["backbone"]["stem"]["0"]["conv"]["kernel"], again["backbone"]["stem"]["0"]["conv"]["kernel"]
    )


@EVERY
def test_initial_values_are_pytorchs(ran, name):
    """Uniform between -1 and 1 over the root of the inputs of an output; heat and attention start at a score of 0.1."""
    params, state = by_path(ran(name)["params"]), by_path(ran(name)["state"])
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
    [("cornernet", 201_035_212), ("cornernet_squeeze", 31_771_852), ("cornernet_saccade", 116_969_339)],
)
def test_published_size(name, parameters):
    _, params, _ = functional(published(name))
    assert parameter_count(params) == parameters


@EVERY
def test_torch_names_are_those_of_the_released_checkpoint(name):
    _, params, model_state = functional(published(name))
    ours, names = by_path(params) | by_path(model_state), torch_names(name)
    assert sorted(names.values()) == sorted(ours)

    def in_torch_order(shape):  # height, width, in, out -> out, in, height, width
        return tuple(shape[i] for i in (3, 2, 0, 1)) if len(shape) == 4 else shape

    assert {key: in_torch_order(ours[path].shape) for key, path in names.items()} == manifest(name)


@EVERY
def test_an_image_that_cannot_be_halved_is_refused(name):
    model = narrow(name).model
    apply, params, model_state = functional(DETECTORS[name].build(model, None))
    images = jax.ShapeDtypeStruct((1, 64 + DETECTORS[name].stride(model), 63, 3), np.float32)
    with pytest.raises(ValueError, match=r"images of 63x.* pixels give .*; this network needs multiples of 2 cells"):
        jax.eval_shape(partial(apply, train=False), params, model_state, images)
