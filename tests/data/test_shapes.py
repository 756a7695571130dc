"""The generated data sets: what they promise, and that they are pure functions of their seed."""

import dataclasses
import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from cornerjax.commands.shapes import main
from cornerjax.config import Data
from cornerjax.data import shape_pictures, shapes
from cornerjax.data.extreme_points import mask_of
from cornerjax.data.records import read_image
from cornerjax.data.shapes import STYLES
from cornerjax.data.source import open_source
from cornerjax.errors import InputError

every_style = pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)


def all_bytes(folder):
    """Of the pictures and annotations, not of the note which seed made them."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.*")) if p.parent != folder}


@every_style
def test_the_folder_is_a_coco_data_set_and_a_pure_function_of_the_seed(style, tmp_path):
    first = shapes.write_shapes(tmp_path / "a" / "b", seed=1, train=6, val=3, style=style)
    again = shapes.write_shapes(tmp_path / "c", seed=1, train=6, val=3, style=style)
    other = shapes.write_shapes(tmp_path / "d", seed=2, train=6, val=3, style=style)
    assert all_bytes(first) == all_bytes(again)
    assert len(set(all_bytes(first).values()) | set(all_bytes(other).values())) == 2 * (9 + 2)  # no picture twice
    for split, count in (("train", 6), ("val", 3)):
        source = open_source(Data(root=str(first)), split)
        assert len(source.records) == count
        assert source.class_names == shape_pictures.SHAPES
        assert read_image(source.records[0]).shape == (style.side_px, style.side_px, 3)
        assert {(r.height, r.width) for r in source.records} == {(style.side_px, style.side_px)}


@pytest.mark.parametrize(
    ("place", "boxes", "pixels"),
    [
        (
            (0, "train", 0),
            [(79, 23, 42, 42), (20, 18, 53, 53), (73, 59, 32, 55), (26, 68, 24, 23)],
            [[139, 227, 117], [200, 59, 41], [196, 69, 50], [76, 175, 26], [127, 221, 148], [185, 102, 92]],
        ),
        (
            (3, "val", 7),
            [(75, 87, 44, 31)],
            [[148, 159, 170], [131, 166, 161], [136, 160, 157], [140, 173, 154], [126, 179, 138], [131, 172, 131]],
        ),
    ],
)
def test_the_shapes_are_those_that_the_recipe_was_measured_on(place, boxes, pixels):
    seed, split, index = place
    image, found = shapes.make_picture(seed, split, index, STYLES["shapes"])
    assert [shape.box for shape in found] == boxes
    np.testing.assert_allclose(image[60, ::25].astype(int), pixels, atol=1)  # libraries may round otherwise


@pytest.mark.parametrize(
    ("style", "pictures", "most", "sides_px", "touching"),
    [(STYLES["shapes"], 300, 5, (20, 63), 100), (STYLES["scenes"], 120, 6, (10, 160), 3)],
    ids=STYLES,
)
def test_pictures_keep_their_promises(style, pictures, most, sides_px, touching):
    sides: dict[str, list[float]] = {name: [] for name in shape_pictures.SHAPES}
    touched = 0
    for i in range(pictures):
        image, found = shapes.make_picture(0, "train", i, style)
        assert image.std() > 5
        assert 1 <= len(found) <= most
        for label, (x, y, width, height), mask in found:
            assert sides_px[0] <= min(width, height) <= max(width, height) <= sides_px[1]
            assert 0 <= x <= x + width <= style.side_px
            assert 0 <= y <= y + height <= style.side_px
            assert mask.shape == (height, width)
            assert 0.4 < mask.mean() <= 1
            sides[shape_pictures.SHAPES[label]] += [width, height]
        boxes = [shape.box for shape in found]
        pairs = [shape_pictures._overlap(a, b) for j, a in enumerate(boxes) for b in boxes[:j]]
        assert max(pairs, default=0) <= 0.25
        touched += max(pairs, default=0) > 0
    assert touched > touching
    means = [np.exp(np.log(values).mean()) for values in sides.values()]
    assert max(means) / min(means) < 1.15  # the size says nothing about the class


def test_half_of_the_objects_of_scenes_are_small_and_a_few_are_large():
    rng = np.random.default_rng(0)
    sides = np.array([shape_pictures._sides(STYLES["scenes"], rng) for _ in range(20000)])
    longer, shorter = sides.max(1), sides.min(1)
    limits = [10, 19.5, 39.5, 79.5, 160]
    log_uniform = np.diff(np.log(limits)) / np.log(16)
    np.testing.assert_allclose(np.histogram(longer, limits)[0] / len(longer), log_uniform, atol=0.01)
    assert (longer.min(), longer.max()) == (10, 160)
    assert ((shorter >= 0.6 * longer - 0.5) | (shorter == 10)).all()
    assert 0.4 < (sides[:, 0] > sides[:, 1]).mean() < 0.5  # the rest: higher than wide, or square
    pictures = [shapes.make_picture(0, "val", i, STYLES["scenes"])[1] for i in range(60)]
    areas = np.array([shape.mask.sum() for found in pictures for shape in found])
    assert 0.45 < (areas < 32**2).mean() < 0.65
    assert 0.03 < (areas >= 96**2).mean() < 0.15


def test_clutter_is_seen_and_too_thin_for_an_object():
    style = STYLES["scenes"]
    for i in range(30):
        with_clutter, without = (
            shape_pictures._background(s, np.random.default_rng(i))
            for s in (style, dataclasses.replace(style, lines=0, dots=0))
        )
        drawn = (with_clutter != without).any(-1).astype(np.uint8)
        assert drawn.any()
        assert drawn.mean() < 0.03
        assert not cv2.erode(drawn, np.ones((8, 8))).any()


@every_style
@pytest.mark.parametrize("shape", shape_pictures.SHAPES)
def test_shapes_touch_all_sides_of_their_box(shape, style):
    rng = np.random.default_rng(0)
    for _ in range(200):
        mask = shape_pictures._mask(shape, style, rng)
        assert mask[0].any()
        assert mask[-1].any()
        assert mask[:, 0].any()
        assert mask[:, -1].any()


@every_style
def test_boxes_lie_where_the_shapes_were_painted(style, monkeypatch):
    def paint_white(canvas, mask, rng):
        canvas[mask] = 1e4

    monkeypatch.setattr(shape_pictures, "_paint", paint_white)
    for i in range(30):
        image, found = shapes.make_picture(0, "val", i, style)
        white = (image == 255).all(-1)
        covered = np.zeros_like(white)
        for _, (x, y, width, height), _ in found:
            covered[y : y + height, x : x + width] = True
            assert white[y : y + height, x].any()
            assert white[y : y + height, x + width - 1].any()
            assert white[y, x : x + width].any()
            assert white[y + height - 1, x : x + width].any()
        assert (white & ~covered).mean() < 0.02  # but for grain on a background that is nearly white


def test_annotations_have_exact_masks_and_extreme_points(tmp_path):
    folder = shapes.write_shapes(tmp_path / "set", seed=0, train=8, val=1)
    content = json.loads((folder / "annotations" / "instances_train.json").read_text())
    drawn = [shape for i in range(8) for shape in shapes.make_picture(0, "train", i, STYLES["shapes"])[1]]
    assert len(drawn) == len(content["annotations"])
    for shape, entry in zip(drawn, content["annotations"], strict=True):
        x, y, width, height = shape.box
        mask = mask_of(entry["segmentation"], 127, 127)
        assert mask is not None
        np.testing.assert_array_equal(mask[y : y + height, x : x + width], shape.mask)
        assert mask.sum() == shape.mask.sum() == entry["area"]
        (tx, ty), (lx, ly), (bx, by), (rx, ry) = entry["extreme_points"]
        assert (lx, ty, rx - lx, by - ty) == shape.box
        assert mask[int(ty), int(tx - 0.5)]
        assert mask[int(by) - 1, int(bx - 0.5)]
        assert mask[int(ly - 0.5), int(lx)]
        assert mask[int(ry - 0.5), int(rx) - 1]


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    written = []

    def interrupted(*args):
        written.append(args)
        if len(written) == 4:
            raise KeyboardInterrupt
        return make_picture(*args)

    make_picture = shapes.make_picture
    with monkeypatch.context() as patch:
        patch.setattr(shapes, "make_picture", interrupted)
        with pytest.raises(KeyboardInterrupt):
            shapes.write_shapes(tmp_path / "set", seed=0, train=6, val=1)
    assert list(tmp_path.iterdir()) == []
    shapes.write_shapes(tmp_path / "set", seed=0, train=6, val=1)
    monkeypatch.setattr(shapes, "make_picture", None)  # a complete folder is not made again
    shapes.write_shapes(tmp_path / "set", seed=0, train=6, val=1)
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_a_folder_with_something_else_is_refused(tmp_path):
    shapes.write_shapes(tmp_path / "set", seed=0, train=1, val=1)
    with pytest.raises(InputError, match=r'set holds .*"seed": 0.*, not the shapes .*"seed": 1'):
        shapes.write_shapes(tmp_path / "set", seed=1, train=1, val=1)
    with pytest.raises(InputError, match="must be 0 or more, got -1"):
        shapes.write_shapes(tmp_path / "other", seed=-1)
    with pytest.raises(InputError, match=r'set holds something else, not the scenes .*"seed": 0'):
        shapes.write_shapes(tmp_path / "set", seed=0, train=1, val=1, style=STYLES["scenes"])


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*file/set: Not a directory"):
        shapes.write_shapes(tmp_path / "file" / "set", seed=0, train=1, val=1)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match=r"cannot write .*set: No space left on device"):
        shapes.write_shapes(tmp_path / "set", seed=0, train=1, val=1)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@every_style
def test_a_root_of_style_and_seed_is_made_on_first_use(style, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(STYLES, style.name, dataclasses.replace(style, train=2, val=1))
    source = open_source(Data(root=f"{style.name}:5"), "train")
    assert [record.height for record in source.records] == [style.side_px] * 2
    made_by = tmp_path / f"data/{style.name}-5/{style.name}.json"
    assert json.loads(made_by.read_text()) == {"seed": 5, "train": 2, "val": 1}
    monkeypatch.setattr(shapes, "make_picture", None)
    assert len(open_source(Data(root=f"{style.name}:5"), "val").records) == 1


@pytest.mark.parametrize("root", ["shapes:x", "scenes:", "scenes:-1", "scenes:1.5"])
def test_a_root_whose_seed_is_no_number_is_refused(root):
    with pytest.raises(InputError, match=f"'{root}': expected shapes:SEED or scenes:SEED with a number of 0 or more"):
        open_source(Data(root=root), "train")


def test_the_command_writes_the_style_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(STYLES, "scenes", dataclasses.replace(STYLES["scenes"], train=1, val=1))
    main(["--out", str(tmp_path / "set"), "--style", "scenes"])
    assert capsys.readouterr().out == f"{tmp_path / 'set'}\n"
    assert json.loads((tmp_path / "set/scenes.json").read_text()) == {"seed": 0, "train": 1, "val": 1}


def run_command(*options):
    return subprocess.run(
        [sys.executable, "-m", "cornerjax", "shapes", *options], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("style", STYLES)
def test_the_command_refuses_a_negative_seed(style, tmp_path):
    ended = run_command("--out", tmp_path, "--seed", "-3", "--style", style)
    assert ended.returncode == 2
    assert ended.stderr == f"error: the seed of the generated {style} must be 0 or more, got -3\n"


def test_the_command_names_the_styles(tmp_path):
    ended = run_command("--out", tmp_path, "--style", "squares")
    assert ended.returncode == 2
    assert "'squares'" in ended.stderr
    for style in STYLES:
        assert f"'{style}'" in ended.stderr


@pytest.mark.parametrize("gone", ["images/train/000002.jpg", "annotations/instances_val.json", "images/val"])
def test_a_set_that_lacks_something_does_not_count_as_whole(tmp_path, gone):
    folder = shapes.write_shapes(tmp_path / "set", seed=0, train=3, val=1)
    path = folder / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(InputError, match=r"set lacks .* of (train|val): remove the folder, and it is written again"):
        shapes.write_shapes(folder, seed=0, train=3, val=1)
