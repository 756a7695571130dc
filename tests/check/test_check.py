"""The command and its exit codes, what it measures and draws, and how files are judged."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from damages import damaged, where_found, width_of
from numpy.typing import ArrayLike

from cornerjax.check.annotations import read_split
from cornerjax.check.examples import Examples, TrainingExample, count_collisions, in_one_cell
from cornerjax.check.findings import Findings
from cornerjax.check.images import is_truncated
from cornerjax.check.pictures import map_panel, target_panel
from cornerjax.check.run import note_sizes, only_check
from cornerjax.commands.check import main
from cornerjax.config import Data, load_recipe
from cornerjax.data import order
from cornerjax.data.examples import make_example
from cornerjax.data.pack import pack
from cornerjax.data.records import read_image
from cornerjax.data.source import open_source
from cornerjax.detectors import get_detector
from cornerjax.drawing import class_colour, layer_colour
from cornerjax.errors import InputError
from cornerjax.files import sha256_of
from cornerjax.ops.pixels import MEAN, STD

ROOT = Path(__file__).parents[2]


def test_what_the_recipe_changes(shapes, check, tmp_path):
    """Objects that the loss of Saccade leaves out; crowd boxes that count."""
    recipe = tmp_path / "recipe.py"
    source = (ROOT / "configs/saccade_small.py").read_text()
    recipe.write_text(source.replace("max_objects=16", "max_objects=16, min_object_px=1000, crowd=True"))
    root = damaged(shapes, tmp_path / "set", ["crowd"])
    code, printed, report = check("--root", root, "--config", recipe)
    assert code == 0
    assert where_found(report, "info: left out of the loss")
    assert report["epoch"]["ignored"] == report["epoch"]["objects"] > 0
    assert where_found(report, "info: treated as ordinary") == ["train: 1"]
    boxes = json.loads((root / "annotations/instances_train.json").read_text())["annotations"]
    assert report["splits"]["train"]["boxes"] == len(boxes)
    assert "255x255 px" in printed.splitlines()[0]
    assert width_of(tmp_path / "out/samples.jpg") == 2 * 508 + 4 * 510 + 5 * 8  # attention maps too
    _, _, without = check("--root", root, "--config", ROOT / "configs/saccade_small.py", "--samples", 0)
    assert without["splits"]["train"]["boxes"] == len(boxes) - 1
    assert not (tmp_path / "out/samples.jpg").exists()  # it was of another check


def test_a_pack_is_checked_as_its_folder_is(shapes, check, tmp_path):
    root = damaged(shapes, tmp_path / "set", ["crowd"])
    pack(Data(root=str(root)), ["train", "val"], str(tmp_path / "pack"))
    options = ("--config", ROOT / "configs/shapes.py", "--samples", 2)
    code, _, theirs = check("--root", root, *options)
    drawn = (tmp_path / "out/samples.jpg").read_bytes()
    packed, _, ours = check("--root", f"tfds:{tmp_path / 'pack'}", *options)
    assert (packed, ours["findings"], ours["epoch"]) == (code, theirs["findings"], theirs["epoch"])
    assert (tmp_path / "out/samples.jpg").read_bytes() == drawn
    shard = next((tmp_path / "pack").glob("*train.array_record*"))
    shard.write_bytes(shard.read_bytes()[:1000])
    _, _, ours = check("--root", f"tfds:{tmp_path / 'pack'}", *options)
    assert where_found(ours, "error: that cannot be opened")


@pytest.mark.parametrize("recipe", ["shapes", "saccade_small"])
def test_the_examples_are_those_of_training(recipe, shapes):
    config = load_recipe(ROOT / f"configs/{recipe}.py")
    config = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, root=str(shapes)),
        model=dataclasses.replace(config.model, num_classes=3),
    )
    detector = get_detector(config.model.detector)
    split, source = read_split(config.data, "train", Findings()), open_source(config.data, "train")
    examples = Examples(split, config, detector)
    for position in (0, 7, 29):
        record = examples.order[position]
        place = order.image_index(position, seed=config.seed, num_images=len(source.records))
        theirs = make_example(
            source.records[place],
            position,
            config,
            encode=detector.encode,
            render=detector.render,
            crop=detector.crop,
        )
        ours = examples.make(record, read_image(record))
        assert record.image_id == theirs["image_id"]
        np.testing.assert_array_equal(ours.image, theirs["image"])
        for name, values in ours.encoded.items():
            np.testing.assert_array_equal(values, theirs[name])


def encoded_at(classes: list[int], valid: list[bool], **cells: ArrayLike) -> dict[str, np.ndarray]:
    """Rows of an encoded example: their cells, and the keypoints in the middle of them."""
    encoded = {"classes": np.array(classes, np.int32), "valid": np.array(valid)}
    for name, xy in cells.items():
        encoded[f"{name}_cells"] = np.array(xy, np.int32)
        encoded[f"{name}_off"] = np.full((len(classes), 2), 0.5, np.float32)
    return encoded


def test_collisions_count_pairs_of_one_class():
    same, apart = np.full((5, 2), 3), np.arange(10).reshape(5, 2)
    encoded = encoded_at([0, 0, 1, 0, 0], [True, True, True, True, False], top=same, left=apart, other=same)
    assert count_collisions(encoded, ["top", "left"]) == 3
    assert count_collisions(encoded, ["top"]) == 3
    assert count_collisions(encoded, ["left"]) == 0


def test_all_keypoints_in_one_cell():
    first, second = [[1, 2], [1, 2], [1, 2], [1, 2]], [[1, 2], [1, 3], [2, 2], [1, 2]]
    encoded = encoded_at([0] * 4, [True, True, True, False], a=first, b=second, c=[[1, 2], [1, 2], [2, 2], [1, 2]])
    assert in_one_cell(encoded, ["a", "b"]).tolist() == [True, False, False, False]
    assert in_one_cell(encoded, ["a", "c"]).tolist() == [True, True, False, False]
    assert in_one_cell(encoded, ["b", "c"]).tolist() == [True, False, True, False]
    assert in_one_cell(encoded, ["a", "b", "c"]).tolist() == [True, False, False, False]
    assert not in_one_cell(encoded, ["a"]).any()  # one keypoint always does


def example_of(encoded: dict[str, np.ndarray], keypoints: str, side: int = 32) -> TrainingExample:
    """A black example, its maps half as large and empty."""
    image = np.broadcast_to(np.array(-MEAN / STD, np.float32), (side, side, 3))
    maps = {f"{name}_heat": np.zeros((side // 2, side // 2, 2), np.float32) for name in keypoints}
    return TrainingExample(image, {"boxes": np.zeros((0, 4)), "classes": np.zeros(0, int)}, encoded, maps, False)


def test_marks_lie_amid_the_keypoints():
    """Around the first a ring, on the second, of which one keypoint has no offset, a cross."""
    encoded = encoded_at([0, 1], [True, False], a=[[4, 4], [8, 2]], b=[[4, 4], [14, 2]], c=[[4, 4], [11, 14]])
    encoded["ignored"] = np.array([False, True])
    del encoded["b_off"]
    picture = target_panel(example_of(encoded, "abc"), "abc")
    white = np.all(picture[: 13 * 32] > 200, axis=-1)  # the title lies below
    ring, cross = np.round(np.array([[4.5, 4.5], [11.5, 6.5]]) * 32).astype(int)
    assert not white[ring[1], ring[0]]
    assert white[ring[1], ring[0] + 14]
    assert white[ring[1] - 14, ring[0]]
    assert white[cross[1], cross[0]]
    white[ring[1] - 17 : ring[1] + 17, ring[0] - 17 : ring[0] + 17] = False
    white[cross[1] - 12 : cross[1] + 12, cross[0] - 12 : cross[0] + 12] = False
    assert not white.any()


def test_heat_of_all_keypoints_is_drawn_in_the_colours_of_the_classes():
    example = example_of(encoded_at([0], [True], a=[[1, 1]], b=[[5, 1]]), "ab")
    example.maps["a_heat"][1, 1, 0] = example.maps["b_heat"][1, 5, 1] = 1
    picture = target_panel(example, "ab").astype(int)
    for x, label in ((1, 0), (5, 1)):
        assert np.abs(picture[32 + 8, x * 32 + 8] - 0.9 * np.array(class_colour(label))).max() < 2
    assert not picture[32 + 8, 3 * 32].any()


def test_further_maps_have_a_panel_with_a_legend():
    example, heat = example_of(encoded_at([0], [True], a=[[1, 1]]), "a"), np.zeros((4, 4), np.float32)
    heat[1, 2] = 1
    picture = map_panel(example, "centres", [("near", np.zeros((8, 8), np.float32)), ("far", heat)])
    assert np.abs(picture[192, 320] - 0.9 * np.array(layer_colour(1)[1])).max() < 2
    assert not picture[:120].any()
    assert picture[-12:].any()


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_image():
    _, jpeg = cv2.imencode(".jpg", np.full((40, 40, 3), 90, np.uint8))
    whole = jpeg.tobytes()
    part = b"Exif\0\0" + whole  # with an end-of-image marker inside
    with_thumbnail = whole[:2] + b"\xff\xe1" + (len(part) + 2).to_bytes(2) + part + whole[2:]
    assert not is_truncated(with_thumbnail)
    assert not is_truncated(with_thumbnail + b"\0" * 9)
    assert is_truncated(with_thumbnail[:-30])
    assert is_truncated(with_thumbnail[:-1])
    assert not is_truncated(b"GIF89a")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--root", "nowhere"], "'nowhere' is not a folder"),
        (["--root", "."], "no annotation file for split 'train'"),
        (
            ["--root", "SHAPES", "--splits", "test"],
            "no annotation file for split 'test'; looked for .*; --splits names",
        ),
        (["--root", "SHAPES", "--config", "gone.py"], "no recipe gone.py"),
        (["--root", "SHAPES", "--images", "gone"], "none of the 30 images can be found: image 000001.jpg"),
        (["--root", "tfds:a", "--images", "b"], "--images is of folders; the images of tfds:a lie in its own files"),
        (["--root", "SHAPES", "--samples", "-1"], "--samples is -1; accepted is 0 to 1000"),
        (["--root", "SHAPES", "--slit", "train"], "no option --slit; there is --splits"),
    ],
)
def test_what_cannot_run_is_one_sentence(args, message, shapes, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        main([str(shapes) if arg == "SHAPES" else arg for arg in args])
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_nothing_half_written_and_room_lets_it_be_written(shapes, small_disk):
    """Whether the picture or the report no longer fits, and an earlier picture is there or not."""
    options, out = ["--root", str(shapes), "--out", str(small_disk / "out")], small_disk / "out"
    for left in (0, 20_000):
        filler = small_disk / "filler"
        filler.write_bytes(bytes(os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize - left))
        with pytest.raises(InputError, match="No space left on device"):
            main([*options, "--samples", "2"])
        filler.unlink()
        assert not (out / "samples.jpg").exists()
        with pytest.raises(SystemExit, match="0"):
            main([*options, "--samples", "1"])
        assert sha256_of(out / "samples.jpg") == json.loads((out / "report.json").read_text())["samples"]


@pytest.mark.parametrize(("side", "why"), [(3, "both sides must be at least 4"), (20_000, "accepted are up to")])
def test_what_an_evaluation_refuses_is_an_error_before_training(shapes, side, why):
    """It opens the validation split before the first step, and refuses it all."""
    config = load_recipe(ROOT / "configs" / "shapes.py")
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, root=str(shapes)))
    split = read_split(config.data, "val", Findings())
    split.records[1] = dataclasses.replace(split.records[1], height=side, width=side)
    findings = Findings()
    note_sizes([split], config, get_detector(config.model.detector), findings)
    (found,) = findings.sorted()
    assert (found.level, found.count) == ("error", 1)
    assert why in found.line()


def test_two_files_of_one_name_are_two_splits(shapes, check, tmp_path):
    root = Path(shutil.copytree(shapes, tmp_path / "set"))
    folders = {split: next(root.rglob(f"{split}/*.jpg")).parent.relative_to(root) for split in ("train", "val")}
    for split, folder in folders.items():
        content = json.loads((root / f"annotations/instances_{split}.json").read_text())
        for image in content["images"]:
            image["file_name"] = str(folder / image["file_name"])
        (root / split).mkdir(exist_ok=True)
        (root / split / "boxes.json").write_text(json.dumps(content))
    one, other = (next(iter(sorted((root / folder).glob("*.jpg")))) for folder in folders.values())
    shutil.copyfile(one, other)
    splits = ["train/boxes.json", "val/boxes.json"]
    code, printed, report = check("--root", root, "--splits", *splits, "--samples", 0)
    assert code == 0
    assert "COCO's sizes, by the area of the box: " in printed
    assert [report["splits"][split]["images"] for split in splits] == [30, 6]
    assert len(where_found(report, "warning: in more than one split") or []) == 1
    _, _, once = check("--root", root, "--splits", splits[0], splits[0], "--samples", 0)
    assert [of_split["images"] for of_split in once["splits"].values()] == [30]


def test_one_check_at_a_time_writes_a_folder(shapes, tmp_path):
    options = ["--root", str(shapes), "--samples", "0", "--out", str(tmp_path / "out")]
    with only_check(tmp_path / "out"), pytest.raises(InputError, match=r"another check is going to write .*out; wait"):
        main(options)
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*file/out: Not a directory"):
        main([*options[:-1], str(tmp_path / "file/out")])
    with pytest.raises(SystemExit, match="0"):
        main(options)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.json"]


def test_the_command_and_its_exit_codes(shapes, tmp_path):
    def run(root: Path) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "cornerjax", "check", "--root", str(root), "--samples", "1"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    sound = run(shapes)
    assert sound.returncode == 0
    assert re.fullmatch(r"(reading (train|val): \d+/\d+\n)*", sound.stderr)  # a slow machine tells of its progress
    assert "CornerNet-Squeeze as published" in sound.stdout.splitlines()[0]
    (picture,) = tmp_path.glob("runs/check/shapes-*/samples.jpg")
    assert picture.is_file()
    gone = run(tmp_path / "gone")
    assert gone.returncode == 2
    assert gone.stderr.startswith("error: ")
    assert gone.stderr.count("\n") == 1
