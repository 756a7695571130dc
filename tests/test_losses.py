import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cornerjax.detectors import DETECTORS
from cornerjax.detectors.cornernet import CornerConfig, CornerLegacy, CornerLoss
from cornerjax.detectors.cornernet_saccade.options import SaccadeConfig, SaccadeLegacy, SaccadeLoss
from cornerjax.detectors.tags import pull_push
from cornerjax.losses import count_peaks, focal, offset

CASES = ["normal", "one_object", "no_object", "one_image_empty", "full", "batch3"]
MAPS = {f"{side}_{name}": f"{side}_{name}s" for side in ("tl", "br") for name in ("heat", "tag", "off")}
CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-7}  # of gradients; losses 1e-5 relative


def corner_loss(outputs, targets, *, group=1.0, push_itself=False):
    config = CornerConfig(loss=CornerLoss(group=group), legacy=CornerLegacy(push_itself=push_itself))
    return DETECTORS["cornernet"].loss(outputs, targets, config)


def saccade_loss(outputs, targets, *, group=1.0, attention_weight=1.0, **legacy):
    loss = SaccadeLoss(group=group, attention=attention_weight)
    return DETECTORS["cornernet_saccade"].loss(
        outputs, targets, SaccadeConfig(loss=loss, legacy=SaccadeLegacy(**legacy))
    )


loss = jax.jit(functools.partial(corner_loss, group=2.0, push_itself=True))
slope = jax.jit(
    jax.grad(lambda outputs, targets, push_itself: corner_loss(outputs, targets, push_itself=push_itself)["total"]),
    static_argnums=2,
)


@jax.jit
@functools.partial(jax.value_and_grad, has_aux=True)
def total(outputs, targets):
    parts = corner_loss(outputs, targets, group=float(len(targets["valid"])), push_itself=True)
    return parts.pop("total"), parts


@jax.jit
@functools.partial(jax.value_and_grad, has_aux=True)
def saccade_total(outputs, targets):
    group, weight = float(len(targets["valid"])), 1 / len(outputs)
    original = {"push_itself": True, "count_ignored": True}
    parts = saccade_loss(outputs, targets, group=group, attention_weight=weight, **original)
    return parts.pop("total"), parts


def nhwc(array):
    return jnp.asarray(array.transpose(0, 2, 3, 1))


def load(recorded, case):
    """The recorded inputs of a case, in our names and layout."""
    stacks = range(int(recorded[f"{case}_stacks"]))
    outputs = [{ours: nhwc(recorded[f"{case}_out_{theirs}.{i}"]) for ours, theirs in MAPS.items()} for i in stacks]
    targets = {"valid": jnp.asarray(recorded[f"{case}_gt_tag_mask"] > 0)}
    for side in ("tl", "br"):
        targets[f"{side}_heat"] = nhwc(recorded[f"{case}_gt_{side}_heat"])
        targets[f"{side}_off"] = jnp.asarray(recorded[f"{case}_gt_{side}_off"])
        y, x = np.divmod(recorded[f"{case}_gt_{side}_ind"], targets["tl_heat"].shape[2])
        targets[f"{side}_cells"] = jnp.asarray(np.stack([x, y], -1).astype(np.int32))
    return outputs, targets


def load_saccade(recorded, case):
    outputs, targets = load(recorded, case)
    for stack, maps in enumerate(outputs):
        maps["attention"] = [nhwc(recorded[f"{case}_out_atts.{stack}.{i}"]) for i in range(3)]
    targets |= {f"{side}_valid": nhwc(recorded[f"{case}_gt_{side}_valid"]) for side in ("tl", "br")}
    targets |= {f"attention_{i}": nhwc(recorded[f"{case}_gt_att.{i}"]) for i in range(3)}
    return outputs, targets


@pytest.mark.parametrize("case", CASES)
def test_terms_match_the_original(golden, case):
    recorded = golden("losses/cornernet.npz")
    outputs, targets = load(recorded, case)
    batch, focal_sum = len(targets["valid"]), 0
    for i, maps in enumerate(outputs):
        parts = loss([maps], targets)
        focal_sum += parts["focal"]
        term = {name: recorded[f"{case}_{name}.{i}"] for name in ("pull", "push", "off_tl", "off_br")}
        np.testing.assert_allclose(parts["pull"] * batch / 2 * 10, term["pull"], rtol=1e-5)
        np.testing.assert_allclose(parts["push"] * batch / 2 * 10, term["push"], rtol=1e-5)
        np.testing.assert_allclose(parts["offset"], term["off_tl"] + term["off_br"], rtol=1e-5)
    np.testing.assert_allclose(focal_sum, recorded[f"{case}_focal_tl"] + recorded[f"{case}_focal_br"], rtol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_total_and_gradients_match_the_original(golden, case):
    recorded = golden("losses/cornernet.npz")
    outputs, targets = load(recorded, case)

    (value, parts), gradients = total(outputs, targets)
    np.testing.assert_allclose(value, recorded[f"{case}_total"][0], rtol=1e-5)
    np.testing.assert_allclose(value, sum(parts.values()), rtol=1e-6)
    for i, maps in enumerate(gradients):
        for ours, theirs in MAPS.items():
            np.testing.assert_allclose(maps[ours], nhwc(recorded[f"{case}_grad_{theirs}.{i}"]), **CLOSE, err_msg=ours)


@pytest.mark.parametrize("case", CASES)
def test_saccade_matches_the_original(golden, case):
    recorded = golden("losses/saccade.npz")
    outputs, targets = load_saccade(recorded, case)
    stacks = len(outputs)

    (value, parts), gradients = saccade_total(outputs, targets)
    np.testing.assert_allclose(value, recorded[f"{case}_total"][0], rtol=1e-5)
    total_of = lambda names: sum(recorded[f"{case}_{name}"] for name in names)  # noqa: E731
    per_stack = lambda *names: total_of(f"{name}.{i}" for name in names for i in range(stacks)) / stacks  # noqa: E731
    np.testing.assert_allclose(parts["focal"], total_of(["focal_tl", "focal_br"]) / stacks, rtol=1e-5)
    np.testing.assert_allclose(parts["attention"], total_of(f"att_focal.{i}" for i in range(3)) / stacks**2, rtol=1e-5)
    np.testing.assert_allclose(parts["pull"], 0.1 * per_stack("pull"), rtol=1e-5)
    np.testing.assert_allclose(parts["push"], 0.1 * per_stack("push"), rtol=1e-5)
    np.testing.assert_allclose(parts["offset"], per_stack("off_tl", "off_br"), rtol=1e-5)
    for stack, maps in enumerate(gradients):
        for ours, theirs in MAPS.items():
            want = nhwc(recorded[f"{case}_grad_{theirs}.{stack}"])
            np.testing.assert_allclose(maps[ours], want, **CLOSE, err_msg=ours)
        for i, level in enumerate(maps["attention"]):
            np.testing.assert_allclose(level, nhwc(recorded[f"{case}_grad_atts.{stack}.{i}"]), **CLOSE)


@pytest.mark.parametrize("case", ["normal", "one_object", "no_object", "one_image_empty"])
def test_the_first_repository_matches(golden, case):
    recorded = golden("losses/cornernet_eccv18.npz")
    given = {key: jnp.asarray(v) for key, v in recorded.items() if key.startswith(f"{case}_") and v.dtype.kind == "f"}
    valid, stacks = jnp.asarray(recorded[f"{case}_gt_tag_mask"] > 0), int(recorded[f"{case}_stacks"])
    names = [f"{side}_{name}" for side in ("tl", "br") for name in ("heat", "tag", "off")]
    outputs = [{name: given[f"{case}_out_{name}.{i}"] for name in names} for i in range(stacks)]

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def total(outputs):
        parts = dict.fromkeys(["focal_tl", "focal_br", "pull", "push", "off_tl", "off_br"], jnp.float32(0))
        for maps in outputs:
            for side in ("tl", "br"):
                parts[f"focal_{side}"] += focal(maps[f"{side}_heat"], given[f"{case}_gt_{side}_heat"])
                parts[f"off_{side}"] += offset(maps[f"{side}_off"], given[f"{case}_gt_{side}_off"], valid)
            pull, push = pull_push(maps["tl_tag"][..., 0], maps["br_tag"][..., 0], valid, push_itself=True)
            parts |= {"pull": parts["pull"] + 0.1 * pull.sum(), "push": parts["push"] + 0.1 * push.sum()}
        return sum(parts.values(), jnp.float32(0)) / stacks, parts

    (value, parts), gradients = total(outputs)
    np.testing.assert_allclose(value, recorded[f"{case}_total"][0], rtol=1e-5)
    for name in ("focal_tl", "focal_br", "off_tl", "off_br"):
        np.testing.assert_allclose(parts[name], recorded[f"{case}_{name}"], rtol=1e-5)
    for i, maps in enumerate(gradients):
        for name in names:
            np.testing.assert_allclose(maps[name], recorded[f"{case}_grad_{name}.{i}"], **CLOSE, err_msg=name)


@pytest.mark.parametrize("objects", [0, 1, 3])
def test_a_single_image_is_what_the_original_gives_with_an_empty_second_one(golden, objects):
    recorded = {
        key[3:]: jnp.asarray(v)
        for key, v in golden("losses/ae_batch1.npz").items()
        if v.dtype.kind != "U" and key.startswith(f"n{objects}_")
    }
    tags, valid = (recorded["tag0"][..., 0], recorded["tag1"][..., 0]), recorded["mask"] > 0
    pull, push = pull_push(*tags, valid, push_itself=True)
    assert pull.shape == push.shape == (1,)
    np.testing.assert_allclose(pull[0], recorded["pull_padded"], rtol=1e-5)
    np.testing.assert_allclose(push[0], recorded["push_padded"], rtol=1e-5, atol=1e-7)  # a difference of sums near 1


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_gradients_are_finite(golden, case, legacy):
    outputs, targets = load(golden("losses/cornernet.npz"), case)
    one = ([{name: m[:1] for name, m in outputs[0].items()}], {name: t[:1] for name, t in targets.items()})
    gradients = slope(*one, legacy)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))


def test_pull_push_by_hand():
    tl = jnp.array([[0.0, 1.0, 9.0], [5.0, 9.0, 9.0], [9.0, 9.0, 9.0]])
    br = jnp.array([[1.0, 1.0, 9.0], [3.0, 9.0, 9.0], [9.0, 9.0, 9.0]])
    valid = jnp.array([[True, True, False], [True, False, False], [False, False, False]])
    pull, push = pull_push(tl, br, valid)
    np.testing.assert_allclose(pull, [(0.25 + 0.25) / 2, 2, 0])
    np.testing.assert_allclose(push, [0.5, 0, 0])  # means 0.5 and 1; a single object has nothing to be pushed from


def test_pull_and_push_do_not_depend_on_the_batch_size(golden):
    outputs, targets = load(golden("losses/cornernet.npz"), "normal")
    double = lambda tree: jax.tree.map(lambda a: jnp.concatenate([a, a]), tree)  # noqa: E731
    one, two = jax.jit(corner_loss)(outputs, targets), jax.jit(corner_loss)(double(outputs), double(targets))
    for name in one:
        np.testing.assert_allclose(one[name], two[name], rtol=1e-5)


def test_focal_is_flat_beyond_the_clamp_and_falls_before_it():
    heat = jnp.array([1.0, 1.0, 0.0, 0.0, 0.5, 1.0]).reshape(1, 1, 6, 1)
    slope = jax.grad(lambda x: focal(x, heat))(jnp.array([12.0, -12.0, 12.0, -12.0, 1.0, 1.0]).reshape(1, 1, 6, 1))
    np.testing.assert_array_equal(slope.ravel()[:4], 0)
    assert slope.ravel()[4] > 0 > slope.ravel()[5]


def test_ignored_corners_count_in_the_divisor_only_if_asked_to():
    logits = jnp.array([0.5, -1.0, 2.0, 0.0]).reshape(1, 1, 4, 1)
    heat, weight = (jnp.array(v).reshape(1, 1, 4, 1) for v in ([1.0, 1.0, 0.25, 0.0], [1.0, 0.0, 0.0, 1.0]))
    kept = focal(logits[:, :, ::3], heat[:, :, ::3])
    np.testing.assert_allclose(focal(logits, heat, weight=weight), kept, rtol=1e-6)
    np.testing.assert_allclose(
        focal(logits, heat, weight=weight, peaks=count_peaks(heat, weight, count_ignored=True)), kept / 2, rtol=1e-6
    )
    slope = jax.grad(lambda x: focal(x, heat, weight=weight))(logits)
    np.testing.assert_array_equal(slope.ravel()[1:3], 0)


def test_the_weight_of_attention_changes_nothing_else(golden):
    outputs, targets = load_saccade(golden("losses/saccade.npz"), "normal")
    one, three = (jax.jit(functools.partial(saccade_loss, attention_weight=w))(outputs, targets) for w in (1.0, 3.0))
    np.testing.assert_allclose(three["attention"], 3 * one["attention"], rtol=1e-6)
    assert all(three[name] == one[name] for name in ("focal", "pull", "push", "offset"))
    np.testing.assert_allclose(three["total"] - one["total"], 2 * one["attention"], rtol=1e-5)


def test_without_ignored_cells_the_corner_parts_are_those_of_cornernet(golden):
    outputs, targets = load_saccade(golden("losses/saccade.npz"), "normal")
    targets |= {f"{side}_valid": jnp.ones_like(targets[f"{side}_valid"]) for side in ("tl", "br")}
    ours, theirs = jax.jit(saccade_loss)(outputs, targets), jax.jit(corner_loss)(outputs, targets)
    assert set(ours) == set(theirs) | {"attention"}
    for name in ("focal", "pull", "push", "offset"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-6)


def test_half_precision_outputs_give_float32_losses(golden):
    outputs, targets = load(golden("losses/cornernet.npz"), "normal")
    halves = jax.tree.map(lambda a: a.astype(jnp.bfloat16), outputs)
    parts, full = jax.jit(corner_loss)(halves, targets), jax.jit(corner_loss)(outputs, targets)
    for name in full:
        assert parts[name].dtype == jnp.float32
        np.testing.assert_allclose(parts[name], full[name], rtol=0.05)


def test_offset_by_hand():
    pred = jnp.array([[[0.5, 3.0], [7.0, 7.0]]])
    value = offset(pred, jnp.zeros_like(pred), jnp.array([[True, False]]))
    np.testing.assert_allclose(value, (0.125 + 2.5) / 1.0001, rtol=1e-6)
