"""The generated data set: what it promises, and that it is a pure function of its seed."""

import errno
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from cornerjax.config import Data, InputError
from cornerjax.data import coco, shapes
from cornerjax.data.coco import open_source, read_image


def all_bytes(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.*")) if p.name != "shapes.json"}


def test_the_folder_is_a_coco_data_set_and_a_pure_function_of_the_seed(tmp_path):
    first = shapes.write_shapes(tmp_path / "a" / "b", seed=1, train=6, val=3)
    again = shapes.write_shapes(tmp_path / "c", seed=1, train=6, val=3)
    other = shapes.write_shapes(tmp_path / "d", seed=2, train=6, val=3)
    assert all_bytes(first) == all_bytes(again)
    assert len(set(all_bytes(first).values()) | set(all_bytes(other).values())) == 2 * (9 + 2)  # no picture twice
    for split, count in (("train", 6), ("val", 3)):
        source = open_source(Data(root=str(first)), split)
        assert len(source.records) == count
        assert source.class_names == shapes.SHAPES
        assert read_image(source.records[0]).shape == (127, 127, 3)


def test_pictures_keep_their_promises():
    sides = {name: [] for name in shapes.SHAPES}
    touching = 0
    for i in range(300):
        image, classes, boxes, areas = shapes.make_picture(0, "train", i)
        assert image.std() > 5
        assert 1 <= len(boxes) <= 5
        for c, (x, y, width, height), area in zip(classes, boxes, areas, strict=True):
            assert 20 <= min(width, height) <= max(width, height) <= 63
            assert 0 <= x <= x + width <= 127
            assert 0 <= y <= y + height <= 127
            assert 0.4 < area / (width * height) <= 1
            sides[shapes.SHAPES[c]] += [width, height]
        pairs = [shapes._overlap(a, b) for j, a in enumerate(boxes) for b in boxes[:j]]
        assert max(pairs, default=0) <= 0.25
        touching += max(pairs, default=0) > 0
    assert touching > 100
    means = [np.mean(values) for values in sides.values()]
    assert max(means) - min(means) < 5  # the size says nothing about the class


@pytest.mark.parametrize("shape", shapes.SHAPES)
def test_shapes_touch_all_sides_of_their_box(shape):
    rng = np.random.default_rng(0)
    for _ in range(200):
        mask = shapes._mask(shape, rng)
        assert mask[0].any()
        assert mask[-1].any()
        assert mask[:, 0].any()
        assert mask[:, -1].any()


def test_boxes_lie_where_the_shapes_were_painted(monkeypatch):
    def paint_white(canvas, mask, rng):
        canvas[mask] = 1e4

    monkeypatch.setattr(shapes, "_paint", paint_white)
    for i in range(30):
        image, _, boxes, _ = shapes.make_picture(0, "val", i)
        white = (image == 255).all(-1)
        covered = np.zeros_like(white)
        for x, y, width, height in boxes:
            covered[y : y + height, x : x + width] = True
            assert white[y : y + height, x].any()
            assert white[y : y + height, x + width - 1].any()
        assert (white & ~covered).mean() < 0.02  # but for grain on a background that is nearly white


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


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*file/set: File exists"):
        shapes.write_shapes(tmp_path / "file" / "set", seed=0, train=1, val=1)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match=r"cannot write .*set: No space left on device"):
        shapes.write_shapes(tmp_path / "set", seed=0, train=1, val=1)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_the_root_shapes_seed_is_made_on_first_use(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(coco, "write_shapes", partial(shapes.write_shapes, train=2, val=1))
    assert len(open_source(Data(root="shapes:5"), "train").records) == 2
    assert json.loads((tmp_path / "data/shapes-5/shapes.json").read_text())["seed"] == 5
    with pytest.raises(InputError, match="'shapes:x': expected shapes:SEED"):
        open_source(Data(root="shapes:x"), "train")


def test_the_command(tmp_path):
    command = [sys.executable, "-m", "cornerjax.data.shapes", "--out", str(tmp_path), "--seed", "-3"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr == "error: the seed of the generated shapes must be 0 or more, got -3\n"
