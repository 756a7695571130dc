"""How files are written: whole, and in UTF-8."""

import os
import subprocess
import sys

import pytest

from cornerjax.files import only_one, open_atomically, remove_leftovers, unfinished_folder, write_atomically
from cornerjax.inference.written import only_writer


def test_files_are_utf_8_whatever_the_locale(tmp_path):
    script = (
        "import sys, pathlib, cornerjax.files as f; f.write_atomically(pathlib.Path(sys.argv[1]), '\\u732b \\udcff')"
    )
    ascii_locale = os.environ | {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "text")], env=ascii_locale, check=True)
    assert (tmp_path / "text").read_bytes() == "猫 ".encode() + b"\xff"


def test_what_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(UnicodeEncodeError):
        write_atomically(tmp_path / "text", "\ud800")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_the_old_content(tmp_path):
    def write_half():
        with open_atomically(tmp_path / "text") as file:
            file.write(b"half of the n")
            raise KeyboardInterrupt

    (tmp_path / "text").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("text", "old")]


HOLD = """
import sys, time
from pathlib import Path
from cornerjax.files import open_atomically, unfinished_folder
target = Path(sys.argv[1])
with unfinished_folder(target / "set") as folder, open_atomically(target / "text") as file:
    print("there", flush=True)
    time.sleep(600)
"""


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        there = sorted(tmp_path.iterdir())
        assert len(there) == 2
        remove_leftovers(tmp_path)
        assert sorted(tmp_path.iterdir()) == there
        process.kill()
    (tmp_path / ".vimrc").write_text("")
    with unfinished_folder(tmp_path / "set"):  # of eval, pack and shapes
        pass
    assert len(list(tmp_path.iterdir())) == 2
    with only_writer(tmp_path):  # of predict
        pass
    assert [path.name for path in tmp_path.iterdir()] == [".vimrc"]


def test_folders_made_for_a_lock_that_cannot_be_had_are_removed_again(tmp_path):
    for folder in (tmp_path / "a" / "b", tmp_path / "a" / ("x" * 300)):
        with pytest.raises(OSError, match="name too long"), only_one(folder / ("y" * 300), ""):
            pass
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["x" * 255, "ä" * 127])
def test_a_name_as_long_as_may_be_can_be_written(tmp_path, name):
    write_atomically(tmp_path / name, "text")
    with unfinished_folder(tmp_path / ("y" + name[1:])) as folder:
        folder.rename(tmp_path / ("y" + name[1:]))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "y" + name[1:]])
