"""Signals are held back until the loop asks for them, and every process of a run gets the same answer."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from cornerjax.training.stop import Stopped, StopSignals


@pytest.fixture(autouse=True)
def handlers():
    """Those of a program in the foreground: the tests may run in the background, where a shell has SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_waits_until_it_is_asked_for(number):
    with StopSignals() as signals:
        assert signals.asked(1) is None
        os.kill(os.getpid(), number)
        assert signals.asked(2) == signals.asked(3) == number


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_what_is_ignored_when_a_run_starts_stays_ignored(number):
    """As nohup has it, and shells that start something in the background."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            os.kill(os.getpid(), number)
            assert signals.asked(1) is None
        assert signal.getsignal(number) == signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_the_first_signal_is_answered_at_once(capfd, monkeypatch):
    monkeypatch.setattr(sys, "stderr", sys.__stderr__)
    with StopSignals():
        os.kill(os.getpid(), signal.SIGINT)
        said = "SIGINT: stopping, after saving the step that is being done; once more: at once"
        assert capfd.readouterr().err.strip() == said
        monkeypatch.setattr(sys, "stderr", None)  # as where there is none
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_second_signal_of_the_same_kind_works_at_once():
    with StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert signals.asked(1) == signal.SIGINT
        assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL


def test_afterwards_signals_work_as_before():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with StopSignals():
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] != before
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_in_another_thread_nothing_is_held_back():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def hold():
        with StopSignals() as signals:
            seen.extend([signal.getsignal(signal.SIGTERM), signals.asked(1)])

    thread = threading.Thread(target=hold)
    thread.start()
    thread.join()
    assert seen == [before, None]


def test_in_an_evaluation_a_signal_is_not_held_back():
    def evaluate(signals, step):
        with signals.at_once(step):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)

    with StopSignals() as signals:
        with pytest.raises(Stopped) as stopped:
            evaluate(signals, 7)
        with pytest.raises(Stopped), signals.at_once(8):
            pytest.fail("it was asked to stop before")
    assert (stopped.value.code, stopped.value.signal, stopped.value.step) == (143, signal.SIGTERM, 7)


def test_the_last_line_says_how_to_go_on(capsys):
    with pytest.raises(SystemExit) as stopped, StopSignals():
        raise Stopped(signal.SIGINT, 12)
    assert stopped.value.code == 130
    line = "stopped by SIGINT at step 12, which is saved; the same command goes on from there\n"
    assert capsys.readouterr().out == line


ONE_OF_TWO = """
import itertools, sys, time
import jax
process, port = int(sys.argv[1]), sys.argv[2]
jax.distributed.initialize(f"127.0.0.1:{port}", 2, process)
from cornerjax.training.stop import StopSignals
with StopSignals() as signals:
    print("asking", flush=True)
    for step in itertools.count(1):
        time.sleep(0.02 + 0.001 * process)
        if stop := signals.asked(step):
            break
print(step, stop.name, flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_one_of_two_processes_stops_both_at_the_same_step(number):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = os.environ | {"no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1", "JAX_PLATFORMS": "cpu"}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", ONE_OF_TWO, str(process), port],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for process in range(2)
    ]
    try:
        for process in both:
            assert process.stdout
            assert process.stdout.readline() == "asking\n"
        both[1].send_signal(number)
        (first, _), (second, errors) = (process.communicate(timeout=300) for process in both)
    finally:
        for process in both:
            process.kill()
    assert second.split() == [first.split()[0], number.name], errors
