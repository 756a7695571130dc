"""Work done in threads before it is needed: in order, not too much of it, and nothing left behind."""

import itertools
import threading
import time

import pytest

from cornerjax import threads
from cornerjax.threads import ahead


def test_results_are_in_order_however_long_each_takes():
    def slowly(i):
        time.sleep(0.02 * (i % 3 == 0))
        return 10 * i

    assert list(ahead(slowly, range(9), threads=4, count=4)) == [10 * i for i in range(9)]


def test_so_much_is_begun_ahead_and_no_more():
    begun: list[int] = []
    results = ahead(begun.append, itertools.count(), threads=2, count=3)
    for used in range(5):
        next(results)
        time.sleep(0.02)
        assert begun == list(range(used + 4))
    results.close()


def test_an_error_comes_in_its_place_and_the_threads_end():
    def fail(i):
        if i == 2:
            raise OSError("full")
        return threading.current_thread()

    results = ahead(fail, range(100), threads=2, count=5)
    workers = [next(results), next(results)]
    with pytest.raises(OSError, match="full"):
        next(results)
    assert threading.current_thread() not in workers
    assert not any(worker.is_alive() for worker in workers)


@pytest.mark.parametrize(("cores", "expected"), [(1, 4), (12, 12), (200, 32)])
def test_images_are_loaded_by_as_many_threads_as_there_are_cores(monkeypatch, cores, expected):
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda process: set(range(cores)), raising=False)
    assert threads.loaders() == expected
