"""How long do our networks take on one CPU core, against PyTorch networks of the same layers and weights?

CornerNet-Squeeze and CenterNet points with ResNet-18, in float32. Timed is CPU time, of all threads, on the one core
that the process keeps to; memory that is freed stays with the process, on both sides. All sides do their work in turn,
and every time is divided by PyTorch's in the same round.

forward: one image through the network in test mode, maps of the last stack, without boxes. PyTorch under no_grad.
train: one update by Adam. So that networks and gradients are compared and nothing else, the loss of both sides is the
    sum over all maps of all stacks of the mean of their squares; Adam is optax's and torch.optim's (in its fused form).
    A further line is our training step as `train.py` compiles it: from bytes to normalised images with changed
    colours, to heat maps, and with the detector's losses.

Before anything is timed both sides get the same weights, drawn at random, and must agree: in the number of parameters,
in every map (forward), in the loss before and after the first update (train). PyTorch's networks, and what stands in
them for the originals' corner pooling, are in torch_networks.py.

make torch && python benchmarks/against_torch.py [--only squeeze] [--what forward] [--rounds 7]
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

from one_core import keep_to_one_core

if __name__ == "__main__":
    keep_to_one_core()

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
import tyro
from torch_networks import drawn, load, torch_network

from cornerjax.config import Config, load_recipe
from cornerjax.detectors import get_detector
from cornerjax.detectors.base import make_predictor_network
from cornerjax.nn.functional import Tree, parameter_count
from cornerjax.training.mesh import data_mesh, to_devices
from cornerjax.training.optimiser import make_optimiser
from cornerjax.training.setup import example_of, network_of, start_state
from cornerjax.training.step import make_train_step
from cornerjax.validation import replaced

Name = Literal["squeeze", "points"]
What = Literal["forward", "train"]
Variant = tuple[Callable, Tree, Tree]  # (apply, params, model_state) of nn.functional
RECIPES = {"squeeze": "configs/cornernet_squeeze.py", "points": "configs/centernet_points_resnet18.py"}
CROP_PX = {"forward": 512, "train": 256}
LEARNING_RATE = 1e-4
TOLERANCE = 1e-3  # of a map, relative to its standard deviation; of a loss, to itself
THEIRS = {"PyTorch": torch.contiguous_format, "PyTorch, channels last": torch.channels_last}


class Side(NamedTuple):
    """One of those that are timed."""

    run: Callable[[], Any]  # does the work once, to its end
    compile_s: float  # CPU time


def variants(config: Config) -> dict[str, Variant]:
    """Our network in all the forms whose forward pass is timed, with weights drawn at random."""
    apply, *trees = network_of(config, None)
    rng = np.random.default_rng(0)
    params, model_state = (jax.tree.map(jnp.asarray, drawn(tree, rng)) for tree in trees)
    predict, fold = make_predictor_network(get_detector(config.model.detector), config)
    return {"ours": (apply, params, model_state), "ours, folded": (predict, *fold(params, model_state))}


def theirs(config: Config, ours: Variant, layout: torch.memory_format) -> torch.nn.Module:
    """PyTorch's network with our weights."""
    network, (_, *weights) = torch_network(config.model), ours
    load(network, *weights)
    numbers = sum(value.numel() for value in network.parameters()), parameter_count(weights[0])
    assert numbers[0] == numbers[1], f"PyTorch's network has {numbers[0]} parameters, ours {numbers[1]}"
    return network.to(memory_format=layout)


def compiled(function: jax.stages.Wrapped, *arguments: Any) -> tuple[Callable, float]:
    """The program and the CPU time of tracing and compiling it."""
    begun = time.process_time()
    program = function.lower(*arguments).compile()
    return program, time.process_time() - begun


def forward_sides(config: Config, ours: dict[str, Variant], images: np.ndarray) -> dict[str, Side]:
    """Every run gives the maps of the last stack, by name."""
    sides = {}
    nchw = torch.tensor(images.transpose(0, 3, 1, 2).copy())
    for name, layout in THEIRS.items():
        network = theirs(config, ours["ours"], layout).eval()
        sides[name] = Side(partial(torch_forward, network, nchw.contiguous(memory_format=layout)), 0.0)
    for name, (apply, params, model_state) in ours.items():
        forward = jax.jit(lambda *trees, apply=apply: apply(*trees, train=False)[0])
        given = (params, model_state, jnp.asarray(images))
        program, seconds = compiled(forward, *given)
        sides[name] = Side(lambda program=program, given=given: jax.block_until_ready(program(*given))[-1], seconds)
    return sides


def torch_forward(network: torch.nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return network(images)[-1]


def check_forward(sides: dict[str, Side]) -> str:
    """All maps of all sides are those of the first, but for rounding; what was found, in words."""
    found = {name: side.run() for name, side in sides.items()}
    maps = {
        name: {key: value.permute(0, 2, 3, 1).numpy() if name in THEIRS else value for key, value in of_side.items()}
        for name, of_side in found.items()
    }
    first, largest = maps["PyTorch"], 0.0
    for name, of_side in maps.items():
        assert of_side.keys() == first.keys(), f"{name} has the maps {', '.join(of_side)}"
        for key, value in of_side.items():
            assert value.shape == first[key].shape, f"{key} of {name} has the shape {value.shape}"
            largest = max(largest, float(np.abs(value - first[key]).max() / first[key].std()))
    assert largest < TOLERANCE, f"maps are {largest:.1e} of their standard deviation apart"
    return f"all maps agree within {largest:.0e} of their standard deviation"


def square_loss(outputs: list[dict[str, Any]]) -> Any:
    """The sum of the means of the squares of all maps, of either side."""
    return sum((value * value).mean() for maps in outputs for value in maps.values())


def torch_step(network: torch.nn.Module, images: torch.Tensor) -> Side:
    optimiser = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, fused=True)

    def run() -> float:
        optimiser.zero_grad()
        loss = square_loss(network(images))
        loss.backward()
        optimiser.step()
        return loss.item()

    return Side(run, 0.0)


def our_step(ours: Variant, images: np.ndarray) -> Side:
    """What torch_step does, in one program."""
    (apply, *weights), tx, inputs = ours, optax.adam(LEARNING_RATE), jnp.asarray(images)

    @partial(jax.jit, donate_argnums=0)
    def step(state: tuple, images: jax.Array) -> tuple[tuple, jax.Array]:
        params, model_state, opt_state = state

        def objective(params: Tree) -> tuple[jax.Array, Tree]:
            outputs, moved = apply(params, model_state, images, train=True)
            return square_loss(outputs), moved

        (loss, model_state), grads = jax.value_and_grad(objective, has_aux=True)(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), model_state, opt_state), loss

    params, model_state = jax.tree.map(jnp.array, weights)  # copies, whose memory the step may take
    return repeated(step, (params, model_state, tx.init(params)), inputs)


def recipe_step(config: Config, ours: Variant) -> Side:
    """The step of training on a batch of random images without objects; it has room for the most an image may have."""
    mesh, detector, tx = data_mesh(), get_detector(config.model.detector), make_optimiser(config)
    apply, *_ = network_of(config, None)
    example = example_of(config)
    batch = {name: np.stack([value] * config.data.batch) for name, value in example.items()}
    batch["image"] = np.random.default_rng(0).integers(0, 256, batch["image"].shape).astype(example["image"].dtype)
    state = start_state(ours[1], ours[2], tx, mesh, ema=config.optim.ema_decay > 0)
    return repeated(make_train_step(detector, apply, tx, config, mesh), state, to_devices(batch, mesh))


def repeated(step: jax.stages.Wrapped, state: Any, batch: Any) -> Side:
    """A training step that goes on from its own last state."""
    program, seconds = compiled(step, state, batch)

    def run() -> Any:
        nonlocal state
        state, losses = jax.block_until_ready(program(state, batch))
        return losses

    return Side(run, seconds)


def train_sides(config: Config, ours: Variant, images: np.ndarray) -> dict[str, Side]:
    """Every run makes one update and gives the loss before it; that of train.py gives all its losses."""
    sides = {}
    nchw = torch.tensor(images.transpose(0, 3, 1, 2).copy())
    for name, layout in THEIRS.items():
        network = theirs(config, ours, layout).train()
        sides[name] = torch_step(network, nchw.contiguous(memory_format=layout))
    return sides | {"ours": our_step(ours, images), "ours, as train.py": recipe_step(config, ours)}


def check_train(sides: dict[str, Side]) -> str:
    """The losses before the first two updates are those of the first side; what was found, in words."""
    losses = {name: [float(side.run()) for _ in range(2)] for name, side in sides.items() if "train.py" not in name}
    first = np.array(losses["PyTorch"])
    largest = max(float(np.abs(np.array(values) / first - 1).max()) for values in losses.values())
    assert first[0] != first[1], "the first update changed nothing"
    assert largest < TOLERANCE, f"losses are {largest:.1e} apart: {losses}"
    return f"losses before and after the first update, {first[0]:.5g} and {first[1]:.5g}, agree within {largest:.0e}"


def timed(sides: dict[str, Side], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of every side in every round; every other round goes through them backwards."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for i in range(rounds + 1):
        for name in list(sides)[:: -1 if i % 2 else 1]:
            begun = time.process_time()
            sides[name].run()
            taken[name].append(time.process_time() - begun)
    return {name: seconds[1:] for name, seconds in taken.items()}


def show(sides: dict[str, Side], taken: dict[str, list[float]]) -> None:
    print(f"  {'':24s} {'CPU ms':>9s} {'to PyTorch':>11s} {'least':>7s} {'most':>7s} {'compile CPU s':>14s}")
    for name, seconds in taken.items():
        ratios = [a / b for a, b in zip(seconds, taken["PyTorch"], strict=True)]
        numbers = f"{1000 * statistics.median(seconds):9.1f} {statistics.median(ratios):11.2f}"
        compile_s = f"{sides[name].compile_s:14.1f}" if sides[name].compile_s else ""
        print(f"  {name:24s} {numbers} {min(ratios):7.2f} {max(ratios):7.2f} {compile_s}", flush=True)


def compare(name: Name, what: What, crop_px: int, batch: int, rounds: int) -> None:
    """One network, one kind of work."""
    side = crop_px - (name == "squeeze")  # hourglasses take a multiple of a power of two, minus 1
    config = replaced(load_recipe(RECIPES[name]), {"model.num_classes": 80, "data.crop_px": (side, side)})
    config = replaced(config, {"data.batch": 1 if what == "forward" else batch})
    get_detector(config.model.detector).check(config)
    images = np.random.default_rng(1).standard_normal((config.data.batch, side, side, 3), np.float32)
    ours = variants(config)
    if what == "forward":
        sides = forward_sides(config, ours, images)
        agreement = check_forward(sides)
    else:
        sides = train_sides(config, ours["ours"], images)
        agreement = check_train(sides)
    parameters = parameter_count(ours["ours"][1])
    print(f"\n{name}, {what}, {side} px, batch {len(images)}; {parameters} parameters on each side")
    print(f"  {agreement}", flush=True)
    if rounds:
        show(sides, timed(sides, rounds))


def main(
    only: tuple[Name, ...] = ("squeeze", "points"),
    what: tuple[What, ...] = ("forward", "train"),
    crop_px: int = 0,
    batch: int = 2,
    rounds: int = 7,
) -> None:
    """Compare; see the top of the file.

    Args:
        only: which networks.
        what: which work.
        crop_px: side of the images, of Squeeze one pixel less; 0: 512, and 256 in training.
        batch: images of a training step.
        rounds: 0: check only.
    """
    torch.set_num_threads(1)
    print(f"jax {jax.__version__}, torch {torch.__version__}, one CPU core")
    for name in only:
        for kind in what:
            compare(name, kind, crop_px or CROP_PX[kind], batch, rounds)


if __name__ == "__main__":
    tyro.cli(main)
