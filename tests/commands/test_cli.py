"""What the commands share, and how the program finds them."""

import dataclasses
import importlib
import io
import pkgutil
import sys
from typing import Literal

import pytest

from cornerjax import commands
from cornerjax.commands import COMMANDS, cli
from cornerjax.errors import InputError, RunError


def test_every_command_is_listed_and_has_a_file(capsys, monkeypatch):
    files = {module.name for module in pkgutil.iter_modules(commands.__path__)} - {"cli", "process"}
    assert set(COMMANDS) == files
    for name in COMMANDS:
        assert callable(importlib.import_module(f"cornerjax.commands.{name}").main)
    for words in ([], ["--help"]):
        monkeypatch.setattr(sys, "argv", ["cornerjax", *words])
        commands.main()
        listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()[2:]]
        assert listed == list(COMMANDS)


def test_an_unknown_command_is_one_sentence(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["cornerjax", "trian"])
    with pytest.raises(SystemExit) as ended:
        commands.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"error: no command 'trian'; there are: {', '.join(COMMANDS)}\n"


def test_the_words_of_a_script_come_first(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["shapes.py", "--help"])
    with pytest.raises(SystemExit) as ended:
        commands.main("shapes")
    assert ended.value.code == 0
    assert "usage: cornerjax shapes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "value"),
    [
        ([], "default"),
        (["--config", "a.py"], "a.py"),
        (["--data.config", "b", "--config=a.py", "--more", "1"], "a.py"),
        (["--conf", "a.py"], "default"),
        (["--config"], "default"),
        (["--config", "--help"], "default"),
    ],
)
def test_one_option_is_read_before_the_others(args, value):
    assert cli.value_of("--config", args, default="default") == value


@pytest.mark.parametrize(("error", "code"), [(InputError, 2), (RunError, 1)])
def test_what_the_user_gave_and_what_happened_to_a_run_are_one_sentence_and_an_exit_code(error, code, capsys):
    def main():
        raise error("no such thing")

    with pytest.raises(SystemExit) as ended:
        cli.run(main)
    assert ended.value.code == code
    assert capsys.readouterr().err == "error: no such thing\n"


def test_a_defect_of_ours_keeps_its_traceback():
    def main():
        raise ValueError("ours")

    with pytest.raises(ValueError, match="ours"):
        cli.run(main)


def test_a_name_that_the_terminal_lacks_letters_for_is_printed_all_the_same(monkeypatch):
    said = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(said, encoding="iso-8859-1", write_through=True))
    cli.run(lambda: print("written: \udcff 猫 é"))
    assert said.getvalue() == b"written: \\udcff \\u732b \xe9\n"


@dataclasses.dataclass(frozen=True)
class Two:
    kind: Literal["one", "another, whose name is so long that the sentence takes more than a line of the box"] = "one"
    number: int = 1  # of something


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_value_that_an_option_does_not_accept_is_one_sentence(monkeypatch, encoding):
    """However the box looks that the message comes in."""
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding))
    with pytest.raises(InputError, match=r"^--number: invalid literal for int.*'x'; --help lists all options$"):
        cli.parse(Two, ["--number", "x"], description=None)
    with pytest.raises(InputError, match=r"^invalid choice 'two' for argument '--kind'.* Expected .* of the box'"):
        cli.parse(Two, ["--kind", "two"], description=None)
