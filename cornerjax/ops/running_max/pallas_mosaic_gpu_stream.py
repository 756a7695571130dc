"""What the Mosaic GPU kernels share: copies that run ahead, and the loop that uses what has arrived."""

import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

# Two columns for each of 128 threads: then 16-bit and 32-bit elements lie in the same registers of the same threads.
COLUMNS = 256


class CopyEngine:
    """Copies between device and shared memory, which run while the threads do something else.

    It can exchange the first two axes on the way: (rows, steps, ...) in device memory, (steps, rows, ...) in shared.
    """

    def __init__(self, barriers):
        self.barriers = barriers

    def fetch(self, source, target, stage, exchange=True):
        """Start one of the copies into a stage."""
        plgpu.copy_gmem_to_smem(source, _exchanged(target) if exchange else target, self.barriers.at[stage])

    def arrived(self, stage):
        """Wait for all copies into a stage."""
        plgpu.barrier_wait(self.barriers.at[stage])

    def store(self, source, target):
        plgpu.copy_smem_to_gmem(_exchanged(source), target)

    def drained(self, pending):
        """Wait until all but the newest copies out of shared memory have read it."""
        plgpu.wait_smem_to_gmem(pending, wait_read_only=True)

    def commit(self):
        """Wait for the other threads, and show what they stored to each other and to the copy engine."""
        plgpu.commit_smem()


class Assignments:
    """The same for `interpret=True`, which knows neither the copy engine nor barriers: a copy is an assignment."""

    def fetch(self, source, target, stage, exchange=True):
        target[...] = jnp.swapaxes(source[...], 0, 1) if exchange else source[...]

    def store(self, source, target):
        target[...] = jnp.swapaxes(source[...], 0, 1)

    def arrived(self, stage):
        pass

    def drained(self, pending):
        pass

    def commit(self):
        pass


def _exchanged(ref):
    return ref.transpose((1, 0, *range(2, len(ref.shape))))


def compile_kernel(body, out_type, grid, scratch, stages, copies_a_stage, interpret):
    """A kernel from body(program, *inputs, *outputs, *scratch, copies), program being its place (i, j) in the grid."""
    scratch = [plgpu.SMEM(shape, dtype) for shape, dtype in scratch]
    if interpret is True:

        def simulated(*refs):
            body((pl.program_id(0), pl.program_id(1)), *refs, Assignments())

        return pl.pallas_call(simulated, out_type, grid=grid, scratch_shapes=scratch, interpret=True)

    def kernel(*refs):
        body((lax.axis_index("i"), lax.axis_index("j")), *refs[:-1], CopyEngine(refs[-1]))

    return plgpu.kernel(
        kernel,
        out_type=out_type,
        grid=grid,
        grid_names=("i", "j"),
        scratch_types=[*scratch, plgpu.Barrier(num_arrivals=copies_a_stage, num_barriers=stages)],
        # The bodies say where threads must wait; automatic barriers would be two a store.
        compiler_params=plgpu.CompilerParams(
            unsafe_no_auto_barriers=True, lowering_semantics=plgpu.LoweringSemantics.Lane
        ),
        interpret=interpret,
    )


def stream(groups, stages, fetch, use):
    """Call use(group, carry) for all groups in turn; fetch(group) is called `stages` groups ahead."""
    for group in range(min(stages, groups)):
        fetch(group)

    def step(group, carry):
        carry = use(group, carry)
        pl.when(group + stages < groups)(lambda: fetch(group + stages))
        return carry

    # The first group is apart, because there is nothing to carry into it.
    return lax.fori_loop(1, groups, step, step(0, None))
