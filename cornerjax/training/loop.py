"""A run from start to end: data, model, steps, checkpoints, evaluations."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from cornerjax.checkpoint import Checkpoints, Workdir, create_workdir, has_checkpoint
from cornerjax.config import Config, InputError, check
from cornerjax.data.coco import CocoSource, check_counts, open_source
from cornerjax.data.device import finish_batch
from cornerjax.data.pipeline import make_batches
from cornerjax.detectors import get_detector
from cornerjax.evaluation.coco import Evaluator
from cornerjax.nn.functional import functional
from cornerjax.training.init import init_weights, record_of
from cornerjax.training.log import TrainLog
from cornerjax.training.mesh import check_batch, data_mesh, to_devices
from cornerjax.training.optimiser import learning_rate, make_optimiser
from cornerjax.training.step import TrainState, make_train_step

PROFILED_STEPS = 10
PICTURES = 8  # validation images that TensorBoard gets at each evaluation


def train(
    config: Config, workdir: str | Path, *, recipe: str = "", profile: bool = False, init: str | Path = ""
) -> Workdir:
    """Train a detector, or go on where the run in `workdir` stopped.

    Args:
        config: the recipe with what the command line changed.
        workdir: made if missing; `checkpoint.py` says what is in it.
        recipe: name of the recipe, for the record.
        profile: write a trace of ten steps to `workdir/profile`.
        init: a work directory whose weights a new run starts from, see init.py; a run that resumes has its own.
    Raises: InputError: the data, the configuration or the work directory cannot be used.
    """
    check(config)
    mesh = data_mesh()
    check_batch(config.data.batch, mesh)
    source = open_source(config.data, config.data.train)
    check_counts(source, config.data.max_objects)
    # Images without boxes count in every evaluation, whether or not they are trained on.
    val_source = open_source(dataclasses.replace(config.data, empty_images=True), config.data.val)
    config = resolve(config, source, val_source)
    detector = get_detector(config.model.detector)
    detector.check(config)
    tx = make_optimiser(config)
    apply, params, model_state = functional(detector.build(config.model, np.random.default_rng(config.seed)))
    evaluator = Evaluator(detector, apply, config, val_source)
    init_record = None
    if init:
        if has_checkpoint(Path(workdir)):
            said = [f"{workdir} has checkpoints of its own; {init} is not used"]
        else:
            params, model_state, said = init_weights(params, model_state, config, source.class_names, Path(init))
            init_record = record_of(Path(init))
        print("\n".join(said))
    run = create_workdir(workdir, config, source.class_names, source.category_ids, recipe=recipe, init=init_record)

    state = TrainState.create(params, model_state, tx, mesh)
    train_step = make_train_step(
        apply,
        lambda batch: finish_batch(batch, config, detector.render),
        lambda outputs, batch: detector.loss(outputs, batch, config),
        tx,
        mesh,
    )
    with Checkpoints(run.path, keep=config.keep) as checkpoints:
        state = resume(state, checkpoints)
        first = int(state.step)
        if profile and config.steps - first < 2 * PROFILED_STEPS:
            raise InputError(f"--profile needs {2 * PROFILED_STEPS} steps, the run has {config.steps - first} left")
        with contextlib.closing(TrainLog(run.path, first_step=first, config=config)) as log:
            if first:
                log.say(f"resuming {run.path} at step {first} of {config.steps}")
            batches = make_batches(
                source,
                config,
                encode=detector.encode,
                render=detector.render,
                crop=detector.crop,
                first_step=first,
                host=jax.process_index(),
                hosts=jax.process_count(),
            )
            for step in range(first + 1, config.steps + 1):
                batch = dict(next(batches))
                del batch["image_id"]  # for people, not for the device
                with trace(run.path / "profile", step - first) if profile else contextlib.nullcontext():
                    state, losses = train_step(state, to_devices(batch, mesh))
                    if profile:
                        jax.block_until_ready(losses)
                log.step(losses)
                last = step == config.steps
                if last or step % config.log_steps == 0:
                    log.report(step, float(learning_rate(config)(step - 1)))
                ap = None
                if last or (config.eval_steps and step % config.eval_steps == 0):
                    with kept_on_error(state, checkpoints):
                        result = evaluator(state.params, state.model_state)
                        log.evaluation(step, result.metrics, evaluator.pictures(result, PICTURES))
                    ap = result.metrics["AP"]
                if ap is not None or step % config.save_steps == 0:
                    save(state, checkpoints, ap=ap)
    return run


def resolve(config: Config, source: CocoSource, val_source: CocoSource) -> Config:
    """Fill in what the data set decides and make its paths absolute, so that the record stands for itself.

    Raises: InputError: the two splits, or the options, disagree on the classes.
    """
    if val_source.class_names != source.class_names:
        raise InputError(
            f"{config.data.val} has the classes {list(val_source.class_names)}, "
            f"{config.data.train} has {list(source.class_names)}; they must be the same"
        )
    num_classes = len(source.class_names)
    if config.model.num_classes not in (0, num_classes):
        raise InputError(f"model.num_classes is {config.model.num_classes}, the data set has {num_classes}; leave it 0")
    data = config.data
    if Path(data.root).is_dir():
        data = dataclasses.replace(data, root=str(Path(data.root).absolute()))
    if data.images and Path(data.images).is_dir():
        data = dataclasses.replace(data, images=str(Path(data.images).absolute()))
    train, val = (str(Path(split).absolute()) if Path(split).is_file() else split for split in (data.train, data.val))
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, num_classes=num_classes),
        data=dataclasses.replace(data, train=train, val=val),
    )


def save(state: TrainState, checkpoints: Checkpoints, *, ap: float | None) -> None:
    """Start writing a checkpoint of everything that resuming needs."""
    weights = {"params": state.params, "model_state": state.model_state}
    checkpoints.save(int(state.step), weights, {"opt_state": state.opt_state, "step": state.step}, ap=ap)


def resume(state: TrainState, checkpoints: Checkpoints) -> TrainState:
    """The newest checkpoint in place of a fresh state, if there is one."""
    step = checkpoints.latest()
    if step is None:
        return state
    weights, optimiser = checkpoints.restore(
        step,
        {"params": state.params, "model_state": state.model_state},
        {"opt_state": state.opt_state, "step": state.step},
    )
    return TrainState(optimiser["step"], weights["params"], weights["model_state"], optimiser["opt_state"])


@contextlib.contextmanager
def kept_on_error(state: TrainState, checkpoints: Checkpoints) -> Iterator[None]:
    """Save what has been trained if something goes wrong in an evaluation, or stops it."""
    try:
        yield
    except BaseException:
        save(state, checkpoints, ap=None)
        raise


@contextlib.contextmanager
def trace(folder: Path, step: int) -> Iterator[None]:
    """Record ten steps of this process, after as many in which everything is compiled and warmed up."""
    if step == PROFILED_STEPS + 1:
        jax.profiler.start_trace(str(folder))
    yield
    if step == 2 * PROFILED_STEPS:
        jax.profiler.stop_trace()
