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

from cornerjax.commands.cli import parse
from cornerjax.commands.process import quiet
from cornerjax.errors import InputError
from cornerjax.inference.inputs import ACCEPTED, find_inputs
from cornerjax.inference.options import Options


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predict(Options):
    # images, videos, folders of both, quoted patterns such as 'photos/**/*.jpg', and camera:N; they stand first
    paths: tyro.conf.Positional[tuple[str, ...]]
    workdir: str  # a folder that cornerjax train or cornerjax weights wrote
    out: str  # folder for the results
    checkpoint: Literal["best", "latest"] = "best"  # the one with the highest AP, or the newest
    allow_code: bool = False  # import the functions that the run's config.json names; only for a folder that you trust


def main(args: Sequence[str]) -> None:
    options = parse(Predict, args, prog="cornerjax predict", description=__doc__)
    if not options.paths:
        raise InputError(f"nothing to look at is given; accepted are {ACCEPTED}, folders, patterns and camera:N")
    inputs = find_inputs(options.paths)

    from cornerjax.inference.folder import make_plan, predict_to_folder
    from cornerjax.inference.predictor import load
    from cornerjax.workdir import open_workdir

    plan = make_plan(inputs, Path(options.out), options)
    run = open_workdir(options.workdir)
    with quiet():
        predictor = load(run.path, checkpoint=options.checkpoint, allow_code=options.allow_code)
    errors = predict_to_folder(predictor, plan, run.category_ids)
    print(f"written: {options.out}")
    if errors:
        raise InputError("; ".join(map(str, errors)))
