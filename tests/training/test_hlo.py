"""Counting in the text of compiled programs, by hand and for one compiled here for eight devices."""

import os
import subprocess
import sys

import pytest

from cornerjax.training.hlo import collectives, hbm_bytes, loop_factor, read_program

# A TPU's program in small: a loop of five rounds, an asynchronous sum in it, a fusion that reads a slice of an argument
# into vector memory, S(1), a convolution, and sums over all, half and a named axis of the devices.
PROGRAM = """\
HloModule jit_step, is_scheduled=true, num_partitions=8

%add.1 (x: f32[], y: f32[]) -> f32[] {
  %x = f32[]{:T(128)} parameter(0)
  %y = f32[]{:T(128)} parameter(1)
  ROOT %sum = f32[]{:T(128)} add(%x, %y)
}

%fused (p: f32[4,8,128], q: s32[]) -> f32[8,128] {
  %q = s32[]{:T(128)} parameter(1)
  %p = f32[4,8,128]{2,1,0:T(8,128)} parameter(0)
  %cut = f32[1,8,128]{2,1,0:T(8,128)} dynamic-slice(%p, %q), dynamic_slice_sizes={1,8,128}
  ROOT %flat = ROWS bitcast(%cut)
}

%body (state: (s32[], f32[8,128])) -> (s32[], f32[8,128]) {
  %state = (s32[]{:T(128)}, ROWS) parameter(0)
  %i = s32[]{:T(128)S(6)} get-tuple-element(%state), index=0
  %rows = ROWS get-tuple-element(%state), index=1
  %start = (ROWS, ROWS) all-reduce-start(%rows), replica_groups={{0,1,2,3},{4,5,6,7}}, metadata={op_name="NORM"}
  %done = ROWS all-reduce-done(%start)
  ROOT %next = (s32[]{:T(128)}, ROWS) tuple(%i, %done)
}

%condition (state.1: (s32[], f32[8,128])) -> pred[] {
  %limit = s32[]{:T(128)S(6)} constant(5)
  %state.1 = (s32[]{:T(128)S(6)}, ROWS) parameter(0)
  %i.1 = s32[]{:T(128)S(6)} get-tuple-element(%state.1), index=0
  ROOT %lt = pred[]{:T(512)S(6)} compare(%i.1, %limit), direction=LT
}

ENTRY %main (a: f32[4,8,128], n: s32[], k: bf16[3,130]) -> f32[8,128] {
  %a = f32[4,8,128]{2,1,0:T(8,128)} parameter(0)
  %n = s32[]{:T(128)S(6)} parameter(1)
  %k = KERNEL parameter(2)
  %slice_fusion = ROWS fusion(%a, %n), kind=kLoop, calls=%fused
  %begin = (s32[]{:T(128)}, ROWS) tuple(%n, %slice_fusion)
  %loop = (s32[]{:T(128)}, ROWS) while(%begin), condition=%condition, body=%body
  %last = ROWS get-tuple-element(%loop), index=1
  %both = (KERNEL, ROWS) all-reduce(%k, %last), replica_groups=mesh['x'=2,'y'=4] {'x','y'}
  %all = f32[16,128]{1,0:T(8,128)S(1)} all-gather(%last), replica_groups=[4,2]<=[8], dimensions={0}
  %fetch = (KERNEL_THERE, KERNEL, u32[]{:S(2)}) copy-start(%k)
  %fetched = KERNEL_THERE copy-done(%fetch)
  ROOT %copy = f32[8,128]{1,0:T(8,128)} copy(%last)
}
""".replace("ROWS", "f32[8,128]{1,0:T(8,128)S(1)}").replace("KERNEL_THERE", "bf16[3,130]{1,0:T(8,128)(2,1)S(1)}")
PROGRAM = PROGRAM.replace("KERNEL", "bf16[3,130]{1,0:T(8,128)(2,1)}")


@pytest.fixture(scope="module")
def program():
    return read_program(PROGRAM)


def test_collectives_are_counted_once_each_with_the_rounds_of_their_loop(program):
    found = {c.kind + str(c.devices): c for c in collectives(program, 8)}
    assert {name: c.times for name, c in found.items()} == {"all-reduce4": 5, "all-reduce8": 1, "all-gather2": 1}
    assert found["all-reduce4"].origin == "NORM"
    assert found["all-reduce8"].shapes == ((3, 130), (8, 128))
    assert found["all-reduce8"].nbytes == 3 * 130 * 2 + 8 * 128 * 4


def test_a_ring_sends_a_sum_twice_and_a_gathered_part_once_to_each_other_device(program):
    sent = {c.kind + str(c.devices): c.sent for c in collectives(program, 8)}
    assert sent == {
        "all-reduce4": 5 * 2 * 3 * 8 * 128 * 4 // 4,
        "all-reduce8": (3 * 130 * 2 + 8 * 128 * 4) * 2 * 7 // 8,
        "all-gather2": 8 * 128 * 4,
    }


def test_hbm_bytes_leave_out_vector_memory_and_what_a_slice_does_not_read(program):
    row = 8 * 128 * 4
    kernel = 8 * 256 * 2  # bfloat16[3, 130] fills tiles of 8 x 128
    # The slice, the sum of the kernel in and out, the kernel to vector memory, the last copy.
    assert hbm_bytes(program) == row + 2 * kernel + kernel + row


def test_a_loop_whose_rounds_are_not_told_is_named():
    unknown = read_program(PROGRAM.replace("direction=LT", "direction=NE"))
    assert unknown.unknown == ("loop",)
    assert {c.times for c in collectives(unknown, 8)} == {1}


COMPILE = """
import functools, jax, jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
shape = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.float32)

def step(x, w):
    def layer(x, _):
        with jax.named_scope("batch_norm"):
            mean = x.mean(0)
        return jnp.tanh((x - mean) @ w), None
    return lax.scan(layer, x, None, length=7)[0].sum()

rows, whole = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
given = shape((32, 16), sharding=rows), shape((16, 16), sharding=whole)
print(jax.jit(step).lower(*given).compile().as_text())
"""


def test_what_xla_compiles_for_eight_devices_is_read():
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", COMPILE]
    text = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    program = read_program(text)
    means, total = sorted(collectives(program, 8), key=lambda c: -c.times)
    assert (means.kind, means.devices, means.times, means.nbytes) == ("all-reduce", 8, 7, 16 * 4)
    assert "batch_norm" in means.origin
    assert (total.kind, total.times, total.nbytes) == ("all-reduce", 1, 4)
    assert loop_factor(program) == 7
    assert program.unknown == ()
