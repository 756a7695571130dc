"""The commands, as a user types them: mistakes end with one sentence and exit code 2, and leave nothing behind."""

import json
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from cornerjax import commands
from cornerjax.config import load_recipe
from cornerjax.data.shapes import write_shapes
from cornerjax.new_workdir import create_workdir

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("data") / "shapes", seed=0, train=8, val=4)


@pytest.fixture
def folder(shapes, tmp_path) -> Path:
    """A copy of a good data set, to be broken."""
    return Path(shutil.copytree(shapes, tmp_path / "set"))


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """command("train.py", ...) -> what the command said on stderr; it must end with exit code 2."""
    monkeypatch.chdir(tmp_path)

    def call(script: str, *args: str | Path) -> str:
        monkeypatch.setattr(sys, "argv", [script, *map(str, args)])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        assert end.value.code == 2
        return capsys.readouterr().err

    return call


def edit(folder: Path, change) -> None:
    file = folder / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def images(folder: Path) -> list[Path]:
    return sorted((folder / "images" / "train").iterdir())


BROKEN = {
    "annotation file missing": (
        lambda folder: (folder / "annotations" / "instances_train.json").unlink(),
        r"no annotation file for split 'train'; looked for .*instances_train\.json",
    ),
    "not JSON": (
        lambda folder: (folder / "annotations" / "instances_train.json").write_text("{"),
        r"instances_train\.json is not JSON",
    ),
    "no annotations": (lambda folder: edit(folder, lambda c: c.pop("annotations")), r'has no list "annotations"'),
    "empty": (lambda folder: edit(folder, lambda c: c.update(images=[], annotations=[])), "has no images"),
    "image missing": (lambda folder: images(folder)[0].unlink(), r"images/train"),
    "image unreadable": (lambda folder: [p.write_bytes(b"x") for p in images(folder)], "cannot read .* as an image"),
    "unknown image": (lambda folder: edit(folder, lambda c: c["annotations"][0].update(image_id=999)), "image id 999"),
    "unknown category": (
        lambda folder: edit(folder, lambda c: c["annotations"][0].update(category_id=77)),
        "category id 77",
    ),
    "NaN in a box": (
        lambda folder: edit(folder, lambda c: c["annotations"][0].update(bbox=[1, 2, float("nan"), 4])),
        r"annotation id \d+ has bbox \[1, 2, nan, 4\]",
    ),
    "negative size": (
        lambda folder: edit(folder, lambda c: c["annotations"][0].update(bbox=[1, 2, -3, 4])),
        r"annotation id \d+ has bbox \[1, 2, -3, 4\]",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_training_on_a_broken_set(what, folder, command):
    damage, message = BROKEN[what]
    damage(folder)
    said = command("train.py", "--config", ROOT / "configs/shapes.py", "--data.root", folder, "--workdir", "run")
    lines = said.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert str(folder) in lines[0]
    assert re.search(message, lines[0]), lines[0]
    assert what == "image unreadable" or not Path("run").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--config", "nowhere.py"], "error: no recipe nowhere.py; there are:"),
        (["--data.root", "nowhere"], "error: data.root 'nowhere' is not a folder"),
        (["--data.root", "shapes:x"], "error: data.root 'shapes:x': expected shapes:SEED"),
        (["--optim.peak-rl", "1"], "error: no option --optim.peak-rl; there is --optim.peak-lr"),
        (["--data.batch", "many"], "--data.batch"),
        (["--model.detector", "yolo"], "error: no detector 'yolo'; there are: cornernet"),
        (["--model.backbone.dims", "8", "8", "8"], "error: model.backbone.blocks is (1, 1, 1, 1); it needs one"),
        (["--data.crop-px", "100", "127"], "error: data.crop_px has the side 100"),
    ],
)
def test_options_that_make_no_sense(args, message, shapes, command):
    given = ["--config", ROOT / "configs/shapes.py", "--data.root", shapes, "--workdir", "run", *args]
    assert message in command("train.py", *given)
    assert not Path("run").exists()


def test_a_batch_that_the_devices_do_not_divide(shapes, tmp_path):
    """In a process of its own, with three devices."""
    command = [sys.executable, ROOT / "train.py", "--config", ROOT / "configs/shapes.py", "--data.root", shapes]
    done = subprocess.run(
        [*command, "--workdir", tmp_path / "run"],
        env={"XLA_FLAGS": "--xla_force_host_platform_device_count=3", "PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "error: data.batch is 8; it must be a positive multiple of the 3 devices\n"
    assert not (tmp_path / "run").exists()


def test_a_work_directory_of_another_recipe(shapes, command, tmp_path):
    create_workdir(tmp_path / "run", load_recipe(ROOT / "configs/cornernet.py"), ("a",), (1,), recipe="cornernet")
    before = {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    said = command("train.py", "--config", ROOT / "configs/shapes.py", "--data.root", shapes, "--workdir", "run")
    assert said.startswith("error: work directory run belongs to another run (there, here: model.")
    assert {path: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


@pytest.mark.parametrize(
    "words",
    [
        "train --config RECIPE --data.root SET --workdir LONG",
        "train --config RECIPE --workdir out --data.root LONG",
        "train --config LONG --workdir out",
        "eval --workdir LONG",
        "predict LONG --workdir run --out out",
        "predict photo.png --workdir LONG --out out",
        "predict photo.png --workdir run --out out/LONG",
        "check --root LONG",
        "check --root SET --splits val --samples 0 --out out/LONG",
        "pack --root LONG --out out",
        "pack --root SET --split val --out LONG",
        "weights --detector cornernet --source LONG --out out",
    ],
)
def test_a_name_that_no_file_can_have(words, shapes, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("photo.png", np.zeros((127, 127, 3), np.uint8))
    create_workdir(tmp_path / "run", load_recipe(ROOT / "configs/shapes.py"), ("a",), (1,), recipe="shapes")
    for name, value in (("RECIPE", ROOT / "configs/shapes.py"), ("SET", shapes), ("LONG", "x" * 300)):
        words = words.replace(name, str(value))
    monkeypatch.setattr(sys, "argv", ["cornerjax", *words.split()])
    with pytest.raises(SystemExit) as end:
        commands.main()
    assert end.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert re.match(r"error: .*x{300}", last)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photo.png", "run"]


@pytest.mark.parametrize("script", ["eval.py", "predict.py"])
def test_a_folder_without_a_run(script, command, tmp_path):
    photo = tmp_path / "photo.png"
    cv2.imwrite(str(photo), np.zeros((127, 127, 3), np.uint8))
    more = ["--out", "out", photo] if script == "predict.py" else []
    assert command(script, "--workdir", "gone", *more).startswith("error: work directory gone does not exist")
    create_workdir(tmp_path / "run", load_recipe(ROOT / "configs/shapes.py"), ("a",), (1,), recipe="shapes")
    assert command(script, "--workdir", "run", *more).startswith("error: run has no checkpoint yet")
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (["--classes", "cat"], "no class 'cat' in this run; its classes are: a"),
        (["--overlay", "crops"], "cornernet has no overlay 'crops'; it has: keypoints, tags"),
    ],
)
def test_what_is_wanted_of_a_prediction_is_checked_before_weights_are_read(wanted, message, command, tmp_path):
    """This run has none."""
    cv2.imwrite(str(tmp_path / "photo.png"), np.zeros((127, 127, 3), np.uint8))
    create_workdir(tmp_path / "run", load_recipe(ROOT / "configs/shapes.py"), ("a",), (1,), recipe="shapes")
    said = command("predict.py", "photo.png", "--workdir", "run", "--out", "out", *wanted)
    assert said == f"error: {message}\n"
    assert not Path("out").exists()
