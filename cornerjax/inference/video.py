"""Videos and cameras: frames read ahead in a thread, predicted on in batches of one shape, and written as a video."""

import contextlib
import itertools
import math
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from cornerjax.data.images import MOST_PIXELS
from cornerjax.detectors.rows import Detections
from cornerjax.errors import InputError
from cornerjax.files import is_file, temporary_beside
from cornerjax.inference.batching import Batch
from cornerjax.inference.files import reduced
from cornerjax.inference.predictor import Predictor
from cornerjax.threads import ahead

CODEC = "mp4v"  # MPEG-4 part 2: OpenCV's wheels have no H.264 to write with, and their VP9 takes 20 times as long
FPS, MOST_FPS = 25.0, 1000.0  # of a video that does not say, or says more than is to be believed
READ_AHEAD, READ_AHEAD_BYTES = 16, 2**28  # frames decoded before they are needed, and how many where they are large
LOST = 0.02  # share of the frames that a file announces which may be missing: some only estimate their number
Frame = UInt8[np.ndarray, "H W 3"]


class Clip:
    """An open video file or camera.

    Args:
        source: a file, or the number of a camera.
    Attributes:
        name: what its results are reported under.
        fps: frames a second; FPS where the file does not say, or says more than MOST_FPS.
        said_fps: what the file says.
        total: frames that the file announces; None: not known, as of cameras.
    Raises: InputError: it cannot be opened.
    """

    def __init__(self, source: Path | int):
        _silence()
        self.live = isinstance(source, int)
        self.name = clip_name(source)
        self._capture = cv2.VideoCapture(source) if isinstance(source, int) else _opened(source)
        if not self._capture.isOpened():
            self.close()
            expected = "a camera that is there and not in use" if self.live else "an intact MP4, MOV, MKV, AVI or WebM"
            raise InputError(f"cannot open {self.name}{'' if self.live else ' as a video'}; expected {expected}")
        width, height = (self._capture.get(key) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if width * height > MOST_PIXELS:
            self.close()
            size = f"{width:.0f}x{height:.0f}"
            raise InputError(f"{self.name} has frames of {size} pixels; accepted are up to {MOST_PIXELS:,}")
        fps, total = (self._capture.get(key) for key in (cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT))
        self.said_fps = fps
        self.fps = fps if 0 < fps <= MOST_FPS else FPS
        self.total = round(total) if not self.live and math.isfinite(total) and total > 0 else None
        self.read, self._ended, self._changed = 0, False, False

    def frames(self, most: int, stopped: Callable[[], bool] = lambda: False) -> Iterator[Frame]:
        """Yield the frames, BGR, turned as the file says, until the end, `most` of them (0: all), or stopped."""
        size = None
        while not stopped() and not (most and self.read == most):
            there, frame = self._capture.read()
            self._ended, self._changed = not there, there and frame.shape != (size or frame.shape)
            if self._ended or self._changed:
                return
            size = frame.shape
            self.read += 1
            yield frame

    def complaint(self) -> InputError | None:
        """After the last frame: what was wrong with the file."""
        missing = (self.total or 0) - self.read
        if not self.read:
            return InputError(f"{self.name} has no frames; expected an intact video")
        if self._changed:
            return InputError(f"{self.name}: only its first {self.read} frames were taken, the next has another size")
        if self._ended and missing > 2 + LOST * (self.total or 0):
            return InputError(f"{self.name} ends after {self.read} of {self.total} frames; the others are damaged")
        return None

    def close(self) -> None:
        self._capture.release()


def clip_name(source: Path | int) -> str:
    """What a video, or the camera of a number, is called in results and messages."""
    return f"camera:{source}" if isinstance(source, int) else str(source)


def _opened(path: Path) -> Any:
    """A video file, open or not."""
    name = _for_opencv(path)
    if path.exists() and not is_file(path):  # a pipe would be waited for without end
        raise InputError(
            f"cannot open {path} as a video: it is no regular file; expected an intact MP4, MOV or the like"
        )
    # Where frames of an AVI change their size, OpenCV's own reader shows it; with ffmpeg OpenCV stretches them.
    capture = cv2.VideoCapture(name, cv2.CAP_OPENCV_MJPEG)
    return capture if capture.isOpened() else cv2.VideoCapture(name)


def _for_opencv(path: Path) -> str:
    """The absolute path: of others, ffmpeg takes what stands before a colon for a protocol."""
    name = str(path.absolute())
    try:
        name.encode()
    except UnicodeEncodeError:  # it would end the process
        raise InputError(
            f"{path}: OpenCV takes videos under names in UTF-8 only; give it, or its folder, another"
        ) from None
    return name


def _silence() -> None:
    """What goes wrong is said in a sentence of ours."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def predict_frames(
    predictor: Predictor, frames: Iterator[Frame], *, batch: int, max_side: int = 0
) -> Generator[tuple[Frame, Detections]]:
    """Yield (frame, detections) in order; the network is compiled once, the last short batch is filled up.

    Frames are read in a thread, ahead of the device, which works on one batch while the one before it is used;
    the thread has ended when the generator is closed.

    Args:
        frames: BGR, all of one size.
        batch: frames that go through the network together, fewer where they are large.
        max_side: larger frames are reduced to this longer side for the network, in pixels; 0: none.
    Raises: InputError: a frame is smaller than a cell of the network's map.
    """
    waiting: dict[int, Frame] = {}
    first = next(frames, None)
    if first is None:
        return
    count = max(1, min(READ_AHEAD, READ_AHEAD_BYTES // first.nbytes))
    with contextlib.closing(_read_ahead(frames, count)) as ready:
        height, width = reduced(first, max_side).shape[:2]
        bucket = predictor.procedure.bucket(height, width)
        rows = predictor.batches.rows(bucket, batch) if batch > 1 else 1  # one by one, one device is enough
        numbered = enumerate(itertools.chain([first], ready))

        def batches() -> Iterator[Batch]:
            while chunk := dict(itertools.islice(numbered, rows)):
                waiting.update(chunk)
                yield Batch(list(chunk), rows, bucket)

        everything = predictor.batches(*predictor.copies, batches(), lambda index: reduced(waiting[index], max_side))
        for index, found in everything:
            frame = waiting.pop(index)
            yield frame, found.scaled(frame.shape[1] / width, frame.shape[0] / height)


def _read_ahead(frames: Iterable[Frame], count: int) -> Generator[Frame]:
    """Pass frames on that a thread takes, up to so many before they are needed."""
    source = iter(frames)

    def take(_: None) -> list[Frame]:  # empty at the end
        return list(itertools.islice(source, 1))

    with contextlib.closing(ahead(take, itertools.repeat(None), threads=1, count=count)) as taken:
        for frame in itertools.takewhile(bool, taken):
            yield frame[0]


class VideoFile:
    """Writes an MP4; whoever reads it finds all of it.

    MPEG-4 has even sides only: the last column or row of a frame of odd size is there twice.

    Args:
        path: .mp4; its folder is made if missing.
    Raises: InputError: its name cannot be written.
    """

    def __init__(self, path: Path, fps: float):
        _silence()
        self.path, self.fps, self.written = path, fps, 0
        # OpenCV tells the container by the end of the name.
        self._temporary = Path(f"{_for_opencv(temporary_beside(path))}.mp4")
        self._writer: cv2.VideoWriter | None = None

    def write(self, frame: Frame) -> None:
        """Append a frame, BGR; all must have the same size.

        Raises: InputError: the file cannot be written.
        """
        height, width = frame.shape[:2]
        even = cv2.copyMakeBorder(frame, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        if self._writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = self._open((even.shape[1], even.shape[0]))
        self._writer.write(even)
        self.written += 1

    def _open(self, size: tuple[int, int]) -> cv2.VideoWriter:
        for fps in (self.fps, max(1.0, round(self.fps))):  # MPEG-4 has no fps as 1000 / 3
            writer = cv2.VideoWriter(str(self._temporary), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*CODEC), fps, size)
            if writer.isOpened():
                return writer
        raise InputError(f"cannot write {self.path}: no video of {size[0]}x{size[1]} pixels can be started there")

    def complete(self) -> Path:
        """The whole file under a name of its own, before it gets the one that it is to have; there is a frame.

        Raises: InputError: not all of it could be written.
        """
        assert self._writer is not None
        self._writer.release()  # says nothing of a full disk
        written = cv2.VideoCapture(str(self._temporary))
        whole = written.isOpened() and round(written.get(cv2.CAP_PROP_FRAME_COUNT)) == self.written
        written.release()
        if not whole:
            self.discard()
            raise InputError(f"cannot write {self.path}: not all of its frames are on the disk; is it full?")
        return self._temporary

    def publish(self) -> None:
        """Give the complete file its name."""
        self._temporary.replace(self.path)

    def discard(self) -> None:
        """Leave nothing behind."""
        if self._writer is not None:
            self._writer.release()
        self._temporary.unlink(missing_ok=True)
