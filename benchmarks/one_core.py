"""What a script that measures CPU time on one core does first."""

import os
import sys

# Memory that is freed stays in the heap of the C library. Otherwise the page faults of fresh memory, which can take
# longer than the computing, fall on whatever uses more of it.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "17179869184", "MALLOC_ARENA_MAX": "1"}


def keep_to_one_core() -> None:
    """To be called before JAX and PyTorch start their threads: it may start the script anew. Elsewhere than on Linux
    it does nothing.
    """
    if sys.platform != "linux":
        return
    if ALLOCATOR.keys() - os.environ:
        environment = os.environ | ALLOCATOR | {"JAX_PLATFORMS": "cpu"}
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
