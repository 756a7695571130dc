"""Files and folders that may not be read or written: one sentence that names them, from every command."""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.attacks.commands import write_recipe
from benchmarks.attacks.runs import make_run
from cornerjax.commands import main

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user who may not read a file")
NOBODY = 65534

# What is sealed, and the command that needs it; names are those of `place`.
CASES = [
    (".", "eval --workdir run"),
    ("run/run.json", "eval --workdir run"),
    ("run/config.json", "eval --workdir run"),
    ("run/config.json", "predict photo.png --workdir run --out out/new"),
    ("run/checkpoints", "eval --workdir run"),
    ("run/checkpoints", "predict photo.png --workdir run --out out/new"),
    ("shapes/annotations/instances_val.json", "eval --workdir run --out out/new"),
    ("shapes/annotations", "eval --workdir run --out out/new"),
    ("shapes/images/val/000001.jpg", "eval --workdir run --out out/new"),
    ("shapes/images/val", "eval --workdir run --out out/new"),
    ("out", "eval --workdir run --out out/new"),
    ("photo.png", "predict photo.png --workdir run --out out/new"),
    ("photos", "predict photos --workdir run --out out/new"),
    ("out", "predict photo.png --workdir run --out out/new"),
    ("shapes", "check --root shapes --splits val --out out/new"),
    ("shapes/annotations/instances_val.json", "check --root shapes --splits val --out out/new"),
    ("out", "check --root shapes --splits val --out out/new"),
    ("out", "shapes --out out/new"),
    ("out", "pack --root shapes --split val --out out/new"),
    ("shapes/images/val/000001.jpg", "pack --root shapes --split val --out out/new"),
    ("recipe/tiny.py", "train --config recipe/tiny.py --workdir out/new"),
    ("recipe", "train --config recipe/tiny.py --workdir out/new"),
    ("out", "train --config recipe/tiny.py --workdir out/new"),
    ("run/run.json", "train --config recipe/tiny.py --workdir run"),
    ("photo.png", "weights --detector cornernet --source photo.png --out out/new"),
    ("results.json", "eval --results results.json --annotations shapes/annotations/instances_val.json --out out/new"),
]


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A run, its data, a photo, a recipe and a folder to write into, which belong to nobody."""
    folder = Path(tempfile.mkdtemp())
    make_run(folder)
    (folder / "recipe").mkdir()
    write_recipe(folder / "recipe", folder / "shapes")
    for name in ("out", "photos"):
        (folder / name).mkdir()
    cv2.imwrite(str(folder / "photo.png"), np.zeros((40, 40, 3), np.uint8))
    shutil.copy(folder / "photo.png", folder / "photos")
    (folder / "results.json").write_text("[]")
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    with contextlib.chdir(folder):
        for words in ("eval --workdir run --out out/a", "predict photo.png --workdir run --out out/b"):
            given(words)  # what they import and compile is there from now on
        given("pack --root shapes --split val --out out/c")
    yield folder
    shutil.rmtree(folder)


def given(words: str) -> int:
    """The exit code of a command."""
    sys.argv = ["cornerjax", *words.split()]
    try:
        main()
    except SystemExit as e:
        return int(e.code or 0)
    return 0


@contextlib.contextmanager
def sealed(path: Path) -> Iterator[None]:
    """Be a user who may not use a path."""
    mode = path.stat().st_mode
    path.chmod(0)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        path.chmod(mode)


@pytest.mark.parametrize(("name", "words"), CASES, ids=[f"{words.split()[0]} {name}" for name, words in CASES])
def test_what_may_not_be_used_is_named_in_a_sentence(place, monkeypatch, capfd, name, words):
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "argv", [])
    with sealed(place / name):
        code = given(words)
    *_, last = capfd.readouterr().err.strip().splitlines()
    assert code in (1, 2)
    assert last.startswith("error: ")
    assert any(part in last for part in (Path(name).name, str(place)))
    assert "ermission denied" in last or "may not be read" in last or "writable" in last or "no file" in last
    assert not [path for path in (place / "out").iterdir() if path.name not in ("a", "b", "c")]
