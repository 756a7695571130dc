"""What can happen to a run from outside: kill -9, SIGTERM, a full disk, a second run in its directory."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cornerjax.config import to_json
from cornerjax.errors import InputError, RunError
from cornerjax.training.loop import train
from cornerjax.workdir import locked

pytestmark = pytest.mark.slow  # whole runs, in processes of their own
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("network", ["config", "points"])
def test_after_kill_9_during_a_save_and_after_sigterm_a_run_ends_with_the_same_bits(request, tmp_path, network):
    """The show of benchmarks/resume.py, with a tiny network and one kill."""
    config = request.getfixturevalue(network)
    recipe = tmp_path / "tiny.py"
    (tmp_path / "config.json").write_text(to_json(config))
    file = str(tmp_path / "config.json")
    recipe.write_text(
        f"from cornerjax.detectors import read_config\n\n\ndef config():\n    return read_config({file!r})\n"
    )
    options = {"config": recipe, "root": config.data.root, "steps": 20, "save-steps": 4, "kills": 0, "saves": 1}
    options["folder"] = tmp_path / "runs"
    command = [sys.executable, str(ROOT / "benchmarks" / "resume.py"), *(f"--{k}={v}" for k, v in options.items())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "while a checkpoint was being written" in done.stdout
    assert re.search(r"exit code 143: stopped by SIGTERM at step \d+, which is saved", done.stdout)
    hashes = re.findall(r"step 20 (\w{64})", done.stdout)
    assert len(hashes) == 3
    assert len(set(hashes)) == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # writes that orbax gives up
def test_a_full_disk_ends_a_run_with_one_sentence_and_room_lets_it_go_on(config, small_disk, tmp_path, digest):
    straight = digest(train(config, tmp_path / "straight").path)
    for left in (0, 12, 16, 96):  # KiB: for not even the record of the run, for some of it, for no checkpoint
        run, filler = small_disk / str(left), small_disk / "filler"
        free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
        filler.write_bytes(bytes(free - left * 1024))
        with pytest.raises(
            RunError, match=r"^cannot write [^;]*: No space left on device.*; make room and run the sam"
        ):
            train(config, run)
        filler.unlink()
        assert not list(run.glob("checkpoints/*tmp*"))
        assert digest(train(config, run).path) == straight
        shutil.rmtree(run)


HOLD = """
import sys, time
from pathlib import Path
from cornerjax.workdir import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(100)
"""


def test_a_second_run_in_a_directory_is_refused_until_the_first_has_ended_even_by_kill_9(config, tmp_path):
    first = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "run"], stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout
        assert first.stdout.readline() == "held\n"
        message = (
            rf"^work directory {tmp_path}/run is in use by process {first.pid} on \S+ \(since \S+ \S+\); "
            r"wait for it, stop it, or give another --workdir$"
        )
        with pytest.raises(InputError, match=message):
            train(config, tmp_path / "run")
        first.send_signal(signal.SIGKILL)
        first.wait()
        with locked(tmp_path / "run"):
            pass
    finally:
        first.kill()
        first.communicate()


def test_a_directory_that_cannot_be_made_or_written_is_refused(config, small_disk, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write work directory .*/file/run: Not a directory$"):
        train(config, tmp_path / "file" / "run")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for run in (small_disk, small_disk / "run"):
        with pytest.raises(InputError, match=rf"cannot write work directory {run}: Read-only file system$"):
            train(config, run)
