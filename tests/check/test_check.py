"""The command and its exit codes, what it measures and draws, and how files are judged."""

import dataclasses
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from damages import damaged, where_found
from PIL import Image

from cornerjax.check.__main__ import main
from cornerjax.check.annotations import read_split
from cornerjax.check.examples import Examples, count_collisions, in_one_cell
from cornerjax.check.findings import Findings
from cornerjax.check.images import is_truncated, is_turned
from cornerjax.config import Data, load_recipe
from cornerjax.data.pack import pack
from cornerjax.data.pipeline import make_example
from cornerjax.data.records import read_image
from cornerjax.data.source import open_source
from cornerjax.detectors import get_detector
from cornerjax.errors import InputError

ROOT = Path(__file__).parents[2]


def test_what_the_recipe_changes(shapes, check, tmp_path):
    """Objects that the loss of Saccade leaves out; crowd boxes that count."""
    recipe = tmp_path / "recipe.py"
    source = (ROOT / "configs/saccade_small.py").read_text()
    recipe.write_text(source.replace("max_objects=16", "max_objects=16, min_object_px=1000, crowd=True"))
    root = damaged(shapes, tmp_path / "set", ["crowd"])
    code, printed, report = check("--root", root, "--config", recipe)
    assert code == 0
    assert where_found(report, "info: too small, or cut too much, for the loss")
    assert report["epoch"]["ignored"] == report["epoch"]["objects"] > 0
    assert where_found(report, "info: used as ordinary boxes") == ["train: 1"]
    boxes = json.loads((root / "annotations/instances_train.json").read_text())["annotations"]
    assert report["splits"]["train"]["boxes"] == len(boxes)
    _, _, without = check("--root", root, "--config", ROOT / "configs/saccade_small.py", "--samples", 0)
    assert without["splits"]["train"]["boxes"] == len(boxes) - 1
    assert "255x255 px" in printed.splitlines()[0]
    assert cv2.imread(str(tmp_path / "out/samples.jpg")).shape[1] == 2 * 508 + 4 * 510 + 5 * 8  # attention maps too


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
        theirs = make_example(
            source, config, position, encode=detector.encode, render=detector.render, crop=detector.crop
        )
        record = examples.order[position]
        ours = examples.make(record, read_image(record))
        assert record.image_id == theirs["image_id"]
        np.testing.assert_array_equal(ours.image, theirs["image"])
        for name, values in ours.encoded.items():
            np.testing.assert_array_equal(values, theirs[name])


def test_collisions_count_pairs_of_one_class():
    cells = np.array([[1, 2], [1, 2], [1, 2], [1, 2], [1, 2]])
    encoded = {
        "classes": np.array([0, 0, 1, 0, 0]),
        "valid": np.array([True, True, True, True, False]),
        "tl_cells": cells,
        "br_cells": cells + np.arange(5)[:, None],
    }
    assert count_collisions(encoded) == 3
    assert count_collisions(encoded | {"tl_cells": encoded["br_cells"]}) == 0


def test_both_corners_in_one_cell():
    encoded = {
        "valid": np.array([True, True, True, False]),
        "tl_cells": np.array([[1, 2], [1, 2], [1, 2], [1, 2]]),
        "br_cells": np.array([[1, 2], [1, 3], [2, 2], [1, 2]]),
    }
    assert in_one_cell(encoded).tolist() == [True, False, False, False]


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


@pytest.mark.parametrize(("orientation", "turned"), [(None, False), (1, False), (6, True)])
def test_turned_images(orientation, turned):
    exif, file = Image.Exif(), io.BytesIO()
    if orientation:
        exif[0x0112] = orientation
    Image.new("RGB", (8, 8)).save(file, "jpeg", exif=exif)
    assert is_turned(file.getvalue()) == turned


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--root", "nowhere"], "'nowhere' is no folder"),
        (["--root", "."], "no annotation file for split 'train'"),
        (
            ["--root", "SHAPES", "--splits", "test"],
            "no annotation file for split 'test'; looked for .*; --splits names",
        ),
        (["--root", "SHAPES", "--config", "gone.py"], "no recipe gone.py"),
        (["--root", "SHAPES", "--images", "gone"], "none of the 30 images is there: image 000001.jpg"),
        (["--root", "SHAPES", "--samples", "-1"], "--samples is -1; accepted is 0 or more"),
        (["--root", "SHAPES", "--slit", "train"], "no option --slit; there is --splits"),
    ],
)
def test_what_cannot_run_is_one_sentence(args, message, shapes, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["check", *[str(shapes) if arg == "SHAPES" else arg for arg in args]])
    with pytest.raises(InputError, match=message):
        main()
    assert not list(tmp_path.iterdir())


def test_the_command_and_its_exit_codes(shapes, tmp_path):
    def run(root: Path) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "cornerjax.check", "--root", root, "--samples", "1"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    sound = run(shapes)
    assert sound.returncode == 0
    assert re.fullmatch(r"(reading (train|val): \d+/\d+\n)*", sound.stderr)  # a slow machine tells of its progress
    assert "CornerNet-Squeeze as published" in sound.stdout.splitlines()[0]
    assert (tmp_path / "runs/check/shapes/samples.jpg").is_file()
    gone = run(tmp_path / "gone")
    assert gone.returncode == 2
    assert gone.stderr.startswith("error: ")
    assert gone.stderr.count("\n") == 1
