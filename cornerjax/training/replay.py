"""Which image stopped a run: the step is done again on the batch that guard.py kept, and on each of its images."""

from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from cornerjax.checkpoint import Checkpoints
from cornerjax.errors import InputError
from cornerjax.files import is_file, read_npz
from cornerjax.training.mesh import data_mesh, to_devices
from cornerjax.training.resume import resume
from cornerjax.training.setup import abstract_step
from cornerjax.workdir import open_workdir, trusted_config

Batch = dict[str, np.ndarray]
Losses = dict[str, float]
EXPECTED = "expected the batch that a stopped run of this work directory wrote"


def replay(file: Path, *, allow_code: bool = False) -> Iterator[str]:
    """Do the step that stopped a run again, as a whole and image by image; the run stays as it is.

    Args:
        file: WORKDIR/not_finite/step-STEP-host-HOST.npz, as guard.py writes it; those of the other hosts are read too.
        allow_code: of workdir.trusted_config.
    Yields: what is found, line by line, with the conclusion last.
    Raises: InputError: as of read_step and losses_of.
    """
    step, batch = read_step(file)
    bad: list[str] = []
    ids = batch["image_id"].tolist()
    replayed = losses_of(file.parent.parent, batch, allow_code=allow_code)
    before, whole = next(replayed)
    yield f"step {step}, the weights of step {before}, all {len(ids)} images: {_listed(whole)}"
    if before != step - 1:
        yield f"the newest checkpoint is not that of step {step - 1}: the losses will differ"
    for image_id, (_, alone) in zip(ids, replayed, strict=True):
        yield f"image {image_id} alone: {_listed(alone)}"
        bad += [] if _finite(alone) else [str(image_id)]
    yield _conclusion(bad, len(ids), whole)


def read_step(file: Path) -> tuple[int, Batch]:
    """The number of a step and its batch, put together from the files of all hosts.

    Raises: InputError: a file is not there or damaged.
    """
    name, host, _ = file.name.rpartition("-host-")
    if not host or not is_file(file):
        raise InputError(
            f"no file {file}; expected WORKDIR/not_finite/step-STEP-host-HOST.npz, which a stopped run names"
        )
    by_host = sorted(file.parent.glob(f"{name}-host-*.npz"), key=lambda part: (len(part.name), part.name))
    parts = [_read(part) for part in by_host]
    try:
        return int(parts[0]["step"]), {
            name: np.concatenate([part[name] for part in parts]) for name in parts[0] if name != "step"
        }
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{file} does not fit the files of the other hosts; {EXPECTED}") from None


def losses_of(workdir: Path, batch: Batch, *, allow_code: bool = False) -> Iterator[tuple[int, Losses]]:
    """Do an update of a run's newest weights on a batch, and on each of its images alone.

    Args:
        allow_code: of workdir.trusted_config.
    Yields: the step of the weights, and the losses with the norm of the gradient: those of the whole batch first.
    Raises: InputError: the run has no checkpoint, or the batch is not the whole of one of its steps.
    """
    config = trusted_config(open_workdir(workdir), allow_code=allow_code)
    mesh, size = data_mesh(), len(batch["image_id"])
    if size != config.data.batch:
        raise InputError(
            f"{workdir / 'not_finite'} has {size} images of the step, data.batch is {config.data.batch}; "
            "expected the files of all hosts of the run, and no others"
        )
    train_step, form, expected = abstract_step(config, mesh)
    with Checkpoints(workdir, read_only=True) as checkpoints:
        if checkpoints.latest() is None:
            raise InputError(f"{workdir} has no checkpoint; expected that of the step before")
        state = resume(form, checkpoints)._replace(halted=jax.numpy.bool(False))
    before = int(state.step)
    inputs = {name: rows for name, rows in batch.items() if name != "image_id"}
    if {name: (x.shape, x.dtype) for name, x in inputs.items()} != {n: (x.shape, x.dtype) for n, x in expected.items()}:
        raise InputError(f"{workdir / 'not_finite'} has a batch of another run; {EXPECTED}")
    for rows in (np.arange(size), *(np.full(size, i) for i in range(size))):
        # A copy, for the update takes the memory of what it is given.
        copy = jax.tree.map(lambda x: x.copy(), state)
        _, losses = train_step(copy, to_devices({name: values[rows] for name, values in inputs.items()}, mesh))
        yield before, {name: float(jax.device_get(losses[name])) for name in losses}


def _read(file: Path) -> Batch:
    batch = read_npz(file, EXPECTED.removeprefix("expected "))
    step, ids = batch.get("step"), batch.get("image_id")
    if step is None or ids is None or step.ndim or step.dtype.kind != "i" or ids.ndim != 1:
        raise InputError(f"{file} is damaged; {EXPECTED}")
    return batch


def _listed(losses: Losses) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in losses.items())


def _finite(losses: Losses) -> bool:
    return bool(np.isfinite(list(losses.values())).all())


def _conclusion(bad: list[str], images: int, whole: Losses) -> str:
    if len(bad) == images:
        return "no image alone is finite: it is the weights rather than an image"
    if bad:
        return f"not finite alone: the {'image' if len(bad) == 1 else 'images'} {', '.join(bad)}"
    return "every image alone is finite" + ("; so is the batch" if _finite(whole) else ": it takes several of them")
