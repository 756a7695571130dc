"""What predict.py does: photos, videos and cameras in, a folder of drawn pictures and results out."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from cornerjax.detectors.overlay import Evidence
from cornerjax.detectors.rows import Detections
from cornerjax.drawing import enlarged
from cornerjax.errors import InputError, unusable
from cornerjax.files import sha256_of
from cornerjax.inference.files import Prediction, as_jpeg, predict_files, reduced
from cornerjax.inference.overlays import draw, find_evidence
from cornerjax.inference.plan import Plan, check_wanted
from cornerjax.inference.predictor import Predictor
from cornerjax.inference.results import Entry, write_results
from cornerjax.inference.video import MOST_FPS, Clip, VideoFile, clip_name, predict_frames
from cornerjax.inference.written import note, write
from cornerjax.progress import progress
from cornerjax.text import plain
from cornerjax.threads import ahead

DRAWING = 4  # threads that draw, and pictures drawn before they are written
Image = UInt8[np.ndarray, "_ _ 3"]  # BGR


def predict_to_folder(predictor: Predictor, plan: Plan, category_ids: Sequence[int]) -> list[InputError]:
    """Write a drawn picture of every photo and frame, and the results, last.

    Ctrl-C ends it after the photo or frame that it is at. However it ends, what was done until then has its results.

    Args:
        plan: its folder is reserved.
        category_ids: the data set's own number of each class, for COCO's results.
    Returns: one error for each photo or video that could not be read, or not to its end; all the others are written.
    Raises: InputError: there is nothing to write, or it cannot be written; the options name a class or an overlay that
        the predictor lacks. KeyboardInterrupt: there would have been more to do.
    """
    check_wanted(plan.options, predictor.class_names, predictor.detector)
    with _until_interrupted() as stopped:
        job = _Job(predictor, plan, stopped)
        try:
            try:
                job.photos()
                job.clips()
            finally:  # what was done until a full disk, or the second Ctrl-C, has its results
                if job.entries:
                    write_results(plan.out, job.entries, plan.options.results, category_ids)
        except OSError as e:
            raise unusable(str(plan.out), e) from None
        if job.errors and not job.entries:
            raise InputError("; ".join(map(str, job.errors)))
        if job.cut_short:
            print(f"stopped: {plan.out} has the results until then")
            raise KeyboardInterrupt
    if any(entry.picture or plan.options.results for entry in job.entries):
        print(f"written: {plan.out}")
    return job.errors


class _Seen(NamedTuple):
    """A photo or frame, and what is to be drawn of it: all that takes the device."""

    image: Image
    found: Detections  # in pixels of `size`
    size: tuple[int, int]  # height and width
    evidence: Evidence | None = None  # in pixels of `inspected`
    inspected: tuple[int, int] = (0, 0)  # width and height


@contextlib.contextmanager
def _until_interrupted() -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether Ctrl-C was pressed; the second one ends the process as usual."""
    pressed = threading.Event()

    def hear(number: int, frame: FrameType | None) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()

    if threading.current_thread() is not threading.main_thread():  # only there are signals heard
        yield pressed.is_set
        return
    before = signal.signal(signal.SIGINT, hear)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)


class _Job:
    """Goes through the plan; keeps what was found and what went wrong."""

    def __init__(self, predictor: Predictor, plan: Plan, stopped: Callable[[], bool]):
        self._predictor, self._plan, self._options, self._stopped = predictor, plan, plan.options, stopped
        self.entries: list[Entry] = []
        self.errors: list[InputError] = []
        self.cut_short = False  # there would have been more to do

    def photos(self) -> None:
        paths, out = self._plan.inputs.photos, self._plan.out
        everything = map(self._photo, predict_files(self._predictor, paths, max_side=self._options.max_side))
        work = zip(self._plan.names, everything, strict=False)
        with contextlib.closing(ahead(self._jpeg, work, threads=DRAWING, count=DRAWING)) as finished:
            of_each = zip(paths, self._plan.names, self._plan.ids, finished, strict=False)
            for path, name, image_id, (seen, picture) in progress(of_each, total=len(paths), what="photos"):
                self.errors += [one for one in (seen, picture) if isinstance(one, InputError)]
                drawn = None
                if isinstance(picture, bytes):
                    write(out, name, picture)
                    drawn = name
                if not isinstance(seen, InputError):
                    self.entries.append(Entry(str(path), drawn, None, image_id, seen.found))
                if self._stopped():
                    self.cut_short = path != paths[-1]
                    return

    def _photo(self, prediction: Prediction | InputError) -> _Seen | InputError:
        if isinstance(prediction, InputError):
            return prediction
        return self._seen(prediction.photo.image, prediction.found, prediction.photo.size)

    def _jpeg(self, work: tuple[str, _Seen | InputError]) -> tuple[_Seen | InputError, bytes | InputError | None]:
        """A photo and its picture, if there is to be one, or what is wrong with each; runs in threads."""
        name, seen = work
        if isinstance(seen, InputError) or not self._options.pictures:
            return seen, None
        try:
            return seen, as_jpeg(self._plan.out / name, self._drawn(seen, enlarged(seen.image)[0]))
        except InputError as e:  # its boxes are kept
            return seen, e

    def clips(self) -> None:
        inputs = self._plan.inputs
        names = self._plan.names[len(inputs.photos) :]
        sources: list[Path | int] = [*inputs.videos, *inputs.cameras]
        for source, name in zip(sources, names, strict=True):
            if self._stopped():
                self.cut_short = True
                return
            try:
                clip = Clip(source)
                with contextlib.closing(clip):
                    self._clip(clip, name)
                    complaint = None if self._stopped() else clip.complaint()
            except InputError as e:
                called = clip_name(source)
                complaint = e if called in str(e) else InputError(f"{called}: {e}")
            if complaint:
                self.errors.append(complaint)

    def _clip(self, clip: Clip, name: str) -> None:
        options, writer = self._options, VideoFile(self._plan.out / name, clip.fps)
        if options.pictures and clip.said_fps > MOST_FPS:
            rates = f"{clip.said_fps:g} frames a second; {plain(name)} gets {clip.fps:g}"
            print(f"{plain(clip.name)} says that it has {rates}")
        frames = clip.frames(options.frames, self._stopped)
        batch = 1 if clip.live else options.batch
        total = min(clip.total or options.frames, options.frames or clip.total or 0) or None
        clock, count, next_id = _Clock(), len(self.entries), len(self._plan.ids) + self._frames_before() + 1
        try:
            # Closed here, however it ends: OpenCV crashes if a file is closed while a thread reads it.
            with (
                contextlib.closing(
                    predict_frames(self._predictor, frames, batch=batch, max_side=options.max_side)
                ) as everything,
                contextlib.closing(self._frames(everything)) as finished,
            ):
                for number, (found, drawn) in enumerate(progress(finished, total=total, what=clip.name)):
                    clock.tick()
                    if options.pictures:
                        writer.write(drawn)
                    drawn_in = name if options.pictures else None
                    self.entries.append(Entry(clip.name, drawn_in, number, next_id + number, found))
                    if self._stopped() and not clip.live:
                        break  # those that were read ahead do not count
            if writer.written:
                note(self._plan.out, name, sha256_of(writer.complete()))
                writer.publish()
        except BaseException:
            writer.discard()
            del self.entries[count:]
            raise
        done = len(self.entries) - count
        if self._stopped() and not clip.live:
            self.cut_short = True
            print(f"{plain(clip.name)}: stopped after {done}{f' of {total}' if total else ''} frames, which are kept")
        if done:
            print(f"{plain(clip.name)}: {done} frames, {clock.rate():.1f} frames/s")

    def _frames(self, everything: Iterable[tuple[Image, Detections]]) -> Generator[tuple[Detections, Image]]:
        """What is wanted of each frame, and the frame with its drawings, made in threads."""

        def drawn(seen: _Seen) -> tuple[Detections, Image]:
            return seen.found, self._drawn(seen, seen.image) if self._options.pictures else seen.image

        work = (self._seen(frame, found, (frame.shape[0], frame.shape[1])) for frame, found in everything)
        with contextlib.closing(ahead(drawn, work, threads=DRAWING, count=DRAWING)) as frames:
            yield from frames

    def _frames_before(self) -> int:
        return sum(entry.frame is not None for entry in self.entries)

    def _wanted(self, found: Detections) -> Detections:
        found = found.above(self._options.min_score)
        return found.of_classes(self._options.classes) if self._options.classes else found

    def _seen(self, image: Image, found: Detections, size: tuple[int, int]) -> _Seen:
        """Of all boxes of an image, in pixels of `size`, those that are wanted, and what its overlays show."""
        seen = _Seen(image, self._wanted(found), size)
        if not (self._options.pictures and self._options.overlay):
            return seen
        smaller = reduced(image, self._options.max_side)
        inspected = smaller.shape[1], smaller.shape[0]
        return seen._replace(evidence=find_evidence(self._predictor, smaller), inspected=inspected)

    def _drawn(self, seen: _Seen, canvas: Image) -> Image:
        """Draw boxes and overlays on the canvas, the image enlarged; runs in threads."""
        height, width = canvas.shape[:2]
        found = seen.found.scaled(width / seen.size[1], height / seen.size[0])
        evidence = seen.evidence and seen.evidence.scaled(width, height, of=seen.inspected)
        return draw(self._predictor, canvas, found, evidence, self._options.overlay)


class _Clock:
    """Frames a second from the first frame on: what comes before it is compiling."""

    def __init__(self) -> None:
        self._start = self._now = 0.0
        self._ticks = 0

    def tick(self) -> None:
        self._now = time.perf_counter()
        self._start = self._start or self._now
        self._ticks += 1

    def rate(self) -> float:
        return (self._ticks - 1) / max(self._now - self._start, 1e-9)
