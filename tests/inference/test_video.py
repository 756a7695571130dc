"""Videos in and out: frames, sizes, what is compiled, and files that are not what they should be."""

import os
import re
import struct
from pathlib import Path

import colour_detector
import cv2
import numpy as np
import pytest
from colour_detector import DETECTOR, NAMES, WEIGHTS, compiled_shapes, draw
from media import FRAMES, FakeCapture, box, read, write

from cornerjax.config import Config, Test
from cornerjax.errors import InputError
from cornerjax.inference import video
from cornerjax.inference.predictor import Predictor
from cornerjax.inference.video import Clip, VideoFile, predict_frames


def new_predictor() -> Predictor:
    return Predictor(DETECTOR, colour_detector.apply, WEIGHTS, {}, Config(test=Test(batch=4)), NAMES)


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_every_frame_has_its_own_boxes_whatever_the_batch(batch):
    predictor = new_predictor()
    everything = list(predict_frames(predictor, iter(FRAMES), batch=batch))
    assert len(everything) == 10
    for i, (frame, found) in enumerate(everything):
        assert frame is FRAMES[i]
        np.testing.assert_allclose(found.boxes, [box(i)], atol=1e-4)
    assert compiled_shapes(predictor) == 1  # the short last batch too


def test_frames_are_reduced_for_the_network_and_boxes_back():
    for i, (frame, found) in enumerate(predict_frames(new_predictor(), iter(FRAMES), batch=4, max_side=32)):
        assert frame.shape == (48, 64, 3)
        np.testing.assert_allclose(found.boxes, [box(i)], atol=1e-4)


def test_few_frames_are_in_memory_at_a_time(monkeypatch):
    monkeypatch.setattr(video, "READ_AHEAD", 4)
    given = []

    def frames():
        for i in range(100):
            given.append(i)
            yield FRAMES[i % 10]

    everything = predict_frames(new_predictor(), frames(), batch=2)
    for used in range(40):
        next(everything)
        assert len(given) <= used + 1 + 4 + 2 * 5  # read ahead, and batches: preprocessed, on the device, being used
    everything.close()


def test_an_error_while_reading_is_not_lost():
    def frames():
        yield FRAMES[0]
        raise InputError("broken")

    with pytest.raises(InputError, match="broken"):
        list(predict_frames(new_predictor(), frames(), batch=4))


@pytest.mark.parametrize(("height", "width"), [(48, 64), (49, 64), (48, 65), (49, 65)])
def test_what_is_written_is_played_back(tmp_path, height, width):
    """Of odd sizes the last row or column is there twice; frames are 24 levels apart, far more than the codec makes."""
    frames = [np.full((height, width, 3), 10 + 24 * i, np.uint8) for i in range(10)]
    played, clip = read(write(tmp_path / "made.mp4", frames, fps=12.5))
    assert (clip.fps, clip.total, len(played)) == (12.5, 10, 10)
    assert clip.complaint() is None
    for i, frame in enumerate(played):
        assert frame.shape == (height + height % 2, width + width % 2, 3)
        np.testing.assert_allclose(frame, 10 + 24 * i, atol=8)  # those that were added are no black border
    assert [path.name for path in tmp_path.iterdir()] == ["made.mp4"]


@pytest.mark.parametrize("fps", [29.97, 23.976, 1000 / 3, 0.5])
def test_the_speed_of_a_video_stays(tmp_path, fps):
    _, clip = read(write(tmp_path / "made.mp4", FRAMES[:2], fps=fps))
    assert clip.fps == pytest.approx(fps, abs=0.5 if fps > 300 else 1e-3)


def test_a_video_is_turned_as_it_says(tmp_path):
    path = write(tmp_path / "made.mp4", [draw(48, 64, (0, 0, 16, 8))] * 3)
    content = bytearray(path.read_bytes())
    matrix = content.find(b"tkhd") + 44
    assert struct.unpack_from(">i", content, matrix)[0] == 1 << 16
    struct.pack_into(">9i", content, matrix, 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)  # 90 degrees clockwise
    path.write_bytes(content)
    frames, _ = read(path)
    assert frames[0].shape == (64, 48, 3)
    assert [frames[0][4, 44, 0] > 200, frames[0][4, 4, 0] > 200] == [True, False]


def test_a_part_of_a_video(tmp_path):
    frames, clip = read(write(tmp_path / "made.mp4", FRAMES), most=4)
    assert len(frames) == 4
    assert clip.complaint() is None


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(InputError, match=r"cannot open .*pipe\.mp4 as a video: it is no regular file"):
        Clip(tmp_path / "pipe.mp4")


@pytest.mark.parametrize("content", [b"", b"no video", b"half"])
def test_a_file_that_is_no_video(tmp_path, content, capfd):
    path = write(tmp_path / "bad.mp4", FRAMES)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content == b"half" else content)
    with pytest.raises(InputError, match=r"cannot open .*bad\.mp4 as a video; expected an intact MP4, MOV"):
        Clip(path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("frames", "total", "complaint"),
    [
        (FRAMES, 10.0, None),
        (FRAMES, 12.0, None),  # some formats only estimate it
        (FRAMES, 30.0, "ends after 10 of 30 frames; the others are damaged"),
        ([], 10.0, "has no frames"),
        ([*FRAMES[:3], draw(40, 64)], 4.0, "only its first 3 frames were taken, the next has another size"),
    ],
)
def test_a_video_that_is_damaged_in_the_middle(monkeypatch, tmp_path, frames, total, complaint):
    FakeCapture.put_in(monkeypatch, frames, total)
    taken, clip = read(tmp_path / "clip.avi")
    assert len(taken) == len([frame for frame in frames if frame.shape == (48, 64, 3)])
    assert clip.fps == 25
    assert (complaint is None) == (clip.complaint() is None)
    assert complaint is None or complaint in str(clip.complaint())


def test_an_avi_whose_frames_change_their_size(tmp_path):
    path, small = tmp_path / "clip.avi", cv2.imencode(".jpg", draw(40, 64))[1].tobytes()
    made = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for _ in range(6):
        made.write(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8))
    made.release()
    content = bytearray(path.read_bytes())
    starts = [found.end() + 4 for found in re.finditer(b"00dc(?=....\xff\xd8)", content, re.DOTALL)]
    for start in starts[4:]:
        content[start : start + len(small)] = small  # shorter than what was there
    path.write_bytes(content)
    frames, clip = read(path)
    assert len(frames) == 4
    assert "only its first 4 frames were taken, the next has another size" in str(clip.complaint())


def test_a_camera_ends_when_it_is_told_to(monkeypatch):
    FakeCapture.put_in(monkeypatch, FRAMES)
    clip = Clip(0)
    assert (clip.name, clip.live, clip.total) == ("camera:0", True, None)
    frames = list(clip.frames(0, lambda: clip.read == 6))
    assert [frame is given for frame, given in zip(frames, FRAMES, strict=False)] == [True] * 6
    assert clip.complaint() is None


def test_a_camera_that_is_not_there(capfd):
    with pytest.raises(InputError, match=r"cannot open camera:97; expected a camera that is there and not in use"):
        Clip(97)
    assert capfd.readouterr().err == ""


def test_a_video_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        write(tmp_path / "file" / "made.mp4", FRAMES)
    monkeypatch.setattr(video, "CODEC", "none")
    with pytest.raises(InputError, match=r"cannot write .*made\.mp4: no video of 64x48 pixels can be started there"):
        write(tmp_path / "made.mp4", FRAMES)
    monkeypatch.undo()
    made = VideoFile(tmp_path / "made.mp4", 10.0)
    made.write(FRAMES[0])
    made.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_is_noticed(small_disk):
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (480, 640, 3), np.uint8) for _ in range(10)]
    with pytest.raises(
        InputError, match=r"cannot write .*made\.mp4: not all of its frames are on the disk; is it full\?"
    ):
        write(small_disk / "made.mp4", noise * 10)
    assert list(small_disk.iterdir()) == []


def test_a_video_with_a_colon_in_its_name(tmp_path, monkeypatch):
    """ffmpeg would take 2024-01-01T12 for a protocol."""
    monkeypatch.chdir(tmp_path)
    write(Path("2024-01-01T12:30:00.mp4"), FRAMES)
    frames, clip = read(Path("2024-01-01T12:30:00.mp4"))
    assert (len(frames), clip.name) == (10, "2024-01-01T12:30:00.mp4")


def test_a_video_whose_name_is_not_utf_8_is_refused(tmp_path):
    """OpenCV ends the process at such a name."""
    write(tmp_path / "made.mp4", FRAMES).rename(tmp_path / "\udcff.mp4")
    for opened in (lambda: Clip(tmp_path / "\udcff.mp4"), lambda: VideoFile(tmp_path / "\udcff.mp4", 10.0)):
        with pytest.raises(InputError, match="OpenCV takes videos under names in UTF-8 only"):
            opened()
