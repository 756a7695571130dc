"""Which image stands at which position of the endless sequence of training examples, and its random generator.

All of it is a pure function of (seed, position): nothing is stored, a run resumes exactly, and the examples do not
depend on the number of workers and hosts.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Int

from cornerjax.errors import InputError

_KEY = 2**64
_EPOCHS = 2**63  # keys from here on belong to epochs, those below to positions


def image_index(position: int, *, seed: int, num_images: int) -> int:
    """Index of the image at a position, from 0; every epoch of num_images positions is a new permutation."""
    epoch, place = divmod(position, num_images)
    return int(_permutation(seed, epoch, num_images)[place])


@lru_cache(maxsize=4)  # workers may stand on both sides of an epoch's end
def _permutation(seed: int, epoch: int, num_images: int) -> Int[np.ndarray, "num_images"]:
    return generator(seed, _EPOCHS + epoch).permutation(num_images)


def generator(seed: int, position: int) -> np.random.Generator:
    """The generator of all random draws of the example at a position."""
    key = np.array([seed % _KEY, position % _KEY], np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


def host_rows(batch: int, *, host: int, hosts: int) -> range:
    """Rows of a global batch that a host reads: rows host * batch / hosts up to the next host's.

    Raises: InputError: the batch is smaller than 1 or cannot be split evenly.
    """
    if batch < 1 or batch % hosts:
        raise InputError(f"data.batch must be a positive multiple of the number of hosts, {hosts}, got {batch}")
    return range(host * batch // hosts, (host + 1) * batch // hosts)


def host_position(i: int, batch: int, rows: range) -> int:
    """Global position of the i-th example, from 0, of a host that reads these rows of every batch."""
    step, row = divmod(i, len(rows))
    return step * batch + rows[row]
