"""The checkpoints of a work directory."""

import itertools
import logging
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from cornerjax.checkpoint_manager import METRICS, Manager, ap_of, write_ap
from cornerjax.checksums import compare_checksums, is_damaged, write_checksums
from cornerjax.devices import by_first, gather
from cornerjax.errors import InputError, RunError, not_written, reason
from cornerjax.workdir import newest_step

_LOG = logging.getLogger("cornerjax")

Shapes = Mapping[str, tuple[int, ...]]
ITEMS = ("weights", "optimiser")
PATIENCE_S = 10**7  # with a save that does not end: more than anybody waits


class Checkpoints:
    """The checkpoints of a work directory: the newest `keep` and the one with the best AP."""

    def __init__(self, path: Path, *, keep: int = 1, read_only: bool = False):
        self._path = path
        self._folder = (path / "checkpoints").absolute()
        self._read_only = read_only
        self._failure: RunError | None = None
        self._saving = 0  # the step that is written
        policy = policies.AnyPreservationPolicy(
            [policies.LatestN(keep), policies.BestN(get_metric_fn=ap_of, n=1, keep_checkpoints_without_metrics=False)]
        )
        # What reads creates and starts nothing; orbax's own option read_only logs three warnings each time.
        reading: dict[str, Any] = {"create": False, "enable_async_checkpointing": False, "save_root_metadata": False}
        writing: dict[str, Any] = {"preservation_policy": policy, "cleanup_tmp_directories": True}
        writing["async_options"] = ocp.AsyncOptions(
            post_finalization_callback=self._write_checksums,
            # Orbax measures its waits by the clock of the day, which may be set while it waits.
            create_directories_asynchronously=False,
            timeout_secs=PATIENCE_S,
        )
        self._manager = Manager(
            self._folder,
            options=ocp.CheckpointManagerOptions(best_fn=ap_of, **(reading if read_only else writing)),
            item_handlers={name: ocp.StandardCheckpointHandler() for name in ITEMS},
        )
        if not read_only:
            self._opened = self._folder.stat()

    def save(
        self, step: int, weights: dict[str, Any], optimiser: dict[str, Any] | None = None, *, ap: float | None = None
    ) -> None:
        """Start writing a checkpoint; it counts once it is complete. Without an optimiser no run can go on from it.

        An `ap` makes it a candidate for the best, nan (there were no true boxes) does not.
        Raises: RunError: this checkpoint, or the one before it, cannot be written.
        """
        trees = {"weights": weights} if optimiser is None else {"weights": weights, "optimiser": optimiser}
        items = {name: ocp.args.StandardSave(tree) for name, tree in trees.items()}
        metrics = None if ap is None or math.isnan(ap) else {"AP": float(ap)}
        try:
            self._manager.wait_until_finished()
            # Where orbax cannot begin, the end of the process waits for five minutes.
            by_first(lambda: tempfile.TemporaryFile(dir=self._folder).close())
            self._saving = step
            self._manager.save(step, args=ocp.args.Composite(**items), metrics=metrics)
        except (OSError, ValueError) as e:
            self._failure = self._not_written(e)
            raise self._failure from None

    def add_ap(self, step: int, ap: float) -> None:
        """Give a checkpoint the AP of its weights, if they were evaluated after it was written.

        Raises: RunError: it cannot be written.
        """

        def write() -> None:
            try:
                if self._manager.metrics(step) is None:
                    write_ap(self._folder / str(step), float(ap))
            except (OSError, InputError, AttributeError) as e:  # InputError and AttributeError: of the hashes there
                raise not_written(f"the AP of checkpoint {self._path / 'checkpoints' / str(step)}", e) from None

        if not math.isnan(ap):
            by_first(write)
            self._manager.reload()

    def latest(self) -> int | None:
        """The newest step; None where there is none."""
        return self._manager.latest_step()

    def best(self) -> int | None:
        """The step with the highest AP; the newest where none was evaluated."""
        best = self._manager.best_step()
        return self._manager.latest_step() if best is None else best

    def newest_first(self) -> list[int]:
        """All steps."""
        return sorted(self._manager.all_steps(), reverse=True)

    def restore_newest(
        self, weights: dict[str, Any], optimiser: dict[str, Any], warn: Callable[[str], None]
    ) -> tuple[dict, dict] | None:
        """Read the newest readable checkpoint into the shapes, types and shardings of the given trees.

        Newer ones that are damaged are moved to the folder `damaged`, so that their steps can be saved again. Who only
        reads moves nothing.

        Args:
            warn: gets a line for each of these.
        Returns: weights, optimiser; None where there is no checkpoint.
        Raises: RunError: none is readable. InputError: the newest is of another network or holds weights only.
        """
        by_first(lambda: newest_step(self._path))
        if not (steps := gather(self.newest_first())[0]):
            return None
        trees = {"weights": weights, "optimiser": optimiser}
        _, restored, damaged = self.first_readable(steps, lambda step: self._restore(step, trees))
        for step, why in damaged.items():
            bad = f"checkpoint {self._path / 'checkpoints' / str(step)} is damaged ({why})"
            warn(bad if self._read_only else f"{bad} and now {self._set_aside(step)}")
        return restored["weights"], restored["optimiser"]

    def first_readable(self, steps: Iterable[int], read: Callable[[int], Any]) -> tuple[int, Any, dict[int, str]]:
        """The first step whose checkpoint is not damaged, what `read` makes of it, why those before it are damaged.

        All processes take the same one.

        Raises: RunError: all are damaged, or one that is not cannot be read.
        """
        damaged: dict[int, str] = {}
        for step in steps:
            found, why, error = self._attempt(step, read)
            everyone = gather((why, None if error is None else str(error)))
            if error is not None:
                raise error
            if elsewhere := [said for _, said in everyone if said is not None]:
                raise RunError(f"another process: {elsewhere[0]}")
            if reasons := [said for said, _ in everyone if said]:
                damaged[step] = reasons[0]
                continue
            return step, found, damaged
        newest, why = max(damaged.items())
        raise RunError(
            f"none of the {len(damaged)} checkpoints in {self._path / 'checkpoints'} can be read "
            f"(step {newest}: {why}); put back a copy, or move the folder away to start from the beginning"
        )

    def _attempt(self, step: int, read: Callable[[int], Any]) -> tuple[Any, str, Exception | None]:
        """What is read; or why the step is damaged; or an error that is none of the checkpoint's."""
        try:
            return read(step), "", None
        except (InputError, RunError, MemoryError, jax.errors.JaxRuntimeError) as e:
            return None, "", e
        except Exception as e:  # orbax raises all kinds, bare Exception among them
            if is_damaged(self._folder / str(step), (*ITEMS, METRICS), e):
                return None, reason(e), None
            return None, "", RunError(f"cannot read checkpoint {self._path / 'checkpoints' / str(step)}: {reason(e)}")

    def read(self, step: int, item: Literal["weights", "optimiser"], shapes: Shapes | None = None) -> Any:
        """One of the two parts of a checkpoint as it is on the disk, as NumPy arrays, whatever devices wrote it.

        Raises: InputError: the arrays have not the shapes, by dotted path, that are given; none is read then.
        """
        by_first(lambda: compare_checksums(self._folder / str(step), [item]))
        described = self._manager.item_metadata(step)[item]
        if shapes is not None:
            there = {path.partition(".")[2]: tuple(array.shape) for path, array in _by_path(described.tree).items()}
            if other := sorted(path for path in there.keys() | shapes if there.get(path) != shapes.get(path)):
                raise InputError(
                    f"{self._path}, step {step}: weights do not fit the network: shape of {other[0]} is "
                    f"{there.get(other[0])}, expected {shapes.get(other[0])}"
                )
        # Half the time of reading onto a device; arrays of the types and shapes, without memory of their own, say so.
        like = jax.tree.map(lambda array: np.broadcast_to(np.zeros((), array.dtype), array.shape), described)
        return self._manager.restore(step, args=ocp.args.Composite(**{item: ocp.args.StandardRestore(like)}))[item]

    def _write_checksums(self) -> None:
        """Of the step that has been written; orbax calls it before the folder gets its final name."""
        if jax.process_index() == 0:
            # Orbax makes a folder that has been moved away again, and would complete half a checkpoint in it.
            if not os.path.samestat(self._opened, self._folder.stat()):
                raise OSError("the folder was moved away while it was written")
            unfinished = self._folder.glob(f"{self._saving}{ocp.utils.TMP_DIR_SUFFIX}*")
            folder = max(unfinished, key=lambda path: path.stat().st_mtime, default=self._folder / "gone")
            folder.stat()  # an OSError where it is gone
            write_checksums(folder, (*ITEMS, METRICS))

    def _restore(self, step: int, trees: dict[str, Any]) -> Any:
        by_first(lambda: compare_checksums(self._folder / str(step), trees))
        stored = self._manager.item_metadata(step)
        for name, tree in trees.items():
            there, here = (
                {path: f"{tuple(array.shape)} {array.dtype}" for path, array in _by_path(arrays).items()}
                for arrays in (stored[name].tree, tree)
            )
            if other := sorted(path for path in there.keys() | here.keys() if there.get(path) != here.get(path)):
                path = other[0]
                raise InputError(
                    f"checkpoint {self._path / 'checkpoints' / str(step)} is of another network: {path} is "
                    f"{there.get(path)} there, {here.get(path)} here; give another --workdir, or the same settings"
                )
        items = {name: ocp.args.StandardRestore(tree) for name, tree in trees.items()}
        return self._manager.restore(step, args=ocp.args.Composite(**items))

    def _set_aside(self, step: int) -> Path:
        folder = self._path / "damaged"

        def move() -> Path:
            names = itertools.chain([str(step)], (f"{step}.{i}" for i in itertools.count(1)))
            target = next(folder / name for name in names if not (folder / name).exists())
            try:
                folder.mkdir(exist_ok=True)
                (self._folder / str(step)).rename(target)
            except OSError as e:
                raise RunError(f"cannot move a damaged checkpoint to {target}: {e.strerror}") from None
            return target

        target = by_first(move)
        self._manager.reload()
        return target

    def _not_written(self, error: Exception) -> RunError:
        complete = self._manager.all_steps(read=True)
        newest = f"the newest complete one is that of step {max(complete)}" if complete else "there is no complete one"
        return not_written(f"a checkpoint to {self._path / 'checkpoints'}", error, f"; {newest}")

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        for _ in range(5):  # on a full disk several parts of orbax fail, each of which ends a call at its error
            try:
                self._manager.close()  # waits for what is being written
                break
            except (OSError, ValueError) as e:
                self._failure = self._failure or self._not_written(e)
        if self._failure is None:
            return
        for unfinished in self._folder.glob(f"*{ocp.utils.TMP_DIR_SUFFIX}*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        if error is None or isinstance(error, SystemExit):
            raise self._failure
        if error is not self._failure:
            _LOG.warning(str(self._failure))


def _by_path(tree: Any) -> dict[str, Any]:
    """The arrays of a tree, or what describes them, by dotted path."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def restore_weights(
    workdir: Path, which: Literal["best", "latest"] = "best", *, shapes: Callable[[], Shapes] | None = None
) -> tuple[dict, dict, int]:
    """Read `(params, model_state, step)` of a run's best or newest checkpoint.

    If it is damaged, the newest of the others that can be read takes its place, with a warning.

    Args:
        shapes: gives those of Checkpoints.read; called where there is a checkpoint.
    Raises: InputError: the run has no checkpoint. RunError: it has none that can be read.
    """
    if (workdir / "checkpoints").is_dir():
        with Checkpoints(workdir, read_only=True) as checkpoints:
            wanted = checkpoints.best() if which == "best" else checkpoints.latest()
            if steps := sorted(checkpoints.newest_first(), key=lambda step: step != wanted):
                expected = shapes() if shapes else None
                taken, weights, damaged = checkpoints.first_readable(
                    steps, lambda step: checkpoints.read(step, "weights", expected)
                )
                for step, why in damaged.items():
                    bad = f"checkpoint {workdir / 'checkpoints' / str(step)} is damaged ({why})"
                    _LOG.warning(f"{bad}; that of step {taken} is taken")
                return weights["params"], weights["model_state"], taken
    raise InputError(f"{workdir} has no checkpoint yet; training writes the first one after save_steps steps")
