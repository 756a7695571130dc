"""How fast are videos looked at, and is what is written what was seen?

A video that pans over generated shapes, or over given photos: its frames a second when it is only read, when boxes are
found in frames that are in memory already, and with everything that predict.py does, in turn, in one process. Then the
drawn video is played back and compared, frame by frame, with boxes drawn on the frames of the input: the mean absolute
difference is the codec's; that to the next frame is what a shift by one would make.

python benchmarks/video.py runs/shapes-0 [--photos PHOTO ...]
"""

import collections
import contextlib
import io
import json
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import tyro

import cornerjax
from cornerjax.commands.cli import run
from cornerjax.data.images import load_image
from cornerjax.data.shapes import write_shapes
from cornerjax.drawing import draw_boxes, sheet
from cornerjax.inference.folder import predict_to_folder
from cornerjax.inference.inputs import find_inputs
from cornerjax.inference.options import Options
from cornerjax.inference.plan import make_plan
from cornerjax.inference.video import Clip, VideoFile, predict_frames

STEP_PX = 2  # that the view moves each frame


def panned(scene: np.ndarray, width: int, height: int, count: int) -> list[np.ndarray]:
    """Views of a scene, from left to right and back."""
    room = scene.shape[1] - width
    places = [room - abs(room - i * STEP_PX % (2 * room)) for i in range(count)]
    return [np.ascontiguousarray(scene[:height, x : x + width]) for x in places]


def frames_of(photos: tuple[Path, ...], side: int, count: int, folder: Path) -> list[np.ndarray]:
    """Square frames from the photos, or from a row of generated shapes."""
    if not photos:
        shapes = write_shapes(folder / "shapes", seed=0, train=1, val=8)
        row = sheet([load_image(path) for path in sorted((shapes / "images" / "val").iterdir())], columns=8, gap_px=0)
        scene = row
    else:
        tall = [load_image(path) for path in photos]
        scene = sheet([cv2.resize(p, (side * p.shape[1] // p.shape[0], side)) for p in tall], columns=99, gap_px=0)
    factor = side / scene.shape[0]
    scene = cv2.resize(scene, None, fx=factor, fy=factor)
    return panned(scene, side, side, count)


def read(video: Path) -> list[np.ndarray]:
    with contextlib.closing(Clip(video)) as clip:
        return list(clip.frames(0))


def main(
    workdir: tyro.conf.Positional[Path],
    photos: tuple[Path, ...] = (),
    side: int = 256,
    count: int = 96,
    batch: int = 8,
    rounds: int = 5,
) -> None:
    """Measure; see the top of the file.

    Args:
        workdir: a trained run.
        photos: to pan over, in place of generated shapes.
        side: height and width of the frames, in pixels.
        count: frames.
        batch: frames that go through the network together.
        rounds: times that both ways are timed.
    """
    predictor = cornerjax.load(workdir)
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stderr(io.StringIO()):
        folder = Path(name)
        made = VideoFile(folder / "pan.mp4", 25.0)
        for frame in frames_of(photos, side, count, folder):
            made.write(frame)
        made.finish()
        times: dict[str, list[float]] = {"reading": [], "finding": [], "predict.py": []}
        for number in range(rounds + 1):  # the first one compiles
            for way, taken in times.items():
                start = time.perf_counter()
                if way == "reading":
                    frames = read(made.path)
                elif way == "finding":
                    collections.deque(predict_frames(predictor, iter(frames), batch=batch), maxlen=0)
                else:
                    plan = make_plan(find_inputs([made.path]), folder / "out", Options(batch=batch))
                    with contextlib.redirect_stdout(io.StringIO()):
                        predict_to_folder(predictor, plan, ())
                taken += [time.perf_counter() - start] if number else []
        report(times, frames)
        check(frames, folder / "out", predictor.class_names)


def report(times: dict[str, list[float]], frames: list[np.ndarray]) -> None:
    print(f"{len(frames)} frames of {frames[0].shape[1]}x{frames[0].shape[0]} pixels")
    for way, taken in times.items():
        ratios = np.array(taken) / np.array(times["finding"])
        print(
            f"{way:10s} {len(frames) / np.median(taken):7.1f} frames/s, "
            f"{np.median(ratios):.3f} times as long as finding ({ratios.min():.3f} to {ratios.max():.3f})"
        )


def check(frames: list[np.ndarray], out: Path, names: tuple[str, ...]) -> None:
    """Compare the drawn video with boxes drawn here, from detections.json."""
    entries, played = json.loads((out / "detections.json").read_text()), read(out / "pan.mp4")
    expected = []
    for frame, entry in zip(frames, entries, strict=True):
        classes = np.array([names.index(name) for name in entry["classes"]], np.int32)
        boxes, scores = np.array(entry["boxes"], np.float32).reshape(-1, 4), np.array(entry["scores"], np.float32)
        expected.append(draw_boxes(frame, boxes, classes, class_names=names, scores=scores, enlarge=False))

    def apart(there: list[np.ndarray], here: list[np.ndarray]) -> float:
        return float(np.mean([cv2.absdiff(a, b).mean() for a, b in zip(there, here, strict=True)]))

    boxes = sum(len(entry["boxes"]) for entry in entries)
    print(f"frames written and played back: {len(played)} of {len(frames)}, boxes: {boxes}")
    print(
        f"mean absolute difference to what was drawn: {apart(played, expected):.2f} of 255; "
        f"to the next frame: {apart(played[:-1], expected[1:]):.2f}; "
        f"to the frame without boxes: {apart(played, frames):.2f}"
    )


if __name__ == "__main__":
    run(lambda: tyro.cli(main))
