"""The memory of batches, which processes share, and which is used again when a batch is no longer needed."""

import mmap
import os
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

ALIGNED = 64  # bytes: TensorFlow and JAX take arrays that begin at a multiple of this as they are, others they copy

CLOSED = -1

Batch = dict[str, np.ndarray]


class Field(NamedTuple):
    """An array of a batch."""

    start: int  # bytes
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class Layout(NamedTuple):
    """Where the arrays of a batch lie in its memory."""

    fields: dict[str, Field]
    size: int  # bytes


def layout_of(example: Mapping[str, np.ndarray], rows: int) -> Layout:
    """The layout of batches of so many examples."""
    fields, start = {}, 0
    for name, value in example.items():
        fields[name] = Field(start, (rows, *value.shape), value.dtype)
        start += -(-rows * value.nbytes // ALIGNED) * ALIGNED
    return Layout(fields, -(-max(start, 1) // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY)


def map_batch(file: int, number: int, layout: Layout) -> Batch:
    """The arrays of the batch of this number in a file of batches."""
    return _arrays(np.frombuffer(mmap.mmap(file, layout.size, offset=number * layout.size), np.uint8), layout)


def _arrays(memory: np.ndarray, layout: Layout) -> Batch:
    def array(start: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        count = int(np.prod(shape)) * dtype.itemsize
        return memory[start : start + count].view(dtype).reshape(shape)

    return {name: array(*field) for name, field in layout.fields.items()}


class BatchMemory:
    """Batches of one layout; there are as many as are in use at the same time.

    Attributes:
        layout: of each.
        file: in memory, without a name, so that nothing of it is left when the last process that has it ends, however
            it ends.
    """

    def __init__(self, layout: Layout):
        self.layout = layout
        self.file = _unnamed_file()
        self._maps: list[mmap.mmap] = []
        self._free: deque[int] = deque()
        self._lock = threading.Lock()

    def take(self) -> tuple[int, Batch]:
        """The number and the arrays of a batch; it is used again when none of its arrays is alive any more.

        Raises: ValueError: it is closed.
        """
        with self._lock:  # several batches are made at the same time
            if self.file == CLOSED:  # the number may be that of another file by now
                raise ValueError("the memory of batches is closed")
            if not self._free:
                number = len(self._maps)
                os.ftruncate(self.file, (number + 1) * self.layout.size)
                self._maps.append(mmap.mmap(self.file, self.layout.size, offset=number * self.layout.size))
                self._free.append(number)
            number = self._free.popleft()
        memory = np.frombuffer(self._maps[number], np.uint8)  # all views of it keep this object alive
        weakref.finalize(memory, self._free.append, number).atexit = False
        return number, _arrays(memory, self.layout)

    def close(self) -> None:
        """Close the file; batches that are in use keep their memory. Called once more, it does nothing."""
        with self._lock:  # TensorFlow's threads may ask for a batch until the program ends
            file, self.file = self.file, CLOSED
        if file != CLOSED:
            os.close(file)


def _unnamed_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("cornerjax")
    with tempfile.TemporaryFile() as file:  # not on Linux
        return os.dup(file.fileno())
