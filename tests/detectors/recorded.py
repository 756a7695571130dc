"""The published networks with the weights of the recordings in tests/golden, and comparisons with what was recorded."""

import dataclasses
import json
import runpy
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from cornerjax.nn.hourglass import through
from flax import nnx

from cornerjax.config import Config
from cornerjax.detectors import get_detector
from cornerjax.legacy import Legacy
from cornerjax.nn.functional import by_path, functional, nested
from cornerjax.nn.layers import kernel_from_torch

GOLDEN = Path(__file__).parents[1] / "golden"
ORIGINAL = runpy.run_path(str(GOLDEN / "golden_weights.py"))
MANIFESTS = {path.stem.lower(): path for path in (GOLDEN / "manifest").glob("CornerNet*.json")}
# Largest difference of the original in float32 from itself in float64, for each recorded map.
NOISE = json.loads((GOLDEN / "models" / "noise.json").read_text())
near = np.testing.assert_allclose


def nhwc(array):
    return array.transpose(0, 2, 3, 1)


def manifest(name):
    """{PyTorch name: shape} of a released checkpoint, without the counters of batches."""
    names = json.loads(MANIFESTS[name].read_text())
    return {key: tuple(shape) for key, shape in names.items() if not key.endswith("num_batches_tracked")}


def published(name):
    """The network for COCO, without weights."""
    detector = get_detector(name)
    return detector.build(dataclasses.replace(detector.defaults, num_classes=80), None)


def torch_names(name):
    """{PyTorch name: our path} of the published network."""
    detector = get_detector(name)
    return detector.torch_names(dataclasses.replace(detector.defaults, num_classes=80))


def weights(name, *, layout=None, rename=lambda key: key):
    """(params, model_state) of the published network; `layout`, of other names, has the manifest of these."""
    shapes = manifest(layout or name)
    paths = {rename(key): path for key, path in torch_names(name).items()}
    assert set(paths) == set(shapes)
    values = {path: kernel_from_torch(ORIGINAL["weight"](key, shapes[key])) for key, path in paths.items()}
    _, *trees = functional(published(name))
    return tuple(nested({path: values[path] for path in by_path(tree)}) for tree in trees)


def image(recorded):
    """The network's input that a recording was made with."""
    made = ORIGINAL["image"](recorded["in_shape"], int(recorded["in_seed"]))
    if "in_sum_f64" in recorded:
        near(made.sum(dtype=np.float64), recorded["in_sum_f64"])
    return nhwc(made)


class Opened(nnx.Module):
    """A network that also gives the maps inside it that were recorded."""

    def __init__(self, network):
        self.network = network

    def __call__(self, images, *, train):
        network, backbone = self.network, self.network.backbone
        (first, levels), *_, (last, _) = backbone(images, train=train)
        stem = through(backbone.stem, images, train=train)
        both = backbone.from_input[0](stem, train=train) + backbone.from_output[0](first, train=train)
        inside = {
            "pre": stem,
            "hgs0": levels[-1],
            "cnvs0": first,
            "inters0": backbone.between[0](nnx.relu(both), train=train),
            "tl_module_last": network.tl[-1].pool(last, train=train),
            "br_module_last": network.br[-1].pool(last, train=train),
        }
        return network(images, train=train), inside


def opened(name):
    """(params, model_state, images) -> (outputs, maps inside, candidates) when testing, compiled once."""
    apply, _, _ = functional(Opened(published(name)))
    detector = get_detector(name)
    config = Config(test=detector.test_defaults, legacy=Legacy(non_peaks=True))

    @jax.jit
    def forward(params, model_state, images):
        (outputs, inside), _ = apply({"network": params}, {"network": model_state}, images, train=False)
        return outputs, inside, detector.decode(outputs, config)

    return forward


def by_torch_name(outputs, *, first_stack=0):
    """The maps of all stacks by the names of the modules that make them in PyTorch."""
    named = {}
    for stack, maps in enumerate(outputs, first_stack):
        for key, value in maps.items():
            if key == "attention":
                named |= {f"att_modules.{stack}.{level}": logits for level, logits in enumerate(value)}
            else:
                named[f"{key}s.{stack}"] = value
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


def compare_forward(name, forward, maps, inside):
    """The maps of the last stack, those inside the network, and the boxes, as recordings in models/ have them."""
    stem, last = MANIFESTS[name].stem, get_detector(name).defaults.stacks - 1
    assert inside["in_sum_f64"] == maps["in_sum_f64"]
    outputs, seen, found = forward(*weights(name), image(maps))
    compare_maps(by_torch_name(outputs, first_stack=last), maps, NOISE[f"{stem}_eval"])
    compare_maps(seen, inside, NOISE["CornerNet_inter"])  # that of the other two was not recorded
    compare_candidates(found, maps["test_dets"])


def compare_candidates(found, expected):
    """The boxes of one image that were not rejected, as sets."""
    assert found.scores.shape == expected.shape[:2]
    boxes, scores, classes, corner_scores = (np.asarray(part)[0] for part in found)
    ours = np.column_stack([boxes, scores, corner_scores, classes])[scores > -1]
    theirs = expected[expected[..., 4] > -1]
    assert len(ours) == len(theirs)
    off = np.abs(ours[:, None] - theirs).max(-1)
    near(off.min(1, initial=np.inf), 0, atol=1e-3)
    near(off.min(0, initial=np.inf), 0, atol=1e-3)


def targets(step):
    """What the loss needs of a recorded training step."""

    def dense(name):
        values = np.zeros(step[f"{name}__shape"], np.float32)
        values.flat[step[f"{name}__idx"]] = step[f"{name}__val"]
        return nhwc(values)

    made = {"valid": step["gt_tag_mask"].astype(bool)}
    for corner in ("tl", "br"):
        y, x = np.divmod(step[f"gt_{corner}_ind"].astype(np.int32), np.int32(step[f"gt_{corner}_heat__shape"][3]))
        made |= {f"{corner}_cells": np.stack([x, y], -1), f"{corner}_off": step[f"gt_{corner}_off"]}
        made[f"{corner}_heat"] = dense(f"gt_{corner}_heat")
        if f"inv_gt_{corner}_valid__shape" in step:
            made[f"{corner}_valid"] = 1 - dense(f"inv_gt_{corner}_valid")
    return made | {f"attention_{key[-1]}": nhwc(step[key]) for key in step if key.startswith("gt_att.")}


def compare_training_step(name, config, maps, step):
    """The maps of every stack, the running statistics, the loss, and the gradient of every parameter.

    Args:
        config: of the loss.
        maps, step: the recordings in models/ and train_step/.
    """
    detector, paths = get_detector(name), torch_names(name)
    apply, _, _ = functional(published(name))
    params, model_state = weights(name)

    @jax.jit
    def gradient(params, model_state, images, targets):
        def objective(params):
            outputs, after = apply(params, model_state, images, train=True)
            return detector.loss(outputs, targets, config)["total"], (outputs, after)

        (loss, (outputs, after)), grads = jax.value_and_grad(objective, has_aux=True)(params)
        return loss, outputs, after, jax.tree.map(lambda g: jnp.stack([jnp.sqrt((g**2).sum()), g.sum()]), grads)

    assert tuple(step["in_shape"]) == tuple(maps["in_shape"])
    loss, outputs, after, grads = gradient(params, model_state, image(maps), targets(step))
    compare_maps(by_torch_name(outputs), maps, NOISE[f"{MANIFESTS[name].stem}_train"])
    after, grads = by_path(after), by_path(grads)
    for key in (key for key in maps if key.startswith("bn:")):
        near(after[paths[key[3:]]], maps[key], rtol=5e-5, atol=5e-5, err_msg=key)
    near(loss, step["loss_f64run_f64"], rtol=1e-5)

    assert {paths[key] for key in step["grad_names"]} == set(grads)
    norms, sums = np.array([grads[paths[key]] for key in step["grad_names"]]).T
    expected = step["grad_norms_f64run"]
    near(norms, expected, rtol=0.02)
    near(np.median(np.abs(norms / expected - 1)), 0, atol=0.002)
    # What is left of a sum when its terms cancel is noise in some parameters; a wrong sign would make this 1.
    near(np.median(np.abs(sums - step["grad_sums_f64run"]) / expected), 0, atol=0.1)
