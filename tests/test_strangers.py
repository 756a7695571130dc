"""Files and names of strangers: nothing is imported, fetched, written elsewhere or acted upon because they say so."""

import csv
import dataclasses
import hashlib
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from cornerjax.check.run import REPORT, refuse_to_replace
from cornerjax.commands.check import default_folder
from cornerjax.commands.cli import run as run_command
from cornerjax.config import to_json
from cornerjax.data.source import refuse_to_fetch
from cornerjax.detectors.cornernet import CornerConfig
from cornerjax.detectors.rows import Detections
from cornerjax.errors import InputError
from cornerjax.inference.results import Entry, write_results
from cornerjax.inference.written import note
from cornerjax.new_workdir import create_workdir
from cornerjax.text import plain, shortened
from cornerjax.training.log import _reopen
from cornerjax.workdir import locked


@pytest.mark.parametrize("root", ["shapes:77", "scenes:3", "gs://bucket/set", "tfds:gs://bucket/set"])
def test_a_set_that_a_file_names_is_neither_generated_nor_fetched(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=rf"^run/config\.json names the data set {root}, .*; --root {root} allows it$"):
        refuse_to_fetch(root, Path("run/config.json"))
    assert not list(tmp_path.iterdir())


def test_a_lock_of_another_program_is_left_alone(tmp_path):
    (tmp_path / ".lock").write_text("of another program")
    with pytest.raises(InputError, match=r"\.lock is there and no run wrote it"), locked(tmp_path):
        pass
    assert (tmp_path / ".lock").read_text() == "of another program"


def test_a_set_that_is_there_may_be_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "shapes-7").mkdir(parents=True)
    for root in ("shapes:7", "tfds:coco/2017", "some/folder"):
        refuse_to_fetch(root, tmp_path / "config.json")


def test_a_folder_of_others_is_no_work_directory(tmp_path):
    (tmp_path / "config.json").write_text('{"of": "another program"}')
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(InputError, match=r"holds metrics\.jsonl, but no run; give another --workdir"):
        create_workdir(tmp_path, CornerConfig(), ("a",), (1,), recipe="")
    assert (tmp_path / "config.json").read_text() == '{"of": "another program"}'
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "metrics.jsonl"]


def test_a_configuration_of_others_is_left_alone(tmp_path):
    for content in ('{"of": "another program"}', to_json(dataclasses.replace(CornerConfig(), steps=7))):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(InputError, match=r"holds config\.json, but no run"):
            create_workdir(tmp_path, CornerConfig(), ("a",), (1,), recipe="")
        assert (tmp_path / "config.json").read_text() == content


@pytest.mark.parametrize("name", ["checkpoints", "tensorboard"])
def test_nothing_is_written_through_links_of_a_work_directory(tmp_path, name):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(tmp_path / "elsewhere")
    refused = pytest.raises(InputError, match=rf"run/{name} is a link, through which nothing is written")
    with refused, locked(tmp_path / "run"):
        pass
    assert not (tmp_path / "run" / ".lock").exists()


def test_what_a_killed_start_leaves_is_gone_on_with(tmp_path):
    for name in (".lock", f".run.json.{'0' * 32}"):
        (tmp_path / name).write_text("")
    (tmp_path / "config.json").write_text(to_json(CornerConfig()))
    assert create_workdir(tmp_path, CornerConfig(), ("a",), (1,), recipe="").class_names == ("a",)


def test_links_are_not_followed_for_writing(tmp_path):
    for name in (".lock", "metrics.jsonl", ".written_by_predict"):
        (tmp_path / "precious").write_text("precious")
        (tmp_path / name).symlink_to(tmp_path / "precious")
    with pytest.raises(InputError, match="Too many levels of symbolic links"), locked(tmp_path):
        pass
    with pytest.raises(OSError, match="symbolic links"):
        note(tmp_path, "a.jpg", "")
    (tmp_path / "metrics.jsonl").unlink()
    (tmp_path / "metrics.jsonl").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OSError, match="symbolic links"):
        _reopen(tmp_path / "metrics.jsonl", 0)
    assert (tmp_path / "precious").read_text() == "precious"


@pytest.mark.parametrize("line", ["no JSON}", "[1]}", '{"total": 1}', '{"step": "1"}', "{" * 100_000 + "}" * 100_000])
def test_a_damaged_line_of_the_log_is_named(tmp_path, line):
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 1}\n' + line + '\n{"step": 2}\n')
    with pytest.raises(InputError, match=r"metrics\.jsonl, line 2, is damaged"):
        _reopen(file, 5)
    assert line in file.read_text()


def test_check_replaces_what_a_check_wrote_and_nothing_else(tmp_path):
    refuse_to_replace(tmp_path)
    (tmp_path / "samples.jpg").write_text("a holiday")
    with pytest.raises(InputError, match=r"samples\.jpg is there and no check wrote it"):
        refuse_to_replace(tmp_path)
    report: dict[str, object] = {"root": "a/mine", "recipe": "", "splits": {}, "findings": []}
    (tmp_path / REPORT).write_text(json.dumps(report))
    with pytest.raises(InputError, match=r"samples\.jpg is there and no check wrote it"):
        refuse_to_replace(tmp_path)
    report["samples"] = hashlib.sha256(b"a holiday").hexdigest()
    (tmp_path / REPORT).write_text(json.dumps(report))
    refuse_to_replace(tmp_path)
    (tmp_path / REPORT).write_text('{"AP": 0.5}')
    with pytest.raises(InputError, match=r"report\.json is there and no check wrote it"):
        refuse_to_replace(tmp_path)


def test_every_data_set_has_a_folder_of_its_own_for_what_a_check_finds():
    assert default_folder("a/mine") != default_folder("b/mine")
    assert default_folder("a/mine").name.startswith("mine-")
    assert len(default_folder("d" * 250).name) <= 255


def test_names_are_text_to_a_spreadsheet(tmp_path):
    box = np.array([[1, 2, 3, 4]], np.float32), np.array([0.5], np.float32), np.array([0], np.int32)
    found = Detections(*box, class_names=("=cmd|' /C calc'!A0",))
    write_results(tmp_path, [Entry("=1+1.jpg", None, None, 1, found)], ["csv"], [1])
    (row,) = csv.DictReader(io.StringIO((tmp_path / "detections.csv").read_text()))
    assert row["file"] == "'=1+1.jpg"
    assert row["class"] == "'=cmd|' /C calc'!A0"


def test_names_are_text_to_a_terminal(capsys, monkeypatch):
    def fails():
        raise InputError("no \x1b[2Jclass\nerror: \udc80" + "x" * 10_000)

    monkeypatch.setattr(sys, "argv", ["cornerjax"])
    with pytest.raises(SystemExit) as ended:
        run_command(fails)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(r"error: no \x1b[2Jclass\nerror: \udc80xxx")
    assert said.count("\n") == 1
    assert len(said) < 1020


def test_letters_of_every_script_stay():
    text = "Größe 対象 قطة 🐈 «x» a b"
    assert plain(text) == text
    assert shortened("a" * 100, 20) == "a" * 9 + " ... " + "a" * 6
