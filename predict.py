"""Find objects in photos, videos and cameras: `python predict.py photo.jpg video.mp4 folder --workdir RUN --out found`.

Writes a picture with boxes for every photo, a video with boxes for every video, and detections.json: a list of
{"file", "picture", "boxes" (x1 y1 x2 y2 in pixels), "scores", "classes"}, one a photo or frame; frames have
"frame" too, from 0. A path that does not exist stops it before anything is written; what turns out to be unreadable
is left out and named at the end, with exit code 2; nothing is written if that is all of it. Ctrl-C keeps what was done.
Files of an earlier call in the same folder are replaced, others never: the hidden file .written_by_predict there
names those that are predict.py's.
"""

import dataclasses
from pathlib import Path
from typing import Literal

import tyro

from cornerjax import cli
from cornerjax.errors import InputError
from cornerjax.inference.inputs import ACCEPTED, find_inputs
from cornerjax.inference.options import Options


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predict(Options):
    # images, videos, folders of both, quoted patterns such as 'photos/**/*.jpg', and camera:N; they stand first
    paths: tyro.conf.Positional[tuple[str, ...]]
    workdir: str  # a folder that train.py or cornerjax.weights wrote
    out: str  # folder for the results
    checkpoint: Literal["best", "latest"] = "best"  # the one with the highest AP, or the newest


def main() -> None:
    args = cli.parse(Predict, description=__doc__)
    if not args.paths:
        raise InputError(f"nothing to look at is given; accepted are {ACCEPTED}, folders, patterns and camera:N")
    inputs = find_inputs(args.paths)

    from cornerjax.checkpoint import open_workdir  # not before the paths are right: it takes seconds
    from cornerjax.inference.folder import make_plan, predict_to_folder
    from cornerjax.inference.predictor import load

    plan = make_plan(inputs, Path(args.out), args)
    run = open_workdir(Path(args.workdir))
    errors = predict_to_folder(load(run.path, checkpoint=args.checkpoint), plan, run.category_ids)
    print(f"written: {args.out}")
    if errors:
        raise InputError("; ".join(map(str, errors)))


if __name__ == "__main__":
    cli.run(main)
