"""benchmarks/accelerator.py at small size, where there are neither TensorFlow nor pycocotools."""

import functools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cornerjax.ops.running_max.reference import gradient_reference

ROOT = Path(__file__).parents[1]
MISSING = ("tensorflow", "tensorflow_datasets", "pycocotools", "tensorboardX")
# Of each part a heading of the page, and what every row has a positive number of.
PARTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "kernels": ("| op | checks |", ()),
    "ops": ("| op | checks |", ()),
    "pools": (
        "| type | pool | computed by | forward µs | to copy |",
        ("forward us", "forward to copy", "forward GB/s"),
    ),
    "parity": ("| network | type | precision |", ("heat error", "error", "times noise", "boxes")),
    "training": ("| recipe | batch | type | remat | images/s |", ("images/s", "GFLOP an image", "step GB")),
    "prediction": ("| recipe | type | batch | images/s |", ("images/s", "ms an image")),
    "input": ("| rendering | workers | images/s |", ("images/s", "images/s a worker", "to one")),
}


def measured(folder: Path, parts: list[str]) -> tuple[dict[str, Any], str]:
    """The JSON and the page of some parts."""
    blocked = folder / "blocked"
    blocked.mkdir()
    for name in MISSING:
        (blocked / f"{name}.py").write_text("raise ImportError('there is none here')\n")
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / "accelerator.py"),
        "--small",
        "--minutes",
        "60",
        "--out",
        str(folder),
    ]
    environment = os.environ | {"PYTHONPATH": f"{blocked}{os.pathsep}{ROOT}"}
    done = subprocess.run([*command, "--part", *parts], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (file,) = folder.glob("accelerator-*-cpu-small.json")
    return json.loads(file.read_text()), file.with_suffix(".md").read_text()


def check(content: dict[str, Any], page: str, parts: list[str]) -> None:
    assert content["about"]["jax"] == jax.__version__
    assert list(content["parts"]) == parts
    for part, found in content["parts"].items():
        heading, numbers = PARTS[part]
        assert heading in page
        assert found["rows"]
        for row in found["rows"]:
            assert "note" not in row, row
            assert row.get("ok") is not False, row
            assert all(row[name] > 0 for name in numbers), row
    assert "NOT OK" not in page


def test_pools_and_input(tmp_path):
    parts = ["pools", "input"]
    check(*measured(tmp_path, parts), parts)


@pytest.mark.slow
def test_every_part(tmp_path):
    content, page = measured(tmp_path, list(PARTS))
    check(content, page, list(PARTS))
    rows = {part: found["rows"] for part, found in content["parts"].items()}
    assert all(row["ok"] for row in rows["kernels"] + rows["ops"])
    assert {row["op"] for row in rows["ops"]} > {"deformable convolution", "grouping", "soft-NMS", "edges", "top k"}
    assert {row["precision"] for row in rows["parity"]} == {"highest", "default"}
    assert {row["remat"] for row in rows["training"]} == {"none", "stack"}
    plain, again = (row["GFLOP an image"] for row in rows["training"])
    assert 1.1 < again / plain < 1.5  # what is computed again


@pytest.fixture
def on_accelerator(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")


@pytest.mark.parametrize(("axis", "reverse"), [(1, False), (1, True), (2, False), (2, True)])
def test_the_reference_of_the_pools_is_that_of_the_ops(on_accelerator, axis, reverse):
    from on_accelerator.references import pool_gradient

    rng = np.random.default_rng(0)
    x, g = np.round(rng.standard_normal((2, 2, 9, 7, 5)), 1).astype(np.float32)
    np.testing.assert_allclose(pool_gradient(x, g, axis, reverse), gradient_reference(x, g, axis, reverse), atol=1e-6)


def test_flops_are_counted_through_gradients_loops_and_strides(on_accelerator):
    from on_accelerator.flops import flops

    def network(kernel, matrix, x):
        y = jax.lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        z, _ = jax.lax.scan(lambda y, _: (y @ matrix, None), y, length=5)
        return z.sum()

    shapes = (3, 3, 8, 16), (16, 16), (2, 32, 32, 8)
    convolution, product = 2 * 2 * 16 * 16 * 9 * 8 * 16, 2 * 2 * 16 * 16 * 16 * 16
    given = [jnp.zeros(shape) for shape in shapes]
    assert flops(jax.make_jaxpr(network)(*given)) == convolution + 5 * product
    gradient = functools.partial(jax.grad, argnums=(0, 1, 2))(network)
    assert flops(jax.make_jaxpr(gradient)(*given)) == 3 * (convolution + 5 * product)


def test_what_fails_or_has_no_time_is_a_line(on_accelerator):
    from on_accelerator.bench import Bench

    rows: list[dict[str, Any]] = []
    for seconds in (60, -1):
        bench = Bench(rows.append, end=time.monotonic() + seconds, small=True, cores=1)
        bench.add({"op": "divides"}, lambda: {"error": 1 / 0})
    assert [row["note"] for row in rows] == [
        "failed: ZeroDivisionError: division by zero",
        "skipped: 0 s were left",
    ]


@pytest.fixture
def rows_of(on_accelerator, monkeypatch, tmp_path):
    """What comes of a part that does something, in its process."""
    from on_accelerator import processes

    def rows(what: str, seconds: float) -> list[dict[str, Any]]:
        (tmp_path / "this_part.py").write_text(f"import os, time\n\n\ndef measure(bench):\n    {what}\n")
        return list(processes.rows_of("this_part", end=time.monotonic() + seconds, small=True))

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(processes, "GRACE", 0.1)
    return rows


def test_a_part_whose_process_dies_leaves_what_it_found(rows_of):
    _, found, last = rows_of('bench.send({"op": "first"}); os._exit(3)', 60)
    assert found == {"op": "first"}
    assert last == {"note": "failed: its process ended with 3"}


def test_a_part_that_goes_on_is_ended(rows_of):
    assert rows_of("time.sleep(600)", 0)[-1] == {"note": "ended: its time was over and it went on"}
