"""The published networks with the weights of the recordings in tests/golden, and comparisons with what was recorded.

What a detector has besides keypoints, the maps inside its network and its training targets, its own test file adds.
"""

import dataclasses
import json
import re
import runpy
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cornerjax.config import Config
from cornerjax.detectors import get_detector
from cornerjax.detectors.base import make_network
from cornerjax.detectors.layouts import TorchLayout
from cornerjax.inference.placing import resized
from cornerjax.inference.whole_image import WholeImage, combine_and_select, decode
from cornerjax.legacy import switched
from cornerjax.nn.functional import by_path, functional, nested
from cornerjax.nn.layers import kernel_from_torch
from cornerjax.validation import replaced

GOLDEN = Path(__file__).parents[1] / "golden"
ORIGINAL = runpy.run_path(str(GOLDEN / "golden_weights.py"))
tweaked = runpy.run_path(str(GOLDEN / "tweak.py"))["tweaked"]
# Of each detector the names of its recordings, one for each of its torch_layouts.
RECORDINGS = {
    "cornernet": ("CornerNet", "CornerNet_ECCV18"),
    "cornernet_squeeze": ("CornerNet_Squeeze",),
    "cornernet_saccade": ("CornerNet_Saccade",),
    "extremenet": ("ExtremeNet",),
    "centernet_triplets": ("CenterNet_104", "CenterNet_52"),
    "centernet_points": tuple(
        f"CenterNetZ_{backbone}" for backbone in ("dla_34", "hourglass", "res_18", "res_101", "resdcn_18", "resdcn_101")
    ),
}
# Largest difference of the original in float32 from itself in float64, for each recorded map.
NOISE = json.loads((GOLDEN / "models" / "noise.json").read_text())
near = np.testing.assert_allclose
# Most of the time that full-width programs need is LLVM's, for what runs a few times only.
FAST_COMPILE = {"xla_backend_optimization_level": 0}


def nhwc(array):
    return array.transpose(0, 2, 3, 1)


def manifest(name, layout=0):
    """{PyTorch name: shape} of a released checkpoint, without the counters of batches."""
    names = json.loads((GOLDEN / "manifest" / f"{RECORDINGS[name][layout]}.json").read_text())
    return {key: tuple(shape) for key, shape in names.items() if not key.endswith("num_batches_tracked")}


def layout_of(name, layout=0) -> TorchLayout:
    return get_detector(name).torch_layouts[layout]


def published(name, layout=0, **changes) -> Config:
    """The configuration of the network for COCO, with some options changed."""
    model = {"num_classes": 80, **layout_of(name, layout).model}
    return replaced(get_detector(name).defaults, {"model": model, **changes})


def torch_names(name, layout=0):
    """{PyTorch name: our path} of the published network."""
    return get_detector(name).torch_names(published(name, layout).model, layout_of(name, layout))


def weights(name, layout=0, *, tweak=""):
    """(params, model_state) of the published network; tweak: how its weights were changed, in the recording's words."""
    shapes, paths = manifest(name, layout), torch_names(name, layout)
    values = {key: ORIGINAL["weight"](key, shapes[key]) for key in paths}
    values = {
        paths[key]: kernel_from_torch(value) for key, value in (tweaked(values, tweak) if tweak else values).items()
    }
    _, *trees = make_network(get_detector(name), published(name, layout), None)
    return tuple(nested({path: values[path] for path in by_path(tree)}) for tree in trees)


def image(recorded):
    """The network's input that a recording was made with."""
    made = ORIGINAL["image"](recorded["in_shape"], int(recorded["in_seed"]))
    if "in_sum_f64" in recorded:
        near(made.sum(dtype=np.float64), recorded["in_sum_f64"])
    return nhwc(made)


class Opened(nnx.Module):
    """A network that also gives maps inside it."""

    def __init__(self, network: nnx.Module, inside: Callable):
        self.network, self.inside = network, inside

    def __call__(self, images, *, train):
        return self.network(images, train=train), self.inside(self.network, images, train=train)


def opened(name, inside, *, layout=0):
    """(params, model_state, images) -> (outputs, maps inside, candidates) when testing, compiled once.

    Args:
        inside: (network, images, train=) -> {name: map}.
    """
    config, detector = published(name, layout), get_detector(name)
    config = dataclasses.replace(config, legacy=switched(config.legacy, True))
    apply, _, _ = functional(Opened(detector.build(config.model, None), inside))

    @partial(jax.jit, compiler_options=FAST_COMPILE)
    def forward(params, model_state, images):
        (outputs, inside), _ = apply({"network": params}, {"network": model_state}, images, train=False)
        return outputs, inside, detector.decode(outputs, config)

    return forward


def by_torch_name(name, outputs, *, layout=0):
    """The maps of all stacks, or of the last ones, by the names of the modules that make them in PyTorch."""
    heads = get_detector(name).torch_heads(published(name, layout).model, layout_of(name, layout))
    named: dict[str, jax.Array] = {}
    for maps, of_stack in zip(outputs, heads[-len(outputs) :], strict=True):
        leaves, _ = jax.tree_util.tree_flatten_with_path(maps)
        ours = {jax.tree_util.keystr(path, simple=True, separator="."): value for path, value in leaves}
        assert ours.keys() == of_stack.keys()
        named |= {of_stack[head]: value for head, value in ours.items()}
    return named


def compare_maps(maps, recorded, noise):
    """Every recorded map; of those with channels left out also the means of all channels, and of their sizes."""
    stride = int(recorded["chan_stride"])
    keys = {key for key, value in recorded.items() if value.ndim == 4}
    assert keys <= set(noise) <= set(maps)
    for key in sorted(keys):
        values, thinned = np.asarray(maps[key]), f"{key}__chanmean" in recorded
        compare = partial(near, rtol=0, atol=5 * noise[key])
        compare(values[..., ::stride] if thinned else values, nhwc(recorded[key]), err_msg=key)
        if thinned:
            compare(values.mean((1, 2)), recorded[f"{key}__chanmean"], err_msg=f"mean of {key}")
            compare(np.abs(values).mean((1, 2)), recorded[f"{key}__chanabsmean"], err_msg=f"mean size of {key}")


def compare_candidates(found, expected, *, extra):
    """The boxes of one image that were not rejected, as sets.

    Args:
        expected: rows of a box, its score, those of `extra`, and its class.
        extra: names of fields of Candidates.extra that were recorded.
    """
    assert found.scores.shape == expected.shape[:2]
    boxes, scores, classes = (np.asarray(part)[0] for part in found[:3])
    more = [np.asarray(found.extra[name])[0].reshape(len(boxes), -1) for name in extra]
    ours = np.column_stack([boxes, scores, *more, classes])[scores > -1]
    theirs = expected[expected[..., 4] > -1]
    assert len(ours) == len(theirs)
    off = np.abs(ours[:, None] - theirs).max(-1)
    near(off.min(1, initial=np.inf), 0, atol=1e-3)
    near(off.min(0, initial=np.inf), 0, atol=1e-3)


def dense(step, name):
    """A map that a recording keeps as the places and values of what is not zero."""
    values = np.zeros(step[f"{name}__shape"], np.float32)
    values.flat[step[f"{name}__idx"]] = step[f"{name}__val"]
    return nhwc(values)


def keypoint_targets(name, step):
    """What the losses of the heat maps and offsets need of a recorded training step."""
    made = {"valid": step["gt_tag_mask"].astype(bool)}
    for keypoint in get_detector(name).keypoints:
        point, width = keypoint.name, np.int32(step[f"gt_{keypoint.name}_heat__shape"][3])
        y, x = np.divmod(step[f"gt_{point}_ind"].astype(np.int32), width)
        made |= {f"{point}_heat": dense(step, f"gt_{point}_heat"), f"{point}_cells": np.stack([x, y], -1)}
        if keypoint.offset:
            made[f"{point}_off"] = step[f"gt_{point}_off"]
    return made


def compare_training_step(name, config, targets, maps, step, *, layout=0):
    """The maps of every stack, the running statistics, the loss, and the gradient of every parameter.

    The gradient is compared in float64. In float32 it is a matter of luck: half a unit in the last place of some pixels
    moved the norms of CornerNet's by a median of 0.08 to 0.5 % and by up to 2 %.

    Args:
        config: of published, with the options of the loss.
        targets: of the recorded step.
        maps, step: the recordings in models/ and train_step/.
    """
    detector, paths = get_detector(name), torch_names(name, layout)
    apply, _, _ = make_network(detector, config, None)
    variables = weights(name, layout)

    def loss_of(params, model_state, images, targets):
        outputs, after = apply(params, model_state, images, train=True)
        parts = detector.loss(outputs, targets, config)
        return parts["total"], (parts, outputs, after)

    @jax.jit
    def gradient(*given):
        (_, (parts, _, after)), grads = jax.value_and_grad(loss_of, has_aux=True)(*given)
        sums = jax.tree.map(lambda x: jnp.stack([x.sum(), jnp.abs(x).sum()]), after)
        return parts, sums, jax.tree.map(lambda g: jnp.stack([jnp.sqrt((g**2).sum()), g.sum()]), grads)

    loss, (parts, outputs, after) = jax.jit(loss_of, compiler_options=FAST_COMPILE)(*variables, image(step), targets)
    near(loss, step["loss_f64run_f64"], rtol=1e-5)
    expected = recorded_parts(step)
    for key, value in expected.items():  # offsets and tags of few cells have the noise of single values: 2e-4 seen
        near(parts[key], value, rtol=1e-5 if key in ("focal", "size") else 1e-3, err_msg=key)
    if tuple(step["in_shape"]) != tuple(maps["in_shape"]):  # the maps were recorded of another input
        outputs, after = jax.jit(partial(apply, train=True), compiler_options=FAST_COMPILE)(*variables, image(maps))
    compare_maps(by_torch_name(name, outputs, layout=layout), maps, NOISE[f"{RECORDINGS[name][layout]}_train"])
    after = by_path(after)
    for key in (key for key in maps if key.startswith("bn:")):
        near(after[paths[key[3:]]], maps[key], rtol=5e-5, atol=5e-5, err_msg=key)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):  # what counts objects is float32
        parts, sums, grads = gradient(*in_float64((*variables, image(step), targets)))
    near(parts["total"], step["loss_f64run_f64"], rtol=1e-7)
    for key, value in expected.items():
        near(parts[key], value, rtol=1e-9, err_msg=key)
    compare_statistics(by_path(sums), paths, step)
    grads = by_path(grads)
    compare_gradients({key: grads[path] for key, path in paths.items() if path in grads}, step)


def recorded_parts(step):
    """The parts of the loss of a recorded step in float64 as ours are: weighed, and the points of ExtremeNet's added.

    Those of CornerNet and its descendants were not recorded.
    """
    parts: dict[str, float] = {}
    for key, value in step.items():
        if found := re.fullmatch(r"(hm|wh|off|focal|pull|push)_(loss|term|t|l|b|r|ct)_f64run_f64", key):
            kind, of = found.groups()
            weight = 0.1 if kind == "wh" else 1 if of in ("loss", "term") else 1 / 2  # two stacks
            ours = {"hm": "focal", "wh": "size", "off": "offset"}.get(kind, kind)
            parts[ours] = parts.get(ours, 0) + weight * float(value)
    return parts


def compare_statistics(sums, paths, step):
    """Sum, and sum of the sizes, of the running statistics of every BatchNorm; recorded in float32."""
    for key in (key for key in step if key.startswith(("bn_mean:", "bn_var:"))):
        kind, _, module = key.removeprefix("bn_").partition(":")
        near(sums[paths[f"{module}.running_{kind}"]], step[key], rtol=0, atol=5e-5 * step[key][1], err_msg=key)


def in_float64(tree):
    return jax.tree.map(lambda x: np.asarray(x, np.float64) if np.asarray(x).dtype == np.float32 else x, tree)


def compare_gradients(grads, step):
    """Norm and sum of the gradient of every parameter in float64, by its PyTorch name.

    Parameters that have no gradient there, because nothing reads what they make, may be missing here. What BatchNorm
    undoes, like a bias before it, has a gradient of 0 but for rounding.
    """
    unread = set(step["grad_names"][step["grad_none"] == 1]) if "grad_none" in step else set()
    assert set(step["grad_names"]) - unread <= set(grads) <= set(step["grad_names"])
    there = [key in grads for key in step["grad_names"]]
    norms, sums = np.array([grads[key] for key in step["grad_names"][there]]).T
    expected = step["grad_norms_f64run"][there]
    moved = expected > 1e-12 * expected.max()
    near(norms[moved], expected[moved], rtol=1e-6)
    near(norms[~moved], 0, atol=1e-12 * expected.max())
    near((sums - step["grad_sums_f64run"][there])[moved] / expected[moved], 0, atol=1e-4)


def boxes_of(answers, config, picture, *, extra=()):
    """Rows of box, score, extras and class from 1, of an image for which networks have found something at each scale.

    Args:
        answers: for each scale a detector whose decode gives that, whatever its outputs.
        extra: names of extras.
    """
    procedure = WholeImage(answers[0], lambda *_: None, config)
    original, candidates, placements = picture.shape[:2], [], []
    for detector, scale, size in zip(answers, config.test.scales, procedure.bucket(*original), strict=True):
        placed = procedure.place([resized(picture, scale)], [original], size, 1, scale=scale)
        images, borders, ratios, sizes = map(jnp.asarray, placed)
        candidates.append(decode(detector, config, [{}], images, borders, ratios, sizes))
        placements.append((borders, ratios, sizes))
    found = combine_and_select(answers[0], config, candidates, placements)
    kept = np.asarray(found.scores[0]) >= 0
    more = [np.asarray(found.extra[name])[0].reshape(len(kept), -1) for name in extra]
    return np.column_stack([found.boxes[0], found.scores[0], *more, found.classes[0] + 1])[kept]
