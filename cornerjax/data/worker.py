"""The program of an input worker's process; workers.py starts it."""

import pickle
import traceback
from collections.abc import Callable
from functools import cache, partial
from multiprocessing.connection import Connection

import cv2

from cornerjax.data.batch_memory import Batch, map_batch
from cornerjax.data.examples import Make, fill
from cornerjax.errors import InputError


def main(connection: Connection, file: int) -> None:
    """Fill rows of batches as they are asked for, until the other side is gone.

    Args:
        connection: brings (make, layout) of workers.Worker, then requests, and takes the answers: that of examples.fill
            or, where a request cannot even be read, why.
        file: the batches' memory, see batch_memory.
    """
    cv2.setNumThreads(0)  # there are as many workers as cores
    try:
        setup = connection.recv_bytes()
        while True:
            connection.send(_answer(setup, connection.recv_bytes(), file))
    except (EOFError, ConnectionError):  # the other process has ended
        return


def _answer(setup: bytes, request: bytes, file: int) -> Exception | list[Exception | None]:
    try:
        make, batch = _opened(setup, file)
        number, rows = pickle.loads(request)
    except Exception as e:  # of modules or data sets that can be opened in the other process only
        return _portable(e)
    return [error and _portable(error) for error in fill(make, batch(number), rows)]


@cache
def _opened(setup: bytes, file: int) -> tuple[Make, Callable[[int], Batch]]:
    make, layout = pickle.loads(setup)
    return make, cache(partial(map_batch, file, layout=layout))


def _portable(error: Exception) -> Exception:
    """The error as one that the other process can read: of those that are bugs, their tracebacks too."""
    if isinstance(error, InputError):
        return error
    return RuntimeError("in a worker process:\n" + "".join(traceback.format_exception(error)))
