"""Several processes that work on one run: how they find each other, and how none outlives the others for long.

jax watches over them: each sends heartbeats to the first, and whoever is without the others is ended, from C++ and with
a stack trace, wherever it waits. What it lacks is a sentence for people, and a word before rather than an abort after.
"""

import contextlib
import dataclasses
import glob
import importlib.util
import os
import socket
import subprocess
import sys
import time
import traceback
import urllib.request
from collections.abc import Iterator
from typing import NoReturn

from cornerjax.errors import InputError, RunError

CONNECT_S = 300  # within which all processes must have started
HEARTBEAT_S = 30  # a process that is silent for so long is lost; a dead first one is noticed at once
LEAVE_S = 3  # for all to say what is wrong, where it is wrong with all: without the first one they are ended
METADATA_S = 5  # for a TPU machine to say which pod it belongs to

STOPPED = (
    "error: another process of this run has stopped, or this one was stopped; "
    "the same command, given to all of them again, goes on from the last checkpoint"
)


@dataclasses.dataclass(frozen=True)
class Hosts:
    """The processes of a run, one a machine or one a GPU; started by srun or on a TPU pod they need no options."""

    coordinator: str = ""  # host:port of the first process, the same for all; auto: ask SLURM, Open MPI or the TPU pod
    count: int = 1  # number of processes
    index: int = 0  # of this process, from 0


@contextlib.contextmanager
def joined(hosts: Hosts) -> Iterator[None]:
    """Join the other processes of a run, and leave together with them; with one process, nothing happens.

    An error in one of several processes is printed and ends it at once, without the clean-up that would wait for the
    others; these end too, within HEARTBEAT_S and a few seconds. No device may be used before.

    Raises: InputError: the options contradict each other, or the first process cannot be reached.
    """
    check(hosts)
    automatic = hosts.coordinator == "auto" or (not hosts.coordinator and in_cluster())
    if hosts.count == 1 and not automatic:
        yield
        return
    import jax  # takes a second, and the commands read their options with Hosts first
    from jax.experimental import multihost_utils

    with _last_word() as say_at_end:
        say_at_end(
            f"error: the processes of this run did not find each other within {CONNECT_S} s; all of them must be "
            "started, with the same coordinator and count and an index of their own"
        )
        if not automatic:
            _await_coordinator(hosts)
        explicit = (hosts.coordinator, hosts.count, hosts.index)
        address, count, index = (None, None, None) if automatic else explicit
        try:
            jax.distributed.initialize(
                address, count, index, initialization_timeout=CONNECT_S, heartbeat_timeout_seconds=HEARTBEAT_S
            )
        except ValueError as e:  # raised before any connection is made
            raise InputError(f"hosts.coordinator is auto, but there is no cluster that jax knows: {e}") from None
        say_at_end(STOPPED)

        def end(said: str, code: int) -> NoReturn:
            _end(said, code, first=jax.process_index() == 0)

        try:
            yield
            # Shutting down would end all who wait for the first, which has more to do, after 300 s. Its timeout is of
            # no use: jax gives it to the first process only.
            multihost_utils.sync_global_devices("done")
        except KeyboardInterrupt:
            say_at_end("")
            end("", 130)
        except Exception as e:
            if _lost(e):
                end(str(e).splitlines()[0], 1)
            if not isinstance(e, (InputError, RunError)):
                end(traceback.format_exc(), 1)
            say_at_end("")
            end(f"error: {e}", e.exit_code)
        jax.distributed.shutdown()


def check(hosts: Hosts) -> None:
    """Refuse options that contradict each other.

    Raises: InputError: naming the option, its value and what is accepted.
    """
    if hosts.count < 1:
        raise InputError(f"hosts.count is {hosts.count}; accepted is 1 or more")
    if not 0 <= hosts.index < hosts.count and hosts.coordinator != "auto":
        raise InputError(f"hosts.index is {hosts.index}; accepted is 0 to hosts.count - 1 = {hosts.count - 1}")
    if hosts.coordinator == "auto":
        if (hosts.count, hosts.index) != (1, 0):
            raise InputError("hosts.coordinator is auto: hosts.count and hosts.index come from the cluster then")
    elif hosts.coordinator:
        host, _, port = hosts.coordinator.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise InputError(f"hosts.coordinator is {hosts.coordinator!r}; accepted are host:port and auto")
        if hosts.count == 1:
            raise InputError("hosts.coordinator is given, but hosts.count is 1; give the number of processes too")
    elif hosts.count > 1:
        raise InputError(f"hosts.count is {hosts.count}; give hosts.coordinator too, the first one's host:port")


def in_cluster() -> bool:
    """Whether srun, mpirun or a TPU pod started this process together with others."""
    # Only a step of SLURM, begun by srun, has a node list: a batch script is one process, whatever its task count.
    slurm = {"SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID"} <= set(os.environ)
    sizes = [
        os.environ.get("SLURM_NTASKS", "1") if slurm else "1",
        os.environ.get("OMPI_COMM_WORLD_SIZE", "1"),
        os.environ.get("MEGASCALE_NUM_SLICES", "1"),
    ]
    return any(int(size) > 1 for size in sizes) or _tpu_workers() > 1


def _tpu_workers() -> int:
    """The machines of the TPU slice that this one belongs to; 1 without a TPU, and where nobody knows."""
    if not _has_tpu():
        return 1
    names = os.environ.get("TPU_PROCESS_ADDRESSES") or os.environ.get("TPU_WORKER_HOSTNAMES") or _endpoints()
    return len(names.split(","))


def _has_tpu() -> bool:
    chips = glob.glob("/dev/accel[0-9]*") + glob.glob("/dev/vfio/[0-9]*")
    return bool(chips) and importlib.util.find_spec("libtpu") is not None


def _endpoints() -> str:
    """What Google's metadata server, which answers on its virtual machines only, says of the slice."""
    server = os.environ.get("GCE_METADATA_IP", "metadata.google.internal")
    url = f"http://{server}/computeMetadata/v1/instance/attributes/worker-network-endpoints"
    request = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
    try:
        with urllib.request.urlopen(request, timeout=METADATA_S) as answer:
            return answer.read().decode()
    except OSError:
        return ""


def _await_coordinator(hosts: Hosts) -> None:
    """Find out in Python what jax would end the process for: the first one not there, or its port taken.

    Raises: InputError: one of these.
    """
    host, _, port = hosts.coordinator.rpartition(":")
    if hosts.index == 0:
        try:
            socket.create_server(("", int(port))).close()
        except OSError as e:
            raise InputError(f"hosts.coordinator: port {port} cannot be used here: {e.strerror}") from None
        return
    until = time.monotonic() + CONNECT_S
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return
        except OSError as e:
            if time.monotonic() > until:
                raise InputError(
                    f"hosts.coordinator: no process answers at {hosts.coordinator} within {CONNECT_S} s "
                    f"({e.strerror or e}); start the first one, with hosts.index 0, on that machine"
                ) from None
            time.sleep(0.5)


@contextlib.contextmanager
def _last_word() -> Iterator:
    """Have a shell say, should this process end before the context does, the last sentence that it was given.

    jax tells nobody before it aborts, and no Python runs in an abort or after it: the shell outlives it.
    """
    script = 'while IFS= read -r line; do word=$line; done; [ -z "$word" ] || echo "$word" >&2'
    with subprocess.Popen(
        ["/bin/sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True
    ) as shell:
        assert shell.stdin

        def say_at_end(sentence: str) -> None:
            with contextlib.suppress(OSError):  # somebody ended the shell
                print(sentence, file=shell.stdin, flush=True)

        try:
            yield say_at_end
        finally:
            say_at_end("")


def _lost(e: Exception) -> bool:
    """Whether an exception only says that another process is gone: collectives and barriers fail then."""
    return any(said in str(e) for said in ("Gloo", "oordination service", "Barrier"))


def _end(said: str, code: int, *, first: bool) -> NoReturn:
    print(said, file=sys.stderr, end="\n" if said else "")
    sys.stdout.flush()
    sys.stderr.flush()
    if first:
        time.sleep(LEAVE_S)
    os._exit(code)
