"""A run from start to end: data, model, steps, checkpoints, evaluations."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

from cornerjax.checkpoint import Checkpoints
from cornerjax.config import Config
from cornerjax.data.classes import align_classes
from cornerjax.data.pipeline import make_batches
from cornerjax.data.records import Source, check_counts
from cornerjax.data.source import open_source
from cornerjax.detectors import check
from cornerjax.detectors.base import make_predictor_network
from cornerjax.devices import by_first, of_first
from cornerjax.errors import InputError, RunError
from cornerjax.evaluation.evaluator import Evaluator
from cornerjax.evaluation.trained_on import record, sha256, warning
from cornerjax.new_workdir import create_workdir, refuse_others
from cornerjax.nn.folding import Fold
from cornerjax.nn.functional import Tree
from cornerjax.training.finetune import Init, init_weights, record_of
from cornerjax.training.guard import Guard
from cornerjax.training.log import TrainLog
from cornerjax.training.mesh import data_mesh, to_devices
from cornerjax.training.optimiser import learning_rate, make_optimiser
from cornerjax.training.profile import STEPS, Profile
from cornerjax.training.resume import resume, save
from cornerjax.training.setup import check_batch, memory_line, network_of, start_state
from cornerjax.training.step import TrainState, make_train_step
from cornerjax.training.stop import Stopped, StopSignals
from cornerjax.workdir import Workdir, locked, newest_step, open_workdir

PICTURES = 8  # validation images that TensorBoard gets at each evaluation


def train(
    config: Config, workdir: str | Path, *, recipe: str = "", profile: bool = False, init: Init | None = None
) -> Workdir:
    """Train a detector, or go on where the run in `workdir` stopped.

    Args:
        config: the recipe with what the command line changed.
        workdir: made if missing; `checkpoint.py` says what is in it.
        recipe: name of the recipe, for the record.
        profile: write a trace of a few steps to `workdir/profile`.
        init: weights that a new run starts from; a run that resumes has its own.
    Raises: InputError: the data, the configuration or the work directory cannot be used.
        RunError: a loss is not finite, or the work directory can no longer be written or read.
        Stopped: by a signal, after saving.
    """
    detector = check(config)
    mesh = data_mesh()
    check_batch(config, mesh.size)
    source = open_source(config.data, config.data.train)
    check_counts(source, config.data.max_objects)
    # Images without boxes count in every evaluation, whether or not they are trained on.
    val_source = open_source(config.data.for_evaluation(), config.data.val)
    val_source = align_classes(val_source, source.class_names, source.annotation_file)
    config = resolve(config, source)
    detector.check(config)
    tx = make_optimiser(config)
    apply, params, model_state = network_of(config, np.random.default_rng(config.seed))
    predict, fold = make_predictor_network(detector, config)
    evaluator = Evaluator(detector, predict, config, val_source)
    workdir = Path(workdir)
    by_first(lambda: refuse_others(workdir, config))  # before even the lock is written
    with locked(workdir):
        params, model_state = _start(workdir, config, source, params, model_state, recipe, init)
        state = start_state(params, model_state, tx, mesh, ema=config.optim.ema_decay > 0)
        train_step = make_train_step(detector, apply, tx, config, mesh)
        with StopSignals() as signals, Checkpoints(workdir, keep=config.keep) as checkpoints:
            state = resume(state, checkpoints)
            first = int(state.step)
            if profile and config.steps - first < 2 * STEPS:
                raise InputError(f"--profile needs {2 * STEPS} steps, the run has {config.steps - first} left")
            with contextlib.closing(TrainLog(workdir, first_step=first, config=config)) as log:
                if first:
                    log.say(f"resuming {workdir} at step {first} of {config.steps}")
                if said := warning(workdir, val_source):
                    log.say(said)
                run = Run(config, mesh, evaluator, fold, checkpoints, log, signals, Guard(workdir))
                if first and run.evaluates(first) and not of_first(log.evaluated):
                    run.evaluate(first, state)  # a stop or an error kept it from that
                batches = make_batches(
                    source,
                    config,
                    encode=detector.encode,
                    render=detector.render,
                    crop=detector.crop,
                    first_step=first,
                    host=jax.process_index(),
                    hosts=jax.process_count(),
                    skipped=run.skipped,
                )
                trace = Profile(workdir / "profile" if profile else None)
                with contextlib.closing(batches), contextlib.closing(trace):
                    run.steps(state, train_step, batches, trace)
    return open_workdir(workdir)


def _start(
    workdir: Path,
    config: Config,
    source: Source,
    params: Tree,
    model_state: Tree,
    recipe: str,
    init: Init | None,
) -> tuple[Tree, Tree]:
    """Describe a new run in its directory, or check what is described there; the weights that it starts from."""
    said = []
    if init and by_first(lambda: newest_step(workdir)) is not None:
        said = [f"{workdir} has checkpoints of its own; {init.checkpoint} is not used"]
        init = None
    elif init:
        params, model_state, said = init_weights(params, model_state, config, source.class_names, init)
    if jax.process_index() == 0:
        print("\n".join(said), end="\n" if said else "")

    def describe() -> None:
        create_workdir(
            workdir,
            config,
            source.class_names,
            tuple(id_ for id_ in source.category_ids if id_ is not None),  # it has all, as its classes are the run's
            recipe=recipe,
            init=record_of(init) if init else None,
            trained_on=sha256(source),
        )
        record(workdir, source, init.checkpoint if init else None)

    by_first(describe)
    open_workdir(workdir)  # what the first process wrote, all of them must see
    return params, model_state


@dataclasses.dataclass
class Run:
    """What the steps of a run share.

    Attributes:
        skipped: what make_batches could not read so far.
    """

    config: Config
    mesh: Mesh
    evaluator: Evaluator
    fold: Fold
    checkpoints: Checkpoints
    log: TrainLog
    signals: StopSignals
    guard: Guard
    skipped: set[str] = dataclasses.field(default_factory=set)

    def steps(
        self,
        state: TrainState,
        train_step: jax.stages.Wrapped,
        batches: Iterator[dict[str, np.ndarray]],
        trace: Profile,
    ) -> None:
        """Do the steps that are left: update, log, evaluate, save.

        Args:
            train_step: of make_train_step.
            trace: of a few of the steps.
        Raises: RunError: a loss is not finite. Stopped: by a signal. Either way the last sound state is saved.
        """
        first, compiled, saved = int(state.step), None, time.monotonic()
        for step in range(first + 1, self.config.steps + 1):
            with self.kept_on_error(state, by_all=False):
                batch = next(batches)
            # The ids are for people, not for the device.
            inputs = to_devices({name: rows for name, rows in batch.items() if name != "image_id"}, self.mesh)
            if compiled is None:
                with self.log.paused():
                    compiled = train_step.lower(state, inputs).compile()
                self.log.say(memory_line(compiled))
            with trace.step(step - first), jax.transfer_guard("disallow"):
                state, losses = compiled(state, inputs)
                trace.wait(losses)
            stop = self.signals.asked(step)
            report, evaluate, keep = self.due(step, saved, stopping=stop is not None)

            self.log.step(losses)
            with self.kept_on_error(state):
                self.guard.step(step, batch, losses)
                if report or keep:
                    self.guard.finish()
            if report:
                with self.kept_on_error(state, by_all=False):
                    self.log.report(step, float(learning_rate(self.config)(step - 1)), skipped=len(self.skipped))

            ap = self.evaluate(step, state) if evaluate else None
            if keep:
                with self.log.paused():
                    save(state, self.checkpoints, ap=ap)
                saved = time.monotonic()
            if stop:
                raise Stopped(stop, step)

    def due(self, step: int, saved: float, *, stopping: bool) -> tuple[bool, bool, bool]:
        """Whether a step is reported, evaluated, and saved, the last time having been `saved`."""
        config, last = self.config, step == self.config.steps
        report = last or step % config.log_steps == 0
        evaluate = not stopping and self.evaluates(step)
        # The time is looked at when all hosts wait for each other anyway.
        late = report and config.save_minutes > 0 and of_first(time.monotonic() - saved > 60 * config.save_minutes)
        return report, evaluate, evaluate or stopping or late or step % config.save_steps == 0

    def evaluates(self, step: int) -> bool:
        """Whether the weights of a step are to be evaluated."""
        config = self.config
        return step == config.steps or (config.eval_steps > 0 and step % config.eval_steps == 0)

    def evaluate(self, step: int, state: TrainState) -> float:
        """AP of the weights that are meant to be used; the log gets all of the result.

        Raises: as `steps`; the state is saved then.
        """
        with self.log.paused():
            with self.kept_on_error(state), self.signals.at_once(step):
                weights = state.evaluated()
                result = self.evaluator(*self.fold(weights["params"], weights["model_state"]))
            ap = result.metrics["AP"]
            if self.checkpoints.latest() == step:  # saved in an earlier part of the run
                self.checkpoints.add_ap(step, ap)
            with self.kept_on_error(state, by_all=False, ap=ap):
                pictures = self.evaluator.pictures(result, PICTURES) if jax.process_index() == 0 else []
                self.log.evaluation(step, result.metrics, pictures)
        return ap

    @contextlib.contextmanager
    def kept_on_error(self, state: TrainState, *, by_all: bool = True, ap: float | None = None) -> Iterator[None]:
        """Save what has been trained if something goes wrong here, or stops it.

        Args:
            by_all: all processes, which can only save together, raise an InputError or a RunError here. Where one alone
                may raise it, as for an image that it cannot read, the others know nothing of it.
            ap: of the state, where it is known.
        """
        try:
            yield
        except KeyboardInterrupt:  # the second Ctrl-C, after which nobody wants to wait
            raise
        except BaseException as e:
            together = jax.process_count() == 1 or (by_all and isinstance(e, (InputError, RunError)))
            if together and int(state.step) != self.checkpoints.latest():
                save(state, self.checkpoints, ap=ap)
            raise


def resolve(config: Config, source: Source) -> Config:
    """Fill in what the training data decides and make its paths absolute, so that the record stands for itself.

    Raises: InputError: it does not have as many classes as the options say.
    """
    num_classes = len(source.class_names)
    if config.model.num_classes not in (0, num_classes):
        raise InputError(f"model.num_classes is {config.model.num_classes}, the data set has {num_classes}; leave it 0")
    data = config.data
    kind = "tfds:" if data.root.startswith("tfds:") else ""
    if (folder := Path(data.root.removeprefix(kind))).is_dir():
        data = dataclasses.replace(data, root=f"{kind}{folder.absolute()}")
    if data.images and Path(data.images).is_dir():
        data = dataclasses.replace(data, images=str(Path(data.images).absolute()))
    train, val = (str(Path(split).absolute()) if Path(split).is_file() else split for split in (data.train, data.val))
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, num_classes=num_classes),
        data=dataclasses.replace(data, train=train, val=val),
    )
