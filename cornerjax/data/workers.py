"""Who makes the examples of training batches: threads of this process, or processes of their own.

Processes are plain programs that end when their socket does: nothing is forked, the main module is not imported again,
and whatever happens to this process, none is left.
"""

import atexit
import contextlib
import os
import pickle
import queue
import signal
import socket
import subprocess
import sys
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection

import cloudpickle

from cornerjax.config import Data
from cornerjax.data.batch_memory import Batch, BatchMemory
from cornerjax.data.examples import Make, Row, fill
from cornerjax.errors import RunError
from cornerjax.threads import usable_cores

MOST = 32  # workers where data.workers leaves the number to us: no accelerators of one machine are known to need more
START = """
import sys
from multiprocessing.connection import Connection
connection = Connection(int(sys.argv[1]))
try:
    sys.path[:] = connection.recv()
except (EOFError, OSError):  # the other process has ended
    sys.exit()
from cornerjax.data.worker import main
main(connection, int(sys.argv[2]))
"""
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",  # an accelerator is not a worker's to take
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # Arrays of an example are freed and made again all the time: the C library is to keep their memory.
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
}


# What people and schedulers end a run with, often all of its processes: this one still needs its workers to do a step.
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


def worker_count(data: Data) -> int:
    """How many workers the options ask for; left to us: as many as this process has cores, but one."""
    return data.workers or max(1, min(usable_cores() - 1, MOST))


class Threads:
    """Threads of this process, which has one interpreter: only what OpenCV does goes on at the same time."""

    def __init__(self, count: int, make: Make, memory: BatchMemory):
        self._make, self._threads = make, ThreadPoolExecutor(count)
        with contextlib.ExitStack() as ending:
            ending.callback(self._threads.shutdown, cancel_futures=True)
            self.close = ending.pop_all().close  # called once more, it does nothing

    def submit(self, number: int, batch: Batch, rows: Sequence[Row]) -> "Future[list[Exception | None]]":
        """Have rows of a batch, given by its number and its arrays, filled, see examples.fill."""
        return self._threads.submit(fill, self._make, batch, rows)


class Processes:
    """Processes, and a thread for each that waits for it."""

    def __init__(self, count: int, make: Make, memory: BatchMemory):
        self._idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        self._threads = ThreadPoolExecutor(count)
        with contextlib.ExitStack() as ending:  # from the last line to the first
            workers = [ending.enter_context(contextlib.closing(Worker(make, memory))) for _ in range(count)]
            ending.callback(self._threads.shutdown, cancel_futures=True)
            for worker in workers:
                self._idle.put(worker)
                ending.callback(worker.kill)  # which wakes the thread that waits for it
            self.close = ending.pop_all().close  # called once more, it does nothing

    def submit(self, number: int, batch: Batch, rows: Sequence[Row]) -> "Future[list[Exception | None]]":
        return self._threads.submit(self._ask, number, rows)

    def _ask(self, number: int, rows: Sequence[Row]) -> list[Exception | None]:
        worker = self._idle.get()
        try:
            return worker.ask(number, rows)
        finally:
            self._idle.put(worker)


@contextlib.contextmanager
def open_pool(data: Data, make: Make, memory: BatchMemory) -> Generator[Threads | Processes]:
    """The workers that the options ask for; they have ended when this does."""
    kind = Threads if data.worker_kind == "thread" else Processes
    pool = kind(worker_count(data), make, memory)
    atexit.register(pool.close)  # for batches that are still there when the program ends
    try:
        yield pool
    finally:
        atexit.unregister(pool.close)
        pool.close()


class Worker:
    """A process that runs worker.main."""

    def __init__(self, make: Make, memory: BatchMemory):
        setup = cloudpickle.dumps((make, memory.layout))
        ours, theirs = socket.socketpair()
        self._connection = Connection(ours.detach())
        with theirs:
            self._process = self._started(theirs.fileno(), memory.file)
        with contextlib.ExitStack() as unless_ready:
            unless_ready.callback(self.close)
            try:
                self._connection.send(sys.path)
                self._connection.send_bytes(setup)
            except OSError:
                raise self._ended() from None
            unless_ready.pop_all()

    def _started(self, *files: int) -> subprocess.Popen:
        try:
            with _held_back(STOPS):  # as the new process finds them, so they stay
                return subprocess.Popen(
                    [sys.executable, "-c", START, *map(str, files)],
                    pass_fds=files,
                    stdin=subprocess.DEVNULL,
                    env={**os.environ, **ENVIRONMENT},
                    process_group=0,  # Ctrl-C in a terminal is for this process, which ends the workers
                )
        except OSError as e:
            raise RunError(
                f"cannot start a worker process that makes training examples: {e.strerror}; fewer --data.workers may do"
            ) from None

    def ask(self, number: int, rows: Sequence[Row]) -> list[Exception | None]:
        """Fill rows of the batch of this number.

        Raises: RunError: the process has ended. Exception: it cannot make any examples.
        """
        try:
            self._connection.send_bytes(pickle.dumps((number, rows)))  # `send` takes twice as long
            answer = self._connection.recv()
        except (EOFError, OSError):
            raise self._ended() from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _ended(self) -> RunError:
        code = self._process.wait()
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return RunError(
            f"a worker process that makes training examples {how}; where memory is short, fewer --data.workers "
            "need less of it"
        )

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        """End it and wait until it has ended."""
        self.kill()
        self._process.wait()
        self._connection.close()


@contextlib.contextmanager
def _held_back(numbers: Sequence[signal.Signals]) -> Generator[None]:
    """Have these signals wait, in this thread and for ever in the processes that it starts meanwhile."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
