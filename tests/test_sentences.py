"""What the system has against files, as sentences; what one process finds, all say."""

import errno
import os

import jax
import pytest

from cornerjax import devices
from cornerjax.commands.cli import run as run_command
from cornerjax.errors import InputError, RunError, of_files


def fail(number: int, name: str | None = "some/file") -> None:
    with of_files():
        raise OSError(number, os.strerror(number), name)


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EROFS])
def test_a_file_that_cannot_be_used_is_the_users_choice(number):
    with pytest.raises(InputError, match=rf"^cannot use some/file: {os.strerror(number)}; expected a file or folder"):
        fail(number)


@pytest.mark.parametrize(("number", "name"), [(errno.ENOSPC, None), (errno.EIO, "some/file"), (errno.EMFILE, "x")])
def test_trouble_is_not(number, name):
    with pytest.raises(RunError, match=rf"^cannot read or write {name or 'a file'}: {os.strerror(number)}$"):
        fail(number, name)


@pytest.mark.parametrize(("number", "name"), [(errno.EPIPE, "x"), (errno.EINVAL, None)])
def test_other_errors_are_bugs_or_have_a_meaning_of_their_own(number, name):
    with pytest.raises(OSError, match=os.strerror(number)):
        fail(number, name)


def test_a_command_says_it(capsys):
    with pytest.raises(SystemExit) as ended:
        run_command(lambda: os.rmdir("x" * 300))
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: cannot use xxx")


def test_a_device_without_memory_is_one_sentence(capsys):
    def fail(said: str) -> None:
        raise jax.errors.JaxRuntimeError(said)

    with pytest.raises(SystemExit) as ended:
        run_command(lambda: fail("RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes"))
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("error: there is not enough memory on the device for this; a smaller")
    with pytest.raises(jax.errors.JaxRuntimeError):  # a bug
        run_command(lambda: fail("INTERNAL"))


@pytest.mark.parametrize("index", [0, 1])
def test_what_the_first_process_finds_all_raise(monkeypatch, index):
    """The other's answers are made up; tests/test_hosts.py has two processes."""
    checked = []

    def check() -> None:
        checked.append(index)
        raise InputError("found here")

    of_first = InputError("found by the first")
    monkeypatch.setattr(devices.jax, "process_index", lambda: index)
    monkeypatch.setattr(devices, "gather", lambda mine: [mine if index == 0 else of_first, mine])
    with pytest.raises(InputError, match="found here" if index == 0 else "found by the first"):
        devices.by_first(check)
    monkeypatch.setattr(devices, "gather", lambda mine: [mine if index == 0 else "of the first", mine])
    assert devices.by_first(lambda: "of the first") == "of the first"
    assert checked == [0] * (index == 0)
