"""What the commands share, and how the program finds them."""

import dataclasses
import importlib
import io
import os
import pkgutil
import shlex
import subprocess
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


@pytest.mark.parametrize(
    "words", [["shapes"], ["pack", "--root", "set"], ["weights", "--detector", "cornernet", "--source", "a.pth"]]
)
def test_an_empty_folder_name_is_none(words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["cornerjax", *words, "--out", ""])
    with pytest.raises(SystemExit) as ended:
        commands.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: --out is missing; --help says what it is\n"
    assert not list(tmp_path.iterdir())


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


PROGRAM = "import sys; from cornerjax.commands import main; main(*sys.argv[1:])"


def said_by(words, stdout, program=PROGRAM):
    """The exit code of a command in a process of its own, and what it says on stderr."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", program, *words]
    done = subprocess.run(command, env=environment, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize("words", [["--help"], ["pack", "--help"]])
def test_standard_output_that_is_full_or_closed_at_the_end_is_one_sentence(words):
    """What was printed is short enough to wait in Python until then."""
    with open("/dev/full", "w") as full:
        expected = "error: cannot write to standard output: No space left on device; make room and run the same"
        assert said_by(words, full) == (1, f"{expected} command again\n")
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as closed:
        assert said_by(words, closed) == (1, "error: standard output was closed before the end\n")


def test_who_is_stopped_says_so_by_the_exit_code_though_nobody_listens():
    """Of a run that ends at Ctrl-C the whole pipe ends."""
    main = "def main():\n    print('saved')\n    raise SystemExit(130)\n"
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as closed:
        assert said_by([], closed, f"from cornerjax.commands.cli import run\n{main}run(main)") == (130, "")


def test_a_program_without_standard_output_says_what_is_wrong():
    command = shlex.join([sys.executable, "-c", PROGRAM, "trian"])
    done = subprocess.run(f"{command} >&-", shell=True, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, f"error: no command 'trian'; there are: {', '.join(COMMANDS)}\n")


def test_opencv_and_ffmpeg_say_nothing_in_a_command(tmp_path):
    """They would, of a PNG that is cut short, and of what is no video."""
    code = f"""
from cornerjax.commands.cli import run

def main():
    import cv2, numpy
    png = cv2.imencode(".png", numpy.zeros((40, 40, 3), numpy.uint8))[1]
    assert cv2.imdecode(png[: len(png) // 2], cv2.IMREAD_COLOR) is None
    assert not cv2.VideoCapture({str(tmp_path / "no.mp4")!r}).isOpened()

run(main)
"""
    (tmp_path / "no.mp4").write_bytes(bytes(1000))
    done = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, check=True)
    assert done.stderr == ""


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
