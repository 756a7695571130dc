"""Find objects in photos, videos and cameras: `cornerjax predict photo.jpg video.mp4 folder --workdir RUN --out found`.

Writes a picture with boxes for every photo, a video with boxes for every video, and detections.json: a list of
{"file", "picture", "boxes" (x1 y1 x2 y2 in pixels), "scores", "classes"}, one a photo or frame; frames have
"frame" too, from 0. A path that does not exist stops it before anything is written; what turns out to be unreadable
is left out and named at the end, with exit code 2; nothing is written if that is all of it. Ctrl-C keeps what was done.
Files of an earlier call in the same folder are replaced, others never: the hidden file .written_by_predict there
names those that are its own.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import tyro

from cornerjax.commands.cli import parse, require, value_of
from cornerjax.commands.process import compiled_once, quiet
from cornerjax.config import Compute
from cornerjax.errors import InputError
from cornerjax.inference.inputs import ACCEPTED, find_inputs
from cornerjax.inference.options import Options
from cornerjax.validation import as_dict


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predict(Options):
    # images, videos, folders of both, quoted patterns such as 'photos/**/*.jpg', and camera:N; they stand first
    paths: tyro.conf.Positional[tuple[str, ...]] = ()
    workdir: str = ""  # a folder that cornerjax train or cornerjax weights wrote; needed
    out: str = ""  # folder for the results; needed
    checkpoint: Literal["best", "latest"] = "best"  # the one with the highest AP, or the newest
    allow_code: bool = False  # import functions that the run's config.json names: only for runs that you trust
    compute: Compute = dataclasses.field(default_factory=Compute)  # that of the run if not given


def main(args: Sequence[str]) -> None:
    default = Predict()
    if workdir := value_of("--workdir", args, default=""):
        from cornerjax.workdir import open_workdir, runnable_here

        default = Predict(compute=runnable_here(open_workdir(workdir).config).compute)
    options = parse(Predict, args, prog="cornerjax predict", description=__doc__, default=default)
    if not options.paths:
        raise InputError(f"no photo, video or camera is given; accepted are {ACCEPTED}, folders, patterns and camera:N")
    require(options, "workdir", "out")
    inputs = find_inputs(options.paths)

    from cornerjax.detectors import get_detector
    from cornerjax.inference.folder import predict_to_folder
    from cornerjax.inference.plan import check_wanted, make_plan, reserved
    from cornerjax.inference.predictor import load
    from cornerjax.workdir import open_workdir

    run = open_workdir(options.workdir)
    check_wanted(options, run.class_names, get_detector(run.config.model.detector))
    plan = make_plan(inputs, Path(options.out), options)
    with reserved(plan), compiled_once():
        with quiet():
            predictor = load(
                run.path, checkpoint=options.checkpoint, compute=as_dict(options.compute), allow_code=options.allow_code
            )
        errors = predict_to_folder(predictor, plan, run.category_ids)
    if errors:
        raise InputError("; ".join(map(str, errors)))
