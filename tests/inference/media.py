"""Photos and videos made for tests, what stands for a camera, and what is in a folder of results."""

import json

import cv2
from colour_detector import draw

from cornerjax.inference.video import Clip, VideoFile
from cornerjax.inference.written import OURS

BLUE, GREEN = (3, 5, 20, 30), (15, 8, 37, 41)  # in every photo


def box(i: int) -> tuple[int, int, int, int]:
    return 4 * i, 8, 4 * i + 16, 24


FRAMES = [draw(48, 64, box(i)) for i in range(10)]


def write(path, frames, fps=10.0):
    made = VideoFile(path, fps)
    for frame in frames:
        made.write(frame)
    made.complete()
    made.publish()
    return path


def read_picture(path):
    picture = cv2.imread(str(path))
    assert picture is not None
    return picture


def read(path, most=0):
    clip = Clip(path)
    frames = list(clip.frames(most))
    clip.close()
    return frames, clip


class FakeCapture:
    """Stands for cv2.VideoCapture."""

    frames = FRAMES
    total = 10.0
    fps = 0.0

    def __init__(self, source):
        self.left = iter(self.frames)

    @classmethod
    def put_in(cls, monkeypatch, frames, total=10.0, fps=0.0):
        """Cameras, and files whose names end in .avi, have these frames; they announce so many, and such a speed."""
        monkeypatch.setattr(cls, "frames", frames)
        monkeypatch.setattr(cls, "total", total)
        monkeypatch.setattr(cls, "fps", fps)
        real = cv2.VideoCapture
        monkeypatch.setattr(
            cv2, "VideoCapture", lambda s, *api: cls(s) if not str(s).endswith(".mp4") else real(s, *api)
        )

    def isOpened(self):  # noqa: N802
        return True

    def get(self, key):
        return {cv2.CAP_PROP_FPS: self.fps, cv2.CAP_PROP_FRAME_COUNT: self.total}.get(key, 8.0)

    def read(self):
        frame = next(self.left, None)
        return frame is not None, frame

    def release(self):
        self.left = iter(())


def entries_of(out):
    return json.loads((out / "detections.json").read_text())


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != OURS)
