from typing import Any

import jax
import numpy as np
import pytest
from recorded import FAST_COMPILE, compare_training_step, image, near, opened, published, torch_names, weights
from recorded_corners import ORIGINAL_LOSS, compare_forward, inside, targets

from cornerjax.detectors import get_detector
from cornerjax.detectors.base import make_network
from cornerjax.errors import InputError
from cornerjax.nn.functional import by_path
from cornerjax.training.mesh import data_mesh, to_devices
from cornerjax.training.optimiser import make_optimiser
from cornerjax.training.setup import start_state
from cornerjax.training.step import make_train_step
from cornerjax.validation import replaced

SQUEEZE = get_detector("cornernet_squeeze")
NAME = "cornernet_squeeze"
ORIGINAL = published(NAME, **ORIGINAL_LOSS, optim={"peak_lr": 2.5e-4})


@pytest.mark.slow
def test_the_published_network_gives_the_original_maps_and_boxes(golden):
    recordings = golden("models/CornerNet_Squeeze_eval.npz"), golden("models/CornerNet_Squeeze_inter.npz")
    compare_forward(NAME, opened(NAME, inside), *recordings)


@pytest.mark.slow
def test_a_training_step_of_the_published_network_is_the_originals(golden):
    maps, step = golden("models/CornerNet_Squeeze_train.npz"), golden("train_step/cornernet_squeeze_grads.npz")
    compare_training_step(NAME, ORIGINAL, targets(NAME, step), maps, step)


def steps_of_adam(step):
    """What every training step of the published network logs, and all arrays after it in PyTorch's names and layout."""
    apply, _, _ = make_network(SQUEEZE, ORIGINAL, None)
    mesh, tx = data_mesh(), make_optimiser(ORIGINAL)
    update: Any = make_train_step(SQUEEZE, apply, tx, ORIGINAL, mesh)
    params, model_state = weights(NAME)
    state = start_state(params, model_state, tx, mesh, ema=False)
    batch = to_devices(targets(NAME, step) | {"image": image(step)}, mesh)
    with jax.numpy_dtype_promotion("standard"):  # optax relies on it
        compiled = update.lower(state, batch).compile(compiler_options=FAST_COMPILE)
    for _ in step["losses_f64run_f64"]:
        state, logged = compiled(state, batch)
        yield logged, in_torch_form(state.params, state.model_state)


def in_torch_form(*trees):
    arrays = {path: np.asarray(value) for tree in trees for path, value in by_path(tree).items()}
    return {
        name: arrays[path].transpose(3, 2, 0, 1) if arrays[path].ndim == 4 else arrays[path]
        for name, path in torch_names(NAME).items()
    }


# Limits after each step: of running statistics; of single weights, the mean difference as a part of the mean movement.
# Noise grows: a change of the image by 1e-7 of itself alone leads to 2e-6, 0.004 and 0.05, and to 0, 6 and 17 %.
STATISTICS, WEIGHTS = (2e-5, 0.01, 0.12), (0.001, 0.15, 0.35)


@pytest.mark.slow
def test_three_steps_of_adam_are_the_originals(golden):
    """The losses, how far every parameter moves, and of some the sum, the first weights and the running statistics."""
    step = golden("train_step/squeeze_adam_255.npz")
    before, names, losses = in_torch_form(*weights(NAME)), step["grad_names"].tolist(), []
    for k, (logged, after) in enumerate(steps_of_adam(step)):
        losses.append(logged["total"])
        if k == 0:
            near(logged["grad_norm"], np.linalg.norm(step["grad_norms_step0_f64run"]), rtol=0.002)
        if k == 3:
            break
        moved = np.array([np.abs(after[name] - before[name]).sum(dtype=np.float64) for name in names])
        expected = step[f"all_abs_delta.{k}_f64run"]
        near(moved, expected, rtol=0.2)
        near(np.median(np.abs(moved / expected - 1)), 0, atol=0.01)
        for key in step:
            kind, _, name = key.removesuffix("_f64run").partition(":")
            if kind == f"param_sum.{k}":
                sums = after[name].sum(dtype=np.float64), np.abs(after[name]).sum(dtype=np.float64)
                near(sums, step[key], rtol=1e-6, atol=0.05 * expected[names.index(name)], err_msg=key)
            elif kind == f"param_delta64.{k}":
                delta = (after[name] - before[name]).ravel()[:64]
                off = np.abs(delta - step[key]).mean() / np.abs(step[key]).mean()
                near(off, 0, atol=WEIGHTS[k], err_msg=key)
            elif kind in (f"bn_mean.{k}", f"bn_var.{k}"):
                statistic = kind.removeprefix("bn_").split(".")[0]
                near(after[f"{name}.running_{statistic}"], step[key], rtol=0, atol=STATISTICS[k], err_msg=key)
    near(losses, step["losses_f64run_f64"], rtol=3e-3)


@pytest.mark.slow
def test_losses_of_small_images_fall_as_the_originals(golden):
    """The innermost level sees two values a channel: some gradients are noise, of which Adam makes whole steps."""
    step = golden("train_step/squeeze_adam_127.npz")
    near([logged["total"] for logged, _ in steps_of_adam(step)], step["losses_f64run_f64"], rtol=0.01)


def test_stride_and_sizes():
    narrow = {"model.backbone": {"dims": (16,) * 5, "blocks": (1,) * 5}, "data.crop_px": (255, 127)}
    config = replaced(published(NAME), narrow)
    assert SQUEEZE.stride(config.model) == 8
    assert SQUEEZE.input_size(128, 127, config.model) == (255, 127)
    SQUEEZE.check(config)
    with pytest.raises(InputError, match=r"side 200; .*multiples of 128, minus 1: nearest 127 and 255"):
        SQUEEZE.check(replaced(config, {"data.crop_px": (255, 200)}))


def test_fire_blocks_need_even_widths():
    narrow = {"model.backbone": {"dims": (16, 17), "blocks": (1, 1)}}
    with pytest.raises(InputError, match=r"model\.backbone\.dims has 17; fire blocks need even numbers of channels"):
        SQUEEZE.check(replaced(published(NAME), narrow))
