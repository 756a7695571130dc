"""From a configuration to what trains: the network, its optimiser, the compiled step and what it will need."""

from collections.abc import Callable
from functools import partial

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from cornerjax.config import Config
from cornerjax.data.crop import as_arrays, draw
from cornerjax.detectors import get_detector
from cornerjax.detectors.base import make_network
from cornerjax.errors import InputError
from cornerjax.nn.functional import Array, Tree
from cornerjax.training.mesh import split, whole
from cornerjax.training.optimiser import make_optimiser
from cornerjax.training.step import TrainState, fresh_state, make_train_step

GB = 1e9


def network_of(config: Config, rng: np.random.Generator | None) -> tuple[Callable, Tree, Tree]:
    """(apply, params, model_state) of the network to train: BatchNorm has the groups of one part of the batch."""
    groups = max(1, config.optim.batch_norm_groups // config.optim.accumulate)
    return make_network(get_detector(config.model.detector), config, rng, batch_norm_groups=groups)


def start_state(
    params: Tree, model_state: Tree, tx: optax.GradientTransformation, mesh: Mesh, *, ema: bool
) -> TrainState:
    """The state before the first update, on every device of the mesh."""
    start = jax.jit(partial(fresh_state, tx=tx, ema=ema), out_shardings=whole(mesh))
    return start(*jax.device_put((params, model_state), whole(mesh)))


def check_batch(config: Config, devices: int) -> None:
    """Refuse a batch that cannot be divided.

    Raises: InputError: over the devices, the parts of optim.accumulate, or the groups of BatchNorm.
    """
    batch, parts, groups = config.data.batch, config.optim.accumulate, config.optim.batch_norm_groups
    if batch % (devices * parts):
        what = f"the {devices} devices" + ("" if parts == 1 else f" times optim.accumulate, {parts}")
        raise InputError(f"data.batch is {batch}; it must be a positive multiple of {what}")
    fitting = fitting_groups(batch, parts, devices)
    if groups not in fitting:
        raise InputError(
            f"optim.batch_norm_groups is {groups}; accepted are {', '.join(map(str, fitting))} "
            f"(data.batch {batch}, optim.accumulate {parts}, devices {devices})"
        )


def fitting_groups(batch: int, parts: int, devices: int) -> list[int]:
    """The numbers of BatchNorm groups with which no group is divided by optim.accumulate, and no device gathers maps.

    XLA gathers every map on devices that hold images of several groups but not all of each: so the groups of the batch,
    and those of a part of it, must divide the devices or be divided by them. One group is always accepted; in parts,
    each then has statistics of its own.
    """

    def fits(groups: int) -> bool:
        return devices % groups == 0 or groups % devices == 0

    of_part = [groups for groups in range(1, batch // parts + 1) if batch // parts % groups == 0]
    return sorted({1} | {parts * groups for groups in of_part if fits(groups) and fits(parts * groups)})


def abstract_step(config: Config, mesh: Mesh) -> tuple[jax.stages.Wrapped, TrainState, dict[str, jax.ShapeDtypeStruct]]:
    """The jitted step of a configuration, and shapes to lower it with: no device of the mesh need be there.

    Args:
        config: model.num_classes must not be 0.
    Returns: (train_step, state, batch) for `train_step.lower(state, batch).compile()`.
    """
    check_batch(config, mesh.size)
    detector, tx = get_detector(config.model.detector), make_optimiser(config)
    detector.check(config)
    apply, params, model_state = network_of(config, None)
    state = jax.eval_shape(lambda: fresh_state(params, model_state, tx, ema=config.optim.ema_decay > 0))
    batch = {
        name: jax.ShapeDtypeStruct((config.data.batch, *value.shape), value.dtype, sharding=split(mesh))
        for name, value in example_of(config).items()
    }
    state = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole(mesh)), state)
    return make_train_step(detector, apply, tx, config, mesh), state, batch


def example_of(config: Config) -> dict[str, Array]:
    """A training example with no objects, of the names, shapes and types that the pipeline makes."""
    detector, (height, width) = get_detector(config.model.detector), config.data.crop_px
    objects = {"boxes": np.zeros((0, 4), np.float32), "classes": np.zeros(0, np.int32)}
    objects |= {name: np.zeros((0, 4, 2), np.float32) for name in config.data.needs}
    encoded = detector.encode(objects, config)
    if config.data.render == "device":
        draws = draw(np.random.default_rng(0), height, width, config.data)
        return {**encoded, **as_arrays(draws), "image": np.zeros((height, width, 3), np.uint8)}
    return {**encoded, **detector.render(encoded, config, np), "image": np.zeros((height, width, 3), np.float32)}


def memory_line(compiled: jax.stages.Compiled) -> str:
    """What a compiled step needs on each device, in a line for people."""
    memory = compiled.memory_analysis()
    if memory is None:
        return "memory a device: this platform does not say"
    kept, passing = memory.argument_size_in_bytes, memory.temp_size_in_bytes
    extra = memory.output_size_in_bytes - memory.alias_size_in_bytes
    line = (
        f"memory a device: {kept / GB:.2f} GB for weights, optimiser and batch, {passing / GB:.2f} GB for the step, "
        f"{(kept + passing + extra) / GB:.2f} GB in all"
    )
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    return f"{line}; it has {limit / GB:.2f} GB" if limit else line
