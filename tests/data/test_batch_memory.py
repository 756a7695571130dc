"""The memory that batches share with worker processes: whose it is, and for how long."""

import contextlib
import os
import sys
import threading

import numpy as np
import pytest

from cornerjax.data.batch_memory import BatchMemory, layout_of


def test_batches_that_are_made_at_the_same_time_have_memory_of_their_own():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(50):
            with contextlib.closing(BatchMemory(layout_of({"x": np.zeros(100, np.uint8)}, 4))) as memory:
                taken: list[tuple[int, dict[str, np.ndarray]]] = []
                threads = [threading.Thread(target=lambda t=taken, m=memory: t.append(m.take())) for _ in range(4)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                assert sorted(number for number, _ in taken) == [0, 1, 2, 3]
    finally:
        sys.setswitchinterval(interval)


def test_arrays_of_a_batch_lie_side_by_side():
    example: dict[str, np.ndarray] = {
        "a": np.zeros((3, 5), np.uint8),
        "b": np.zeros((), np.int64),
        "c": np.zeros((2, 2), np.float32),
    }
    with contextlib.closing(BatchMemory(layout_of(example, 7))) as memory:
        _, batch = memory.take()
        for i, (name, values) in enumerate(batch.items()):
            assert values.shape == (7, *example[name].shape)
            assert values.dtype == example[name].dtype
            assert values.ctypes.data % 64 == 0
            values[...] = i
        assert [float(values.min()) for values in batch.values()] == [0, 1, 2]
        assert [float(values.max()) for values in batch.values()] == [0, 1, 2]


def test_memory_that_is_closed_touches_no_other_file(tmp_path):
    """Files have numbers, which are given again: a thread that is late must not cut somebody else's."""
    memory = BatchMemory(layout_of({"x": np.zeros(100, np.uint8)}, 4))
    number = memory.file
    memory.close()
    with open(tmp_path / "precious", "wb") as file:
        os.dup2(file.fileno(), number)
        try:
            with pytest.raises(ValueError, match="the memory of batches is closed"):
                memory.take()
            memory.close()
            assert os.fstat(number).st_size == 0
        finally:
            if file.fileno() != number:
                os.close(number)
