"""benchmarks/attack.py in short: hostile descriptions, checkpoints and command lines are refused, or work."""

import logging
import random

import pytest

from benchmarks.attacks import checkpoints, commands, descriptions, large
from benchmarks.attacks.outcome import Outcome
from benchmarks.attacks.runs import make_run
from cornerjax.errors import InputError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("attacked"))


def test_descriptions(run, tmp_path):
    outcome = descriptions.attack(run, tmp_path / "described", 40, random.Random(0))
    assert not outcome.failures, outcome.failures
    assert 10 < outcome.refused < 40


def test_checkpoints(run, tmp_path):
    level = logging.getLogger("cornerjax").level
    outcome = checkpoints.attack_data(run, tmp_path / "damaged", 20, random.Random(0))
    assert not outcome.failures, outcome.failures
    assert outcome.tried == 20
    assert logging.getLogger("cornerjax").level == level


def test_files_of_pytorch(tmp_path):
    pytest.importorskip("torch")
    outcome = checkpoints.attack_torch(tmp_path / "torch", 40, random.Random(0))
    assert not outcome.failures, outcome.failures
    assert outcome.refused > 30


def test_command_lines(run, tmp_path):
    outcome = commands.attack(run, tmp_path / "commands", 30, random.Random(0))
    assert not outcome.failures, outcome.failures
    assert outcome.refused > 20


def test_large_inputs(run, tmp_path):
    pytest.importorskip("torch")
    given = large.inputs(run, tmp_path / "large")
    for what in (".pth, 45 tuples in tuples", "lists 100,000 deep as results"):
        taken = large.measure(what, given[what], tmp_path / "large")
        assert not taken.failure, taken
        assert taken.code == 2


def test_what_is_neither_refused_nor_works_is_a_failure():
    outcome = Outcome("all", "/folder", limit_s=0.2)
    with outcome.trial("works"):
        pass
    with outcome.trial("refused"):
        raise InputError("/folder/file is no JSON")
    for said in ("x" * 501, "two\nlines"):
        with outcome.trial("at length"):
            raise InputError(said)
    with outcome.trial("bug"):
        raise KeyError("model")
    with outcome.trial("exit"):
        raise SystemExit(3)
    with outcome.trial("slow"):
        sum(range(10**8))
    assert (outcome.tried, outcome.refused, len(outcome.failures)) == (7, 4, 5)
    assert outcome.failures[2] == "bug: KeyError: 'model'"
