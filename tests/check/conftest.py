"""A sound set, and the command."""

import json
from pathlib import Path

import pytest

from cornerjax.commands.check import main
from cornerjax.data.shapes import write_shapes


@pytest.fixture(scope="session")
def shapes(tmp_path_factory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("data") / "shapes", seed=0, train=30, val=6)


@pytest.fixture
def check(capsys, tmp_path):
    """check("--root", ...) -> exit code, what was printed, the report."""

    def call(*args: str | Path) -> tuple[int, str, dict]:
        with pytest.raises(SystemExit) as end:
            main([*map(str, args), "--out", str(tmp_path / "out")])
        assert isinstance(end.value.code, int)
        return end.value.code, capsys.readouterr().out, json.loads((tmp_path / "out/report.json").read_text())

    return call
