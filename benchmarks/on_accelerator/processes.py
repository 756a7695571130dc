"""Each part in a process of its own: one that hangs, or whose kernel breaks the device, takes no other part with it."""

import importlib
import multiprocessing
import os
import platform
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from multiprocessing.connection import Connection
from typing import Any

from on_accelerator.bench import Bench, Row

GRACE = 20.0  # seconds after its time in which a part may end what it has begun


def rows_of(module: str, *, end: float, small: bool) -> Iterator[Row]:
    """What a part finds, as it finds it.

    Args:
        module: with the function `measure`.
        end: when its time is over, by time.monotonic, which is the same in all processes of a machine.
    """
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe(duplex=False)
    process = spawn.Process(target=work, args=(module, end, small, there))
    process.start()
    there.close()
    ended = False
    try:
        while here.poll(max(0.0, end + GRACE - time.monotonic())):
            try:
                yield here.recv()
            except EOFError:
                ended = True
                break
    finally:
        if not ended:
            kill(process)
        process.join()
    if not ended:
        yield {"note": "ended: its time was over and it went on"}
    elif process.exitcode:
        yield {"note": f"failed: its process ended with {process.exitcode}"}


def work(module: str, end: float, small: bool, send: Connection) -> None:
    """The process of a part: ends at once when the part has, whatever its threads still compile."""
    os.setsid()  # so that its own processes can be ended with it
    warnings.simplefilter("ignore", DeprecationWarning)  # Triton announces its end with every kernel
    bench = Bench(send.send, end=end, small=small, cores=len(os.sched_getaffinity(0)))
    measure = importlib.import_module(module).measure  # by name: no part needs what the others import
    bench.send({"about": about()})
    measure(bench)
    send.close()
    sys.stdout.flush()
    os._exit(0)


def kill(process: Any) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:  # it has not come as far as having a session, or has ended
        process.kill()


def about() -> dict[str, str]:
    import jax

    device = jax.devices()[0]
    memory = (device.memory_stats() or {}).get("bytes_limit")
    return {
        "device": device.device_kind,
        **({"memory for JAX": f"{memory / 1e9:.0f} GB"} if memory else {}),
        "cores": str(len(os.sched_getaffinity(0))),
        "Python": platform.python_version(),
        **{package: version(package) for package in ("jax", "jaxlib", "flax", "optax", "numpy")},
        "XLA": device.client.platform_version.replace("\n", " ").strip(),
    }
