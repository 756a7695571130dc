"""Training: images a second, share of the peak and memory of every published recipe, in one training step."""

import statistics
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from on_accelerator.bench import Bench, Row, in_turn
from on_accelerator.flops import flops
from on_accelerator.networks import RECIPES, examples, recipe, weights

from cornerjax.config import Config
from cornerjax.training.mesh import data_mesh, to_devices, whole
from cornerjax.training.setup import abstract_step
from cornerjax.training.step import TrainState
from cornerjax.validation import replaced

# FLOPs a second of dense matrix products at best: of bfloat16, and of float32 as TF32, which is what XLA's default
# precision makes of it. Source: NVIDIA's data sheets of the A100, H100 (SXM) and H200 (SXM).
PEAKS = {
    "H200": {"bfloat16": 989e12, "float32": 494e12},
    "H100": {"bfloat16": 989e12, "float32": 494e12},
    "A100": {"bfloat16": 312e12, "float32": 156e12},
}
GB = 1e9


class Case(NamedTuple):
    """A line of the table."""

    recipe: str
    batch: int
    dtype: str = "bfloat16"
    remat: str = "none"

    def config(self, small: bool) -> Config:
        config = recipe(self.recipe, small=small, dtype=self.dtype, remat=self.remat)
        return replaced(config, {"data.batch": self.batch})


class Step(NamedTuple):
    """A training step that is ready to run."""

    compiled: jax.stages.Compiled
    state: TrainState  # of host arrays
    batch: dict[str, np.ndarray]
    flops: float
    compile_s: float


def cases(small: bool) -> Iterator[Case]:
    """Every recipe first, then what changes with type, batch and remat."""
    if small:
        yield from (Case("cornernet", 2), Case("cornernet", 2, "float32", "stack"))
        return
    first, others = list(RECIPES.items())[:7], list(RECIPES.items())[7:]
    yield from (Case(name, few) for name, (few, _) in RECIPES.items())
    yield from (Case(name, few, "float32") for name, (few, _) in first)
    yield from (Case(name, many) for name, (_, many) in first)
    for remat in ("level", "stack"):
        yield from (Case(name, RECIPES[name][1], remat=remat) for name in ("cornernet", "cornernet_squeeze"))
    yield from (Case(name, many) for name, (_, many) in others)
    yield from (Case(name, few, "float32") for name, (few, _) in others)
    yield from (Case(name, many, "float32") for name, (_, many) in RECIPES.items())


def measure(bench: Bench) -> None:
    """Some are compiled at the same time, then timed one after the other while nothing is compiled."""
    for some in bench.waves(list(cases(bench.small)), max(2, bench.cores // 4)):
        steps = bench.together({case: partial(compile_step, case, bench.small) for case in some})
        for case in some:
            bench.add(case._asdict(), lambda case=case, step=steps[case]: run(case, step(), bench.small))


def compile_step(case: Case, small: bool) -> Step:
    config = case.config(small)
    step, state, batch = abstract_step(config, data_mesh(jax.devices()[:1]))
    traced = step.trace(state, batch)
    lowered, count = traced.lower(), flops(traced.jaxpr)
    params, model_state = weights(case.recipe, small)
    start = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), state)  # as Adam's state is at first
    start = start._replace(params=params, model_state=model_state)
    begun = time.monotonic()
    compiled = lowered.compile()
    return Step(compiled, start, examples(config), count, time.monotonic() - begun)


def run(case: Case, step: Step, small: bool) -> Row:
    """Time some steps on one batch that is on the device already."""
    before, mesh = peak_bytes(), data_mesh(jax.devices()[:1])
    state, batch = jax.device_put(step.state, whole(mesh)), to_devices(step.batch, mesh)

    def update() -> Any:
        nonlocal state
        state, losses = step.compiled(state, batch)
        return losses

    taken = in_turn({case: update}, rounds=1 if small else 5, calls=1 if small else 3)[case]
    seconds, after, memory = statistics.median(taken), peak_bytes(), step.compiled.memory_analysis()
    kept, passing = (memory.argument_size_in_bytes, memory.temp_size_in_bytes) if memory else (0, 0)
    return {
        "images/s": case.batch / seconds,
        "ms": 1e3 * seconds,
        "GFLOP an image": step.flops / case.batch / 1e9,
        "share of peak": share_of_peak(step.flops / seconds, case.dtype),
        "state GB": kept / GB,
        "step GB": passing / GB,
        "peak GB": after / GB if after > before else None,
        "compile s": step.compile_s,
    }


def share_of_peak(speed: float, dtype: str) -> float | None:
    """Of FLOPs a second; None of a device whose peak is not known."""
    kind = jax.devices()[0].device_kind
    return next((speed / peaks[dtype] for name, peaks in PEAKS.items() if name in kind), None)


def peak_bytes() -> int:
    """The most that was in use since this process began, 0 where the device does not say."""
    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)
