"""What predict.py is given, and what its results are called."""

import os
import sys
from pathlib import Path

import pytest

from cornerjax.errors import InputError
from cornerjax.inference.inputs import Inputs, find_inputs, output_names


@pytest.fixture
def folder(tmp_path):
    """Photos, videos, a text and an empty folder within, and a folder with one more photo."""
    for name in ("b.jpg", "a.PNG", "clip.mp4", "notes.txt", "more/c.jpg", "empty/none.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    return tmp_path


def names(inputs: Inputs) -> list[str]:
    return [path.name for path in (*inputs.photos, *inputs.videos)]


def test_a_folder_means_its_images_and_videos(folder):
    assert names(find_inputs([folder])) == ["a.PNG", "b.jpg", "clip.mp4"]
    assert find_inputs([str(folder / "clip.mp4"), folder / "b.jpg"]) == ([folder / "b.jpg"], [folder / "clip.mp4"], [])


def test_a_pattern_means_the_images_and_videos_it_matches(folder):
    assert names(find_inputs([f"{folder}/*"])) == ["a.PNG", "b.jpg", "clip.mp4"]
    assert names(find_inputs([f"{folder}/**/*.jpg"])) == ["b.jpg", "c.jpg"]
    assert names(find_inputs([f"{folder}/[bc]*"])) == ["b.jpg", "clip.mp4"]


def test_a_file_whose_name_looks_like_a_pattern_is_itself(folder):
    (folder / "[b].jpg").write_text("")
    assert names(find_inputs([folder / "[b].jpg"])) == ["[b].jpg"]


def test_a_file_that_is_given_twice_is_taken_once(folder):
    assert names(find_inputs([folder / "b.jpg", folder, f"{folder}/more/../*.jpg"])) == ["b.jpg", "a.PNG", "clip.mp4"]


def test_cameras_are_numbers():
    assert find_inputs(["camera:0", "camera:12", "camera:0"]).cameras == [0, 12]


def test_an_empty_path_is_not_the_current_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(InputError, match=r"^a path is empty; expected an image, a video, a folder, a pattern"):
        find_inputs(["a.PNG", ""])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("gone.jpg", r"gone\.jpg does not exist; expected an image, a video, a folder, a pattern or camera:N$"),
        ("notes.txt", r"notes\.txt ends in \.txt; accepted are images \(\.bmp .*\) and videos \(\.avi .*\)$"),
        ("empty", r"empty has no images and no videos; accepted are images \(\.bmp"),
        ("*.gone", r"\*\.gone matches nothing; expected an image or a video; accepted are images"),
        ("*.txt", r"none of the 1 that .*\*\.txt matches is an image or a video; accepted are images"),
    ],
)
def test_what_is_no_photo_video_or_camera(folder, given, message):
    with pytest.raises(InputError, match=message):
        find_inputs([folder / "b.jpg", folder / given])


def test_a_camera_needs_a_number():
    with pytest.raises(InputError, match=r"'camera:front' is no camera; expected camera: and its number, as camera:0"):
        find_inputs(["camera:front"])


def test_results_of_files_with_the_same_name():
    photos = [Path("a.png"), Path("a.jpg"), Path("more/A.jpg"), Path("a_2.jpg")]
    videos = [Path("a.mp4"), Path("a.avi"), Path("camera_0.mov")]
    assert output_names(Inputs(photos, videos, [0])) == [
        *("a.jpg", "a_2.jpg", "A_3.jpg", "a_2_2.jpg"),
        *("a.mp4", "a_2.mp4", "camera_0.mp4", "camera_0_2.mp4"),
    ]


def test_many_files_with_the_same_name_take_steps_in_proportion():
    def steps(count: int) -> int:
        called = []
        sys.setprofile(lambda frame, event, arg: called.append(event))
        try:
            names = output_names(Inputs([Path("image.jpg")] * count, [], []))
        finally:
            sys.setprofile(None)
        assert names[-1] == f"image_{count}.jpg"
        return len(called)

    assert steps(400) < 5 * steps(100)


def test_links_to_themselves_and_pipes_are_files_that_cannot_be_read(folder):
    (folder / "more/itself.jpg").symlink_to("itself.jpg")
    os.mkfifo(folder / "more/pipe.jpg")
    assert names(find_inputs([folder / "more"])) == ["c.jpg", "itself.jpg", "pipe.jpg"]
    assert names(find_inputs([folder / "more/itself.jpg"])) == ["itself.jpg"]


@pytest.mark.parametrize("number", ["-1", "1.5", "", "1" * 400, "\u0663"])
def test_what_is_no_number_is_no_camera(number):
    with pytest.raises(InputError, match=r"is no camera; expected camera: and its number, as camera:0$"):
        find_inputs([f"camera:{number}"])


def test_names_of_results_are_no_longer_than_may_be():
    photos = [Path(f"{folder}/{'ä' * 125}.webp") for folder in "abc"]
    made = output_names(Inputs(photos, [], []))
    assert len(set(made)) == 3
    assert all(len(name.encode("utf-8", "surrogateescape")) <= 255 and name.endswith(".jpg") for name in made)
