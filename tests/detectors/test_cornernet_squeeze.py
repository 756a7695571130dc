import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cornerjax.config import Config, Data, InputError, Model
from cornerjax.detectors import get_detector
from cornerjax.losses import corner_loss
from cornerjax.nn.functional import by_path

SQUEEZE = get_detector("cornernet_squeeze")


def nhwc(array):
    return array.transpose(0, 2, 3, 1)


def image(original, recorded):
    return nhwc(original["image"](recorded["in_shape"], int(recorded["in_seed"])))


def compare(maps, recorded, stack, atol):
    """Every map with the recording of it, of which some channels are left out, and with the means of all channels."""
    stride = int(recorded["chan_stride"])
    assert len(maps) == 6
    for name, values in maps.items():
        values, key = np.asarray(values), f"{name}s.{stack}"
        means = f"{key}__chanmean"
        kept = values[..., ::stride] if means in recorded else values
        np.testing.assert_allclose(kept, nhwc(recorded[key]), rtol=0, atol=atol, err_msg=key)
        if means in recorded:
            np.testing.assert_allclose(values.mean((1, 2)), recorded[means], rtol=0, atol=atol, err_msg=means)


@pytest.mark.slow
def test_the_published_network_gives_the_original_maps(golden, released, original):
    recorded = golden("models/CornerNet_Squeeze_eval.npz")
    apply, params, model_state = released("cornernet_squeeze")
    forward = jax.jit(lambda params, images: apply(params, model_state, images, train=False)[0])
    (maps,) = forward(params, image(original, recorded))
    compare(maps, recorded, 1, atol=8 * 7e-5)  # the original itself is off by 7e-5 in float32


def dense(recorded, name):
    heat = np.zeros(recorded[f"{name}__shape"], np.float32)
    heat.flat[recorded[f"{name}__idx"]] = recorded[f"{name}__val"]
    return nhwc(heat)


@pytest.mark.slow
def test_a_training_step_of_the_published_network_is_the_originals(golden, released, original):
    """Maps of both stacks, running statistics, the loss and the gradient of every parameter."""
    recorded, step = golden("models/CornerNet_Squeeze_train.npz"), golden("train_step/cornernet_squeeze_grads.npz")
    apply, params, model_state = released("cornernet_squeeze")
    targets = {"valid": step["gt_tag_mask"].astype(bool)}
    for corner in ("tl", "br"):
        cells = step[f"gt_{corner}_ind"].astype(np.int32)
        targets[f"{corner}_cells"] = np.stack([cells % 32, cells // 32], -1)
        targets[f"{corner}_heat"] = dense(step, f"gt_{corner}_heat")
        targets[f"{corner}_off"] = step[f"gt_{corner}_off"]

    @jax.jit
    def gradient(params, images, targets):
        def objective(params):
            outputs, after = apply(params, model_state, images, train=True)
            return corner_loss(outputs, targets, group=2.0, push_itself=True)["total"], (outputs, after)

        (loss, (outputs, after)), grads = jax.value_and_grad(objective, has_aux=True)(params)
        return loss, outputs, after, jax.tree.map(lambda g: jnp.sqrt((g**2).sum()), grads)

    loss, outputs, after, norms = gradient(params, image(original, recorded), targets)
    for stack, maps in enumerate(outputs):
        compare(maps, recorded, stack, atol=8 * 2.2e-5)
    paths = SQUEEZE.torch_names(Model(**vars(SQUEEZE.defaults) | {"num_classes": 80}))
    after = by_path(after)
    for key in (key for key in recorded if key.startswith("bn:")):
        np.testing.assert_allclose(after[paths[key[3:]]], recorded[key], rtol=1e-4, atol=1e-4, err_msg=key)
    np.testing.assert_allclose(loss, step["loss_f64run_f64"], rtol=1e-5)
    norms = by_path(norms)
    ours = np.array([norms[paths[name]] for name in step["grad_names"]])
    expected = step["grad_norms_f64run"]
    off = np.abs(ours - expected) / expected
    np.testing.assert_allclose(ours, expected, rtol=0.02)
    assert np.median(off) < 0.002


def test_stride_and_sizes():
    model = Model(num_classes=80, dims=(16, 16, 16, 16, 16), blocks=(1,) * 5)
    assert SQUEEZE.stride(model) == 8
    assert SQUEEZE.input_size(128, 127, model) == (255, 127)
    SQUEEZE.check(Config(model=model, data=Data(crop_px=(255, 127))))
    with pytest.raises(InputError, match=r"side 200; .*multiples of 128, minus 1: nearest 127 and 255"):
        SQUEEZE.check(Config(model=model, data=Data(crop_px=(255, 200))))


def test_fire_modules_need_even_widths():
    model = Model(num_classes=80, dims=(16, 17), blocks=(1, 1))
    with pytest.raises(InputError, match=r"model\.dims has 17; fire modules need even numbers of channels"):
        SQUEEZE.check(Config(model=model))
