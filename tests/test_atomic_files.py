"""How files are written: whole, and in UTF-8."""

import os
import subprocess
import sys

import pytest

from cornerjax.files import open_atomically, write_atomically


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
