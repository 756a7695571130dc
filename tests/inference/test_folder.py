"""predict.py without its command line: photos, videos and cameras in; pictures and results out; what it refuses."""

import contextlib
import errno
import json
import os
import re
import threading

import cv2
import numpy as np
import pytest
from colour_detector import NAMES, draw
from media import BLUE, FRAMES, FakeCapture, box, entries_of, names, read, read_picture, write

from cornerjax.drawing import draw_boxes
from cornerjax.errors import InputError, RunError
from cornerjax.inference import folder
from cornerjax.inference.files import predict_files


def test_pictures_and_a_json(predict, photos, tmp_path):
    out = tmp_path / "new" / "out"
    assert predict([photos], out, min_score=0.85) == []
    assert names(out) == ["a.jpg", "b.jpg", "c.jpg", "detections.json"]
    entries = entries_of(out)
    assert [entry["file"] for entry in entries] == [str(photos / name) for name in ("a.PNG", "b.jpg", "c.jpg")]
    assert set(entries[0]) == {"file", "picture", "boxes", "scores", "classes"}
    assert entries[0]["picture"] == "a.jpg"
    assert entries[0]["classes"] == ["blue"]  # green has 0.8
    np.testing.assert_allclose(entries[0]["boxes"], [BLUE], atol=1e-4)
    np.testing.assert_allclose(entries[0]["scores"], [0.9])
    assert read_picture(out / "a.jpg").shape == (50 * 8, 60 * 8, 3)


def test_photos_and_videos_together(predict, photos, clip, tmp_path, capsys):
    out = tmp_path / "out"
    assert predict([clip, photos / "b.jpg"], out, results=("csv", "coco", "json")) == []
    assert names(out) == ["b.jpg", "clip.mp4", "detections.csv", "detections.json", "results.json"]
    entries = entries_of(out)
    assert [(e["picture"], e.get("frame"), e["image_id"]) for e in entries] == [
        ("b.jpg", None, 1),
        *(("clip.mp4", i, i + 2) for i in range(10)),
    ]
    for i, entry in enumerate(entries[1:]):
        np.testing.assert_allclose(entry["boxes"], [box(i)], atol=4)  # what the codec makes of its edge
    results = json.loads((out / "results.json").read_text())
    assert [result["image_id"] for result in results] == [1, 1, *range(2, 12)]
    assert {result["category_id"] for result in results} == {10, 20}
    assert len((out / "detections.csv").read_text().splitlines()) == 13
    assert "clip.mp4: 10 frames, " in capsys.readouterr().out


def test_every_frame_of_the_drawn_video_has_its_own_boxes(predict, clip, tmp_path):
    """Each played frame is nearer to boxes drawn on that frame of the input than to those of the frames beside it."""
    predict([clip], tmp_path / "out")
    entries, (given, before), (played, after) = (
        entries_of(tmp_path / "out"),
        read(clip),
        read(tmp_path / "out/clip.mp4"),
    )
    assert (after.fps, after.total, len(played)) == (before.fps, before.total, 10)
    drawn = []
    for frame, entry in zip(given, entries, strict=True):
        boxes, scores = np.array(entry["boxes"], np.float32), np.array(entry["scores"], np.float32)
        drawn.append(draw_boxes(frame, boxes, np.zeros(1, int), class_names=NAMES, scores=scores, enlarge=False))
    apart = np.array([[cv2.absdiff(a, b).mean() for b in drawn] for a in played])
    np.testing.assert_array_equal(apart.argmin(1), range(10))
    assert apart.diagonal().mean() < apart[~np.eye(10, dtype=bool)].min() / 2


def test_pictures_are_drawn_in_threads_several_at_a_time(predict, photos, clip, tmp_path, monkeypatch):
    draw, together = folder.draw, threading.Barrier(3, timeout=60)

    def drawing(*given):
        assert threading.current_thread() is not threading.main_thread()
        with contextlib.suppress(threading.BrokenBarrierError):
            together.wait()
        return draw(*given)

    monkeypatch.setattr(folder, "draw", drawing)
    assert predict([photos, clip], tmp_path / "out", frames=6) == []
    assert not together.broken
    assert [entry["picture"] for entry in entries_of(tmp_path / "out")][:4] == ["a.jpg", "b.jpg", "c.jpg", "clip.mp4"]


def test_only_what_is_asked_for(predict, photos, clip, tmp_path):
    predict([photos, clip], tmp_path / "out", pictures=False, classes=("green",), frames=3, results=("csv", "json"))
    assert names(tmp_path / "out") == ["detections.csv", "detections.json"]
    entries = entries_of(tmp_path / "out")
    assert [entry.get("frame") for entry in entries] == [None, None, None, 0, 1, 2]
    assert {entry["picture"] for entry in entries} == {None}
    assert [entry["classes"] for entry in entries] == [["green"]] * 3 + [[]] * 3


def test_a_class_that_there_is_not(predict, photos, tmp_path):
    with pytest.raises(InputError, match=r"no class 'red' in this run; its classes are: blue, green$"):
        predict([photos], tmp_path / "out", classes=("blue", "red"))
    assert not (tmp_path / "out").exists()


def test_reduced_photos_are_drawn_reduced(predict, photos, tmp_path):
    cv2.imwrite(str(photos / "large.png"), draw(800, 1200, (80, 160, 400, 600)))
    predict([photos / "large.png"], tmp_path / "out", max_side=600)
    np.testing.assert_allclose(entries_of(tmp_path / "out")[0]["boxes"], [(80, 160, 400, 600)], atol=2)
    picture = read_picture(tmp_path / "out" / "large.jpg")
    assert picture.shape == (400, 600, 3)
    assert picture[200, 120].min() < 90  # a quarter of the blue box, where it has no border
    assert (cv2.absdiff(picture[150, 36:45], np.full((9, 3), 60, np.uint8)).max(1) > 60).any()  # its left border


@pytest.mark.parametrize(
    ("size", "box", "max_side", "middle"),
    [
        ((50, 60), BLUE, 0, (92, 140)),  # drawn eight times as large
        ((800, 1200), (80, 160, 400, 600), 600, (120, 190)),  # reduced for the network
    ],
)
def test_overlays_are_drawn_where_the_boxes_are(predict, tmp_path, size, box, max_side, middle):
    """Nothing else of the picture changes than what is round the keypoint, the middle of the box."""
    cv2.imwrite(str(tmp_path / "a.png"), draw(size[0], size[1], box))
    pictures = []
    for overlay in ((), ("keypoints",)):
        out = tmp_path / f"out{len(overlay)}"
        predict([tmp_path / "a.png"], out, max_side=max_side, overlay=overlay)
        pictures.append(read_picture(out / "a.jpg"))
    y, x = np.nonzero(cv2.absdiff(pictures[0], pictures[1]).max(2) > 60)
    for places, at in ((x, middle[0]), (y, middle[1])):
        assert places.min() < at < places.max()
        assert np.abs(places - at).max() < 80


def test_an_overlay_that_there_is_not(predict, photos, tmp_path):
    with pytest.raises(InputError, match=r"^colours has no overlay 'tags'; it has: keypoints$"):
        predict([photos], tmp_path / "out", overlay=("keypoints", "tags"))
    assert not (tmp_path / "out").exists()


def test_a_broken_file_is_named_and_the_others_are_done(predict, photos, clip, tmp_path):
    (photos / "b.jpg").write_bytes(b"no image")
    (photos / "bad.mp4").write_bytes(b"no video")
    cv2.imwrite(str(photos / "d.png"), np.zeros((2, 50, 3), np.uint8))
    small = write(photos / "small.mp4", [np.zeros((2, 64, 3), np.uint8)] * 3)
    errors = predict([photos, clip], tmp_path / "out")
    assert [str(error).split(":")[0].split(";")[0] for error in errors] == [
        f"cannot read {photos / 'b.jpg'} as an image",
        "image of 50x2 pixels",
        f"cannot open {photos / 'bad.mp4'} as a video",
        str(small),
    ]
    assert "image of 64x2 pixels" in str(errors[-1])
    assert names(tmp_path / "out") == ["a.jpg", "c.jpg", "clip.mp4", "detections.json"]


def test_written_is_said_where_something_is(predict, photos, tmp_path, capsys):
    cv2.imwrite(str(photos / "wide.png"), draw(8, 65_600, (100, 0, 200, 8)))
    for given, results, anything in [
        ("wide.png", (), False),  # neither its picture, which cannot be encoded, nor its boxes
        ("wide.png", ("csv",), True),
        ("b.jpg", (), True),
    ]:
        predict([photos / given], tmp_path / "out", results=results)
        assert (f"written: {tmp_path / 'out'}\n" in capsys.readouterr().out) == anything == (tmp_path / "out").exists()


def test_a_picture_that_cannot_be_encoded_is_an_error_of_its_photo(predict, photos, tmp_path):
    """Its boxes are kept."""
    cv2.imwrite(str(photos / "b.png"), draw(8, 65_600, (100, 0, 200, 8)))
    (photos / "b.jpg").unlink()
    (error,) = predict([photos], tmp_path / "out")
    assert re.fullmatch(
        r"cannot write .*b\.jpg: a JPEG of \d+x\d+ pixels; accepted are sides of up to 65500", str(error)
    )
    assert names(tmp_path / "out") == ["a.jpg", "c.jpg", "detections.json"]
    assert [entry["picture"] for entry in entries_of(tmp_path / "out")] == ["a.jpg", None, "c.jpg"]
    assert [len(entry["boxes"]) for entry in entries_of(tmp_path / "out")] == [1 + 1, 1, 1 + 1]


def test_a_full_disk_is_no_mistake_of_the_user(predict, photos, tmp_path, monkeypatch):
    def full(*given):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(folder, "write", full)
    with pytest.raises(RunError, match=r"^cannot write .*out: No space left on device; make room and run"):
        predict([photos], tmp_path / "out")


def test_a_video_that_ends_early_is_kept_as_far_as_it_goes(predict, tmp_path, monkeypatch):
    FakeCapture.put_in(monkeypatch, FRAMES, total=50.0)
    (tmp_path / "clip.avi").write_text("")
    errors = predict([tmp_path / "clip.avi"], tmp_path / "out", pictures=False)
    assert "clip.avi ends after 10 of 50 frames" in str(errors[0])
    assert len(entries_of(tmp_path / "out")) == 10


def test_nothing_is_written_if_nothing_can_be_read(predict, tmp_path):
    for name in ("a.jpg", "b.mp4"):
        (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"cannot read .*a\.jpg as an image.*; cannot open .*b\.mp4 as a video"):
        predict([tmp_path / "a.jpg", tmp_path / "b.mp4"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_speed_that_is_not_to_be_believed_is_said(predict, tmp_path, monkeypatch, capsys):
    """Whatever the name of the video would do to a terminal."""
    FakeCapture.put_in(monkeypatch, FRAMES, fps=90_000.0)
    (tmp_path / "\x1b[2Jclip.avi").write_text("")
    written = []
    monkeypatch.setattr(folder.VideoFile, "write", lambda made, frame: written.append(made.fps))
    assert predict([tmp_path / "\x1b[2Jclip.avi"], tmp_path / "out") == []
    assert written == [25.0] * 10
    name = r"\x1b[2Jclip"
    said = f"{tmp_path}/{name}.avi says that it has 90000 frames a second; {name}.mp4 gets 25\n"
    assert said in capsys.readouterr().out


def test_a_camera_ends_after_so_many_frames(predict, tmp_path, monkeypatch):
    FakeCapture.put_in(monkeypatch, FRAMES * 20)
    assert predict(["camera:0"], tmp_path / "out", frames=7, pictures=False) == []
    entries = entries_of(tmp_path / "out")
    assert [(entry["file"], entry["frame"]) for entry in entries] == [("camera:0", i) for i in range(7)]
    np.testing.assert_allclose(entries[6]["boxes"], [box(6)], atol=1e-4)


def test_a_photo_whose_name_is_not_utf_8(predict, photos, tmp_path):
    (photos / "b.jpg").rename(photos / "\udcff.jpg")
    predict([photos], tmp_path / "out", results=("json", "csv", "coco"))
    assert entries_of(tmp_path / "out")[2]["picture"] == "\udcff.jpg"
    assert b"\xff.jpg" in (tmp_path / "out" / "detections.csv").read_bytes()
    predict([photos], tmp_path / "out")


@pytest.mark.parametrize("out", ["notes.txt", "notes.txt/more"])
def test_a_folder_that_cannot_be_written(predict, photos, out):
    with pytest.raises(InputError, match=r"cannot write .*: .*notes\.txt is no folder$"):
        predict([photos], photos / out)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_score": -0.5}, "--min-score is -0.5; accepted is 0 to 1$"),
        ({"min_score": 1.5}, "--min-score is 1.5; accepted is 0 to 1$"),
        ({"min_score": float("nan")}, "--min-score is nan; accepted is 0 to 1$"),
        ({"batch": 0}, "--batch is 0; accepted is 1 to 10000"),
        ({"max_side": -3}, "--max-side is -3; accepted is 0 to 1000000"),
        ({"annotations": "a.json"}, "--annotations is for photos"),
    ],
)
def test_options_that_make_no_sense(predict, clip, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        predict([clip], tmp_path / "out", **options)


def test_a_photo_and_a_video_of_it_have_the_same_boxes(predictor, predict, photos, tmp_path):
    write(tmp_path / "still.mp4", [draw(48, 64, BLUE)] * 2)
    cv2.imwrite(str(tmp_path / "still.png"), read(tmp_path / "still.mp4")[0][0])
    predict([tmp_path / "still.mp4"], tmp_path / "out")
    (answer,) = predict_files(predictor, [tmp_path / "still.png"])
    assert not isinstance(answer, InputError)
    np.testing.assert_array_equal(entries_of(tmp_path / "out")[0]["boxes"], answer[1].boxes)
