"""Find objects in photos: `python predict.py --workdir runs/shapes --out found photo.jpg folder/`.

Writes a picture with boxes for every photo, and detections.json: a list of {"file", "picture", "boxes" (x1 y1 x2 y2 in
pixels), "scores", "classes"}. A path that does not exist stops it before anything is written; a photo that turns out
to be unreadable is left out and named at the end, with exit code 2; nothing is written if all of them are.
"""

import dataclasses
from pathlib import Path
from typing import Literal

import tyro

from cornerjax import cli
from cornerjax.config import InputError


@dataclasses.dataclass(frozen=True)
class Predict:
    paths: tyro.conf.Positional[tuple[str, ...]]  # images, and folders of images
    workdir: str  # a folder that train.py or cornerjax.weights wrote
    out: str  # folder for the results
    min_score: float = 0.5  # boxes with a lower score are left out
    checkpoint: Literal["best", "latest"] = "best"  # the one with the highest AP, or the newest


def main() -> None:
    args = cli.parse(Predict, description=__doc__)

    from cornerjax.inference.files import find_photos, predict_to_folder  # not before the options are right: slow
    from cornerjax.inference.predictor import load

    if not args.paths:
        raise InputError("no photo given; expected the paths of images or of folders of images")
    photos = find_photos(args.paths)
    errors = predict_to_folder(
        load(args.workdir, checkpoint=args.checkpoint), photos, Path(args.out), min_score=args.min_score
    )
    print(f"{args.out}: detections.json and pictures, {len(photos) - len(errors)} of {len(photos)}")
    if errors:
        raise InputError("; ".join(map(str, errors)))


if __name__ == "__main__":
    cli.run(main)
