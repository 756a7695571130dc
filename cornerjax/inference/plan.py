"""What predict.py is to do, checked before the network is loaded, and its folder reserved."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from cornerjax.detectors.base import Detector
from cornerjax.errors import InputError, unusable
from cornerjax.inference.inputs import Inputs, output_names
from cornerjax.inference.options import LIMITS, Options
from cornerjax.inference.overlays import check_overlays
from cornerjax.inference.results import FILES, image_ids
from cornerjax.inference.written import only_writer, refuse_to_replace
from cornerjax.text import short


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be done, checked as far as it can be without the network."""

    inputs: Inputs
    out: Path
    options: Options
    names: list[str]  # of the drawn photos, videos and camera videos
    ids: list[int]  # image ids of the photos


def make_plan(inputs: Inputs, out: Path, options: Options) -> Plan:
    """Check that everything can be written, and that nothing of others would be replaced.

    Raises: InputError: it cannot, or would; or the annotations lack a photo.
    """
    for name, (least, most) in LIMITS.items():
        if not least <= (given := getattr(options, name)) <= most:
            raise InputError(f"--{name.replace('_', '-')} is {short(given)}; accepted is {least} to {most}")
    if options.annotations and (inputs.videos or inputs.cameras):
        raise InputError("--annotations is for photos: the frames of videos and cameras have no image ids there")
    there = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"cannot write {out}: {there} is {'not writable' if there.is_dir() else 'no folder'}")
    names = output_names(inputs)
    plan = Plan(inputs, out, options, names, image_ids(inputs.photos, options.annotations))
    _refuse(plan)
    return plan


def check_wanted(options: Options, class_names: Sequence[str], detector: Detector) -> None:
    """Raises: InputError: the options name a class that is none of these, or an overlay that the detector lacks."""
    if unknown := [name for name in options.classes if name not in class_names]:
        raise InputError(f"no class {unknown[0]!r} in this run; its classes are: {', '.join(class_names)}")
    check_overlays(detector, options.overlay)


def _refuse(plan: Plan) -> None:
    options, inputs = plan.options, plan.inputs
    files = [FILES[kind] for kind in options.results] + (plan.names if options.pictures else [])
    given = [*inputs.photos, *inputs.videos, *([Path(options.annotations)] if options.annotations else [])]
    refuse_to_replace(plan.out, files, given)


@contextlib.contextmanager
def reserved(plan: Plan) -> Iterator[None]:
    """Have the folder of a plan for this call alone, from before the network is loaded until all is written.

    Raises: InputError: another call has it, or has put something there since the plan was made; it cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(only_writer(plan.out))
        except OSError as e:
            raise unusable(str(plan.out), e) from None
        _refuse(plan)
        yield
