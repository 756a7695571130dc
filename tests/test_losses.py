import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cornerjax.losses import corner_loss, focal, offset, pull_push

CASES = ["normal", "one_object", "no_object", "one_image_empty", "full", "batch3"]
MAPS = {f"{side}_{name}": f"{side}_{name}s" for side in ("tl", "br") for name in ("heat", "tag", "off")}
CLOSE = {"rtol": 1e-5, "atol": 1e-7}  # of gradients; losses 1e-5 relative
loss = jax.jit(functools.partial(corner_loss, group=2.0, legacy=True))
slope = jax.jit(
    jax.grad(lambda outputs, targets, legacy: corner_loss(outputs, targets, legacy=legacy)["total"]), static_argnums=2
)


@jax.jit
@functools.partial(jax.value_and_grad, has_aux=True)
def total(outputs, targets):
    parts = corner_loss(outputs, targets, group=float(len(targets["valid"])), legacy=True)
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


@pytest.mark.parametrize("objects", [0, 1, 3])
def test_a_single_image_is_what_the_original_gives_with_an_empty_second_one(golden, objects):
    recorded = {
        key[3:]: jnp.asarray(v)
        for key, v in golden("losses/ae_batch1.npz").items()
        if v.dtype.kind != "U" and key.startswith(f"n{objects}_")
    }
    tags, valid = (recorded["tag0"][..., 0], recorded["tag1"][..., 0]), recorded["mask"] > 0
    pull, push = pull_push(*tags, valid, legacy=True)
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
