"""What commands change of their process, and that it is as before when they end."""

import contextlib
import gc
import logging
import os
import sys
import warnings
from types import SimpleNamespace

import cv2
import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from cornerjax.checkpoint import Checkpoints, restore_weights
from cornerjax.commands import process
from cornerjax.commands.process import LOGS, cache_folder, compiled_once, quiet, single_threaded_opencv
from cornerjax.errors import InputError, RunError


@pytest.fixture
def unraisable(monkeypatch):
    """What the hook of the program around gets; its logs have levels of their own."""
    printed: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", printed.append)
    for name in LOGS:
        monkeypatch.setattr(logging.getLogger(name), "level", logging.INFO)
    return printed


def state():
    return sys.unraisablehook, [logging.getLogger(name).level for name in LOGS]


def leave_something_behind():
    """What tensorstore's threads do when the save or read that they belong to has failed, and a defect elsewhere."""
    for said in ("Event loop is closed", "Encountered error while reading array index: (slice(0, 2, 1),)", "a defect"):
        sys.unraisablehook(SimpleNamespace(exc_value=RuntimeError(said)))


@pytest.mark.parametrize("error", [None, InputError, ZeroDivisionError, SystemExit])
def test_hooks_and_levels_are_as_before(error, unraisable):
    before = state()
    with pytest.raises(error) if error else contextlib.nullcontext(), quiet():
        assert state() != before
        leave_something_behind()
        if error:
            raise error
    assert state() == before
    assert [str(what.exc_value) for what in unraisable] == ["a defect"]


def test_after_a_failed_save_its_threads_stay_quiet(unraisable):
    with pytest.raises(RunError), quiet():
        raise RunError("cannot write a checkpoint")
    leave_something_behind()
    assert [str(what.exc_value) for what in unraisable] == ["a defect"]


def test_reads_that_orbax_gives_up_say_nothing(tmp_path, unraisable, capfd):
    """It reads the arrays while it finds that what describes them is damaged."""
    weights = {"params": {str(i): jnp.zeros((50, 40)) for i in range(20)}, "model_state": {"m": jnp.zeros(2)}}
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, weights)
    described = tmp_path / "checkpoints" / "2" / "weights" / "array_metadatas" / "process_0"
    described.write_bytes(described.read_bytes()[: described.stat().st_size // 2])
    with quiet():
        assert restore_weights(tmp_path, "latest")[2] == 1
    gc.collect()
    assert not unraisable
    assert "Traceback" not in capfd.readouterr().err


def test_opencv_has_its_threads_back():
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    with single_threaded_opencv():
        assert cv2.getNumThreads() == 1
    assert cv2.getNumThreads() == 3
    cv2.setNumThreads(before)


@pytest.fixture
def home(monkeypatch, tmp_path):
    """A user's cache folder, of a user who has given JAX none."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tests_own = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()
    yield tmp_path / "cache"
    jax.config.update("jax_compilation_cache_dir", tests_own)
    compilation_cache.reset_cache()


@pytest.fixture
def events():
    """What JAX says of its cache."""
    heard: list[str] = []

    def hear(event: str, **_: str | int) -> None:
        heard.append(event.removeprefix("/jax/compilation_cache/cache_"))

    jax.monitoring.register_event_listener(hear)
    yield heard
    jax.monitoring.unregister_event_listener(hear)


def in_a_new_process(events) -> tuple[int, int]:
    """How many programs are found in the cache, and how many put there, by one that has compiled nothing."""
    jax.clear_caches()
    events.clear()
    assert jax.jit(lambda x: 3 * x + 1)(jnp.ones(7)).tolist() == [4] * 7
    return events.count("hits"), events.count("misses")


def programs(home):
    return [path for path in home.rglob("*") if path.is_file()]


def test_what_a_command_compiles_the_next_one_finds(home, events):
    options = [name for name in jax.config.values if "cache" in name]
    before = {name: jax.config.values[name] for name in options}
    with compiled_once():
        found, put = in_a_new_process(events)
    assert (found, put) == (0, len(programs(home)))
    assert put > 0
    with compiled_once():
        assert in_a_new_process(events) == (put, 0)
    assert {name: jax.config.values[name] for name in options} == before
    assert in_a_new_process(events) == (0, 0)


def test_a_cache_of_the_users_own_stays(home, events, tmp_path, monkeypatch):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "own"))
    with compiled_once():
        assert jax.config.values["jax_compilation_cache_dir"] == str(tmp_path / "own")
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)  # each of several machines has its own
    with compiled_once():
        assert in_a_new_process(events) == (0, 0)
    assert not home.exists()


def test_a_cache_that_cannot_be_written_is_no_error(home, events, monkeypatch):
    home.write_text("")
    with compiled_once():
        assert in_a_new_process(events) == (0, 0)
    home.unlink()
    with monkeypatch.context() as forbidden:  # to root nothing is
        forbidden.setattr(os, "access", lambda folder, mode: False)
        assert cache_folder() is None
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(process.Path, "home", lambda: fail(RuntimeError("no home")))
    assert cache_folder() is None


def fail(error):
    raise error


def test_damaged_programs_are_compiled_again_without_a_word(home, events, recwarn):
    with compiled_once():
        in_a_new_process(events)
        for path in programs(home):
            path.write_bytes(path.read_bytes()[:100])
        assert in_a_new_process(events)[0] == 0
        for path in programs(home):
            path.unlink()
            path.mkdir()
        assert in_a_new_process(events)[0] == 0
    assert not recwarn.list


def test_damaged_programs_are_written_again(home, events):
    """JAX itself would leave them as they are, and compile them in every process."""
    with compiled_once():
        put = in_a_new_process(events)[1]
    whole = {path: path.stat().st_size for path in programs(home)}
    for path in programs(home):
        path.write_bytes(path.read_bytes()[:100])
    with compiled_once():
        assert in_a_new_process(events)[0] == 0
    assert {path: path.stat().st_size // 1000 for path in programs(home)} == {
        path: size // 1000 for path, size in whole.items()
    }
    with compiled_once():
        assert in_a_new_process(events) == (put, 0)


def test_warnings_of_others_are_heard_while_programs_are_kept(home):
    with pytest.warns(UserWarning, match="of another"), compiled_once():
        warnings.warn("of another", stacklevel=1)


def test_the_programs_that_were_not_used_for_longest_go_first(home, monkeypatch):
    folder = cache_folder()
    assert folder is not None
    assert folder.is_relative_to(home / "cornerjax" / "compiled")
    for used, written, name in [(1, 9, "a"), (8, 2, "b"), (3, 3, "c"), (4, 1, "d")]:
        (folder / name).write_bytes(bytes(10))
        os.utime(folder / name, (used, written))
    monkeypatch.setattr(process, "MOST_BYTES", 25)
    assert cache_folder() == folder
    assert sorted(path.name for path in folder.iterdir()) == ["a", "b"]
    assert folder.stat().st_mode & 0o077 == 0


def test_a_program_that_another_process_removes_meanwhile_is_no_reason_to_have_no_cache(home, monkeypatch):
    folder, is_file = cache_folder(), process.Path.is_file
    assert folder is not None
    (folder / "a").write_bytes(b"")

    def vanish(path):
        there = is_file(path)
        path.unlink()
        return there

    monkeypatch.setattr(process.Path, "is_file", vanish)
    assert cache_folder() == folder


def test_programs_for_other_processors_lie_elsewhere(home, monkeypatch):
    here = cache_folder()
    monkeypatch.setattr(process.Path, "read_text", lambda path: "flags : fpu of_another_processor")
    assert cache_folder() != here
