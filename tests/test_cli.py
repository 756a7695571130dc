"""What the scripts share."""

import io
import sys

import pytest

from cornerjax import cli
from cornerjax.errors import InputError


def test_a_mistake_is_one_sentence_and_exit_code_2(capsys):
    def main():
        raise InputError("no such thing")

    with pytest.raises(SystemExit) as ended:
        cli.run(main)
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: no such thing\n"


def test_a_defect_of_ours_keeps_its_traceback():
    def main():
        raise ValueError("ours")

    with pytest.raises(ValueError, match="ours"):
        cli.run(main)


def test_progress_passes_everything_on(capsys, monkeypatch):
    assert list(cli.progress(iter("abc"), total=3, what="reading")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(cli, "QUIET_S", -1)
    list(cli.progress("abc", total=3, what="reading"))
    assert capsys.readouterr().err == "reading: 1/3\nreading: 2/3\nreading: 3/3\n"


def test_a_name_that_the_terminal_lacks_letters_for_is_printed_all_the_same(monkeypatch):
    said = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(said, encoding="iso-8859-1", write_through=True))
    cli.run(lambda: print("written: \udcff 猫 é"))
    assert said.getvalue() == b"written: \\udcff \\u732b \xe9\n"
