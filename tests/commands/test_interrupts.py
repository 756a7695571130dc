"""Ctrl-C ends a command wherever it is, without a traceback."""

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cornerjax import interrupts

ROOT = Path(__file__).parents[2]
FOREGROUND = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "


@pytest.fixture
def foreground():
    """Of a program in the foreground: tests may run where a shell has SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def swallow():
    with contextlib.suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_what_swallows_it_once_is_interrupted_again(foreground, monkeypatch):
    monkeypatch.setattr(interrupts, "AGAIN_S", 0.05)

    def work():
        with interrupts.heard():
            swallow()
            time.sleep(60)

    with pytest.raises(KeyboardInterrupt):
        work()
    interrupts.check()  # it has come to its end
    time.sleep(0.1)


def test_where_the_next_part_begins_it_is_remembered(foreground):
    with interrupts.heard():
        interrupts.check()
        swallow()
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()


def test_who_handles_it_already_goes_on_doing_so(foreground):
    heard = []
    signal.signal(signal.SIGINT, lambda *_: heard.append(True))
    interrupts.at_once()
    with interrupts.heard():
        signal.raise_signal(signal.SIGINT)
    assert heard == [True]


@pytest.mark.parametrize("while_it", ["imports", "works"])
def test_a_command_ends_without_a_traceback(while_it):
    work = "from cornerjax.commands import cli; cli.run(lambda: (print('there', flush=True), time.sleep(600)))"
    if while_it == "imports":
        work = "from cornerjax import interrupts; interrupts.at_once(); print('there', flush=True); time.sleep(600)"
    command = [sys.executable, "-c", f"import time; {FOREGROUND}{work}"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, text=True, stdout=pipe, stderr=pipe) as process:
        assert process.stdout
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == (130 if while_it == "works" else -signal.SIGINT)
    assert errors == ""
