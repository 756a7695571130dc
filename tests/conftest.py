"""Fixtures that all tests share, and the strictness they run under."""

import contextlib
import importlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import jax
import numpy as np
import pytest

GOLDEN = Path(__file__).parent / "golden"


def pytest_configure(config):
    """One cache of compiled programs for all tests of a session, in this process and in those that tests start."""
    options = {"jax_persistent_cache_min_compile_time_secs": 0.2, "jax_persistent_cache_min_entry_size_bytes": -1}
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # the first process; its workers inherit the folder
        folder = tempfile.mkdtemp(prefix="cornerjax-tests-")
        os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    for name, value in options.items():
        os.environ[name.upper()] = str(value)
        jax.config.update(name, value)
    jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
    if "PYTEST_XDIST_WORKER" in os.environ:
        # While jaxtyping imports a module of ours, Python finds no compiled form of those that it imports in turn.
        for package in ("flax.nnx", "optax", "orbax.checkpoint", "tensorboardX", "tensorflow"):
            with contextlib.suppress(ImportError):
                importlib.import_module(package)


# Files whose slow tests take minutes, begun first: begun last they would leave the other workers without work.
LONG = (
    "test_shapes_recipe",
    "test_hosts",
    "test_released",
    "test_devices",
    "test_narrow_recipes",
    "test_extremenet",
    "test_centernet_triplets",
    "test_centernet_points",
    "test_cornernet_squeeze",
    "test_faults",
    "test_loop",
)


def pytest_collection_modifyitems(items):
    """The long files before all others; within a file the order stays."""
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


@pytest.fixture(scope="module", autouse=True)
def forget_programs():
    """A worker that goes through many files would keep every program that they have compiled."""
    yield
    jax.clear_caches()


@pytest.fixture(autouse=True)
def strict_types(request):
    """No implicit change of an array's type in our own functions; optax, inside the training step, relies on it."""
    ours = request.path.parent.name in ("ops", "nn", "detectors") or request.path.name == "test_losses.py"
    with jax.numpy_dtype_promotion("strict" if ours else "standard"):
        yield


@pytest.fixture
def few_rows(monkeypatch):
    """The TPU kernels in blocks of 4 rows: a block's rows are unrolled, and 32 take long to compile for a CPU."""
    monkeypatch.setattr(importlib.import_module("cornerjax.ops.running_max.pallas_tpu"), "WORD", 4)


@pytest.fixture(scope="session")
def golden():
    """golden("losses/cornernet.npz") -> the recorded arrays of the original, by name."""
    return lambda name: dict(np.load(GOLDEN / name))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with the real data sets and photos; tests on it are skipped where there is none."""
    folder = os.environ.get("CORNERJAX_REAL_DATA", "")
    if not folder or not Path(folder, "data").is_dir():
        pytest.skip("CORNERJAX_REAL_DATA does not name a folder with data/ and photos/")
    return Path(folder)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 6 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "small", disk], capture_output=True).returncode:
        pytest.skip("no file system may be mounted here")
    yield disk
    subprocess.run(["umount", disk], check=True)
