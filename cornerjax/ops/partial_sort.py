"""The largest elements of an array, and of equal ones just those that PyTorch takes on CPUs.

`torch.topk` is the C++ library's partial_sort there: a heap of the k largest, the least on top, through which the array
goes element by element. Which of several elements that equal the last one stay, and in which order, depends on how the
heap happened to lie. Programs whose scores end at 1 have hundreds of such elements.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float, Int

BLOCK = 2**12  # elements among which the next one for the heap is looked for at a time
LEAST_RATIO = 64  # arrays shorter than so many times k are sorted in another way


class Heap(NamedTuple):
    """No element is larger than those below it, at 2i + 1 and 2i + 2."""

    values: Float[Array, "k"]
    places: Int[Array, "k"]  # in the array


def partial_sort(x: Float[Array, "n"], k: int) -> tuple[Float[Array, "k"], Int[Array, "k"]]:
    """The k largest elements and their places, the largest first, as torch.topk has them on CPUs.

    Arrays shorter than 64 k are sorted in yet another way there; here the first of equal elements is taken of them.

    Source: PyTorch, aten/src/ATen/native/TopKImpl.h; libstdc++, bits/stl_algo.h, bits/stl_heap.h.
    """
    if len(x) < LEAST_RATIO * k:
        values, places = lax.top_k(x, k)
        return values, places
    heap = Heap(x[:k], jnp.arange(k, dtype=jnp.int32))
    heap = lax.fori_loop(0, k // 2, lambda i, heap: _sift(heap, k // 2 - 1 - i, k, _at(heap, k // 2 - 1 - i)), heap)
    heap = _select(heap, x)

    def sort(i, heap):  # the least one to the end, the last one into its place
        last = k - 1 - i
        item, least = _at(heap, last), _at(heap, 0)
        return _sift(_put(heap, last, least), 0, last, item)

    return lax.fori_loop(0, k - 1, sort, heap)


def _select(heap: Heap, x: Float[Array, "n"]) -> Heap:
    """Every later element that is larger than the least of the heap takes its place."""
    k = len(heap.values)
    spare = -len(x) % BLOCK
    blocks = jnp.pad(x, (0, spare), constant_values=-jnp.inf).reshape(-1, BLOCK)

    def through(number, heap):
        block, first = blocks[number], number * BLOCK
        places = first + jnp.arange(BLOCK, dtype=jnp.int32)

        def next_one(after, least):
            larger = (block > least) & (places > after)
            return jnp.where(larger.any(), first + jnp.argmax(larger), -1).astype(jnp.int32)

        def replace(state):
            heap, here = state
            heap = _sift(heap, 0, k, (x[here], here))
            return heap, next_one(here, heap.values[0])

        start = heap, next_one(jnp.int32(k - 1), heap.values[0])
        return lax.while_loop(lambda state: state[1] >= 0, replace, start)[0]

    return lax.fori_loop(0, len(blocks), through, heap)


def _sift(heap: Heap, hole: int | Array, length: int | Array, item: tuple[Array, Array]) -> Heap:
    """Put an item where an element was taken from a heap: the hole sinks to a leaf, then the item rises."""
    top = jnp.int32(hole)
    length = jnp.int32(length)

    def sink(state):
        heap, hole = state
        child = 2 * hole + 2
        child -= (heap.values[child] > heap.values[child - 1]).astype(jnp.int32)
        return _put(heap, hole, _at(heap, child)), child

    heap, hole = lax.while_loop(lambda state: state[1] < (length - 1) // 2, sink, (heap, top))
    only = (length % 2 == 0) & (hole == (length - 2) // 2)  # a node with one child
    child = 2 * hole + 1
    heap, hole = lax.cond(only, lambda: (_put(heap, hole, _at(heap, child)), child), lambda: (heap, hole))

    def rise(state):
        heap, hole = state
        parent = (hole - 1) // 2
        return _put(heap, hole, _at(heap, parent)), parent

    def goes_on(state):
        heap, hole = state
        return (hole > top) & (heap.values[(hole - 1) // 2] > item[0])

    heap, hole = lax.while_loop(goes_on, rise, (heap, hole))
    return _put(heap, hole, item)


def _at(heap: Heap, i: int | Array) -> tuple[Array, Array]:
    return heap.values[i], heap.places[i]


def _put(heap: Heap, i: int | Array, item: tuple[Array, Array]) -> Heap:
    return Heap(heap.values.at[i].set(item[0]), heap.places.at[i].set(item[1]))
