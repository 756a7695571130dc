"""Fixtures that all tests share, and the strictness they run under."""

import os
import subprocess
from pathlib import Path

import jax
import numpy as np
import pytest

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(autouse=True)
def strict_types(request):
    """No implicit change of an array's type in our own functions; optax, inside the training step, relies on it."""
    ours = request.path.parent.name in ("ops", "nn", "detectors") or request.path.name == "test_losses.py"
    with jax.numpy_dtype_promotion("strict" if ours else "standard"):
        yield


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
