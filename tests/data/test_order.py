"""The order of the data: permutations, and positions that do not depend on hosts."""

import pytest

from cornerjax.data.order import generator, host_position, host_rows, image_index
from cornerjax.errors import InputError


def test_every_epoch_is_another_permutation():
    epochs = [[image_index(epoch * 7 + i, seed=3, num_images=7) for i in range(7)] for epoch in range(5)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    assert epochs[0] != [image_index(i, seed=4, num_images=7) for i in range(7)]


def test_positions_and_seeds_have_generators_of_their_own():
    drawn = {(seed, position): generator(seed, position).random() for seed in (-1, 0, 1) for position in (0, 1, 10**12)}
    assert len(set(drawn.values())) == len(drawn)
    assert generator(0, 1).random() == drawn[0, 1]


def test_hosts_share_the_global_batches():
    hosts = [host_rows(6, host=host, hosts=3) for host in range(3)]
    assert [list(rows) for rows in hosts] == [[0, 1], [2, 3], [4, 5]]
    shared = [[host_position(i, 6, rows) for i in range(4)] for rows in hosts]
    assert shared == [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11]]


@pytest.mark.parametrize(("batch", "hosts"), [(5, 2), (0, 1), (-2, 2)])
def test_a_batch_that_cannot_be_split_is_refused(batch, hosts):
    with pytest.raises(InputError, match=f"multiple of the number of hosts, {hosts}, got {batch}"):
        host_rows(batch, host=0, hosts=hosts)
