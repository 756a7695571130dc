"""A plan of a narrow network, compiled by XLA for GPUs that are not there (make cuda-aot)."""

import importlib.util
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cornerjax.config import load_recipe
from cornerjax.training.gpus import GPUS
from cornerjax.training.mesh import split, whole
from cornerjax.training.plan import count_step, step_of
from cornerjax.training.plan_report import report
from cornerjax.training.topology import mesh_of, parse_topology
from cornerjax.validation import replaced

pytestmark = [
    pytest.mark.cuda_aot,
    pytest.mark.skipif(not importlib.util.find_spec("jax_cuda13_plugin"), reason="no CUDA plugin: make cuda-aot"),
    pytest.mark.skipif(jax.__version_info__ < (0, 12), reason=f"needs jax 0.12, this is {jax.__version__}"),
]


@pytest.mark.parametrize("name", sorted(GPUS))
def test_each_gpu_is_compiled_for(name):
    mesh = mesh_of(parse_topology(f"{name}:8"))
    x = jax.ShapeDtypeStruct((8, 64, 64), np.float32, sharding=split(mesh))
    compiled = jax.jit(lambda x: (jnp.tanh(x) @ x).mean(0), out_shardings=whole(mesh)).lower(x).compile()
    assert re.search(r"\ball-reduce", compiled.as_text() or "")
    assert [device.device_kind for device in mesh.devices] == [GPUS[name].full_name] * 8


def test_a_narrow_network_is_compiled_and_the_count_comes_close():
    backbone = {"stem_dim": 8, "dims": (8, 16), "blocks": (1, 1), "dim": 8}
    model = {"num_classes": 3, "pool_dim": 8, "backbone": backbone}
    data = {"crop_px": (127, 127), "render": "device"}
    config, node = replaced(load_recipe("configs/shapes.py"), {"model": model, "data": data}), parse_topology("h100:2")
    compiled, counted = step_of(config, node), count_step(config, node)
    assert (compiled.counted, counted.counted) == (False, True)
    assert compiled.flops == counted.flops
    assert compiled.batch == counted.batch
    assert compiled.state == pytest.approx(counted.state, rel=0.01)
    assert compiled.temporary == pytest.approx(counted.temporary, rel=0.5)
    assert compiled.hbm == pytest.approx(counted.hbm, rel=0.5)
    for origin in ("gradients", "BatchNorm"):
        sizes = [sum(one.nbytes for one in step.groups[origin]) for step in (compiled, counted)]
        assert sizes[0] == pytest.approx(sizes[1], rel=0.1)
    text = "\n".join(report(compiled, config, node))
    assert "counted in\n  the compiled program" in text
    assert "by count\n" not in text
