"""What is in the folder of results after Ctrl-C and after failures, and which files there may be replaced."""

import os
import signal
import threading

import pytest
from media import FRAMES, FakeCapture, entries_of, names, read, write

from cornerjax.errors import InputError, RunError
from cornerjax.inference import folder as folder_module
from cornerjax.inference.video import VideoFile
from cornerjax.inference.written import only_writer


def press_at(monkeypatch, number):
    """Ctrl-C while the photo or frame of this number, from 1, is written; others are drawn meanwhile."""
    calls = []
    for place, name in ((VideoFile, "write"), (folder_module, "write")):
        write = getattr(place, name)

        def writing(*args, write=write):
            calls.append(1)
            if len(calls) == number:
                os.kill(os.getpid(), signal.SIGINT)
            return write(*args)

        monkeypatch.setattr(place, name, writing)


def test_ctrl_c_keeps_the_part_of_a_video_that_is_done(predict, photos, clip, tmp_path, monkeypatch, capsys):
    other = write(tmp_path / "z.mp4", FRAMES)
    press_at(monkeypatch, 4)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        predict([photos / "b.jpg", clip, other], tmp_path / "out")
    assert signal.getsignal(signal.SIGINT) is before
    said = capsys.readouterr().out
    assert f"{clip}: stopped after 3 of 10 frames, which are kept" in said
    assert f"stopped: {tmp_path / 'out'} has the results until then" in said
    assert [entry.get("frame") for entry in entries_of(tmp_path / "out")] == [None, 0, 1, 2]
    assert names(tmp_path / "out") == ["b.jpg", "clip.mp4", "detections.json"]
    assert len(read(tmp_path / "out" / "clip.mp4")[0]) == 3


def test_ctrl_c_keeps_the_photos_that_are_done(predict, photos, tmp_path, monkeypatch):
    press_at(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        predict([photos], tmp_path / "out")
    assert [entry["picture"] for entry in entries_of(tmp_path / "out")] == ["a.jpg", "b.jpg"]
    assert names(tmp_path / "out") == ["a.jpg", "b.jpg", "detections.json"]  # the third was drawn, perhaps


def test_ctrl_c_twice_leaves_no_half_video(predict, clip, tmp_path, monkeypatch):
    press_at(monkeypatch, 3)
    real = os.kill
    monkeypatch.setattr(os, "kill", lambda *given: (real(*given), real(*given)))
    with pytest.raises(KeyboardInterrupt):
        predict([clip], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_ctrl_c_is_how_a_camera_ends(predict, tmp_path, monkeypatch, capsys):
    press_at(monkeypatch, 5)
    FakeCapture.put_in(monkeypatch, FRAMES * 20)
    assert predict(["camera:0"], tmp_path / "out") == []
    taken = len(entries_of(tmp_path / "out"))
    assert 5 <= taken <= 5 + 30  # and those that had been read ahead
    assert f"camera:0: {taken} frames, " in capsys.readouterr().out


def test_only_files_of_an_earlier_call_are_replaced(predict, photos, tmp_path):
    out, given = tmp_path / "out", [photos / "a.PNG", photos / "b.jpg"]
    predict(given, out)
    predict(given, out)
    (out / "c.jpg").write_text("mine")
    before = {path: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(InputError, match=r"c\.jpg is there already; give another folder"):
        predict([photos], out)
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    predict([photos], out, pictures=False)


def test_a_folder_that_another_call_writes_into_is_refused(predict, photos, tmp_path):
    with only_writer(tmp_path / "out"), pytest.raises(InputError, match="another call writes into"):
        predict([photos], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_json_of_others_is_not_replaced(predict, photos, tmp_path):
    (tmp_path / "detections.json").write_text("[]")
    with pytest.raises(InputError, match=r"detections\.json is there already; give another folder"):
        predict([photos], tmp_path)
    assert (tmp_path / "detections.json").read_text() == "[]"
    assert not (tmp_path / "a.jpg").exists()


def test_a_file_that_is_given_is_never_overwritten(predict, photos, clip):
    before = (photos / "b.jpg").read_bytes(), clip.read_bytes()
    for given, name in [(photos / "b.jpg", "b.jpg"), (clip, "clip.mp4")]:
        with pytest.raises(InputError, match=rf"{name} would overwrite a file that is read"):
            predict([given], given.parent)
    assert ((photos / "b.jpg").read_bytes(), clip.read_bytes()) == before
    assert not (photos / "detections.json").exists()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), MemoryError()])
def test_a_failure_keeps_what_was_done_and_the_same_command_goes_on(predict, photos, tmp_path, monkeypatch, error):
    out = tmp_path / "out"
    predict([photos], out)
    write = folder_module.write
    with monkeypatch.context() as failing:
        failing.setattr(
            folder_module, "write", lambda out, name, jpeg: write(out, name, jpeg) or fail(out / name, error)
        )
        with pytest.raises(RunError if isinstance(error, OSError) else MemoryError):
            predict([photos], out)
    assert [entry["picture"] for entry in entries_of(out)] == ["a.jpg"]
    assert predict([photos], out) == []  # c.jpg is of the first call, b.jpg of the one that failed
    assert len(entries_of(out)) == 3


def fail(path, error):
    if path.name == "b.jpg":
        raise error


def test_files_are_ours_also_if_the_results_cannot_be_written(predict, photos, clip, tmp_path, monkeypatch):
    with monkeypatch.context() as full:
        full.setattr(
            folder_module, "write_results", lambda *given: fail(photos / "b.jpg", OSError(28, "No space left"))
        )
        with pytest.raises(RunError, match="No space left"):
            predict([photos, clip], tmp_path / "out")
    assert names(tmp_path / "out") == ["a.jpg", "b.jpg", "c.jpg", "clip.mp4"]
    for _ in range(2):
        assert predict([photos, clip], tmp_path / "out", results=("csv",)) == []


def test_a_video_is_not_closed_while_it_is_read(predict, tmp_path, monkeypatch):
    """A thread reads ahead when drawing fails, and is given every chance to be in the middle of a read."""
    reading, released, closed_while = threading.Event(), threading.Event(), []

    class SlowCapture(FakeCapture):
        def read(self):
            reading.set()
            released.wait(0.01)
            reading.clear()
            return super().read()

        def release(self):
            closed_while.append(reading.is_set())
            released.set()

    SlowCapture.put_in(monkeypatch, FRAMES * 20, total=200.0)
    monkeypatch.setattr(folder_module, "draw", lambda *given, **options: fail(tmp_path / "b.jpg", OSError(28, "full")))
    (tmp_path / "clip.avi").write_text("")
    with pytest.raises(RunError, match="No space left"):
        predict([tmp_path / "clip.avi"], tmp_path / "out", batch=1)
    assert closed_while == [False]
