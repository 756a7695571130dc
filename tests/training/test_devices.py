"""The number of devices and processes, and how a batch is taken in parts, change rounding only."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cornerjax.data.shapes import write_shapes

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).with_name("steps.py")
EIGHT = "--xla_force_host_platform_device_count=8"


def start(*words: object, flags: str = EIGHT) -> subprocess.Popen:
    command = [sys.executable, str(SCRIPT), *map(str, words)]
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def finish(*processes: subprocess.Popen) -> None:
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), errors


def recorded(out: Path, devices: int) -> dict[str, np.ndarray]:
    return dict(np.load(f"{out}-{devices}.npz"))


def compare(one: dict[str, np.ndarray], other: dict[str, np.ndarray], *, rtol: float, kinds=("loss", "grad", "stat")):
    """Every array, relative to its largest element."""
    names = [name for name in one if name.split(".")[1] in kinds]
    assert names
    assert one.keys() == other.keys()
    for name in names:
        np.testing.assert_allclose(other[name], one[name], rtol=rtol, atol=rtol * np.abs(one[name]).max(), err_msg=name)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("data") / "shapes", seed=0, train=48, val=4)


@pytest.fixture(scope="module")
def on_devices(data, tmp_path_factory):
    """What five steps give in float64 on 1, 2, 4 and 8 devices."""
    out = tmp_path_factory.mktemp("steps") / "straight"
    finish(start(data, out, "1,2,4,8", "float64"))
    return {devices: recorded(out, devices) for devices in (1, 2, 4, 8)}


@pytest.mark.parametrize("devices", [2, 4, 8])
def test_devices_change_rounding_only(on_devices, devices):
    """Losses, gradients of all parameters and BatchNorm statistics of five steps, in float64."""
    compare(on_devices[1], on_devices[devices], rtol=1e-9)
    for i in range(5):
        np.testing.assert_array_equal(on_devices[1][f"{i}.ids"], on_devices[devices][f"{i}.ids"])


def test_devices_change_rounding_only_of_deformable_convolutions_too(data, tmp_path):
    """Their gradient adds to places that the data chooses; that of their biases, which BatchNorm undoes, is noise."""
    finish(start(data, tmp_path / "points", "1,2,8", "float64-points"))
    one, *more = (recorded(tmp_path / "points", devices) for devices in (1, 2, 8))
    for name in [name for name in one if name.endswith("dcn.conv.bias")]:
        for found in (one, *more):
            assert np.abs(found.pop(name)).max() < 1e-15
    for several in more:
        compare(one, several, rtol=1e-9)


def test_processes_change_rounding_only(on_devices, data, tmp_path):
    """Two processes with a device each, which read four of the eight images each."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    outs = [tmp_path / f"host-{i}" for i in range(2)]
    finish(*(start(data, out, 2, "float64", coordinator, 2, i, flags="") for i, out in enumerate(outs)))
    both = [recorded(out, 2) for out in outs]
    for i in range(5):
        ids = np.concatenate([host[f"{i}.ids"] for host in both])
        np.testing.assert_array_equal(ids, on_devices[1][f"{i}.ids"])
    for host in both:
        compare(on_devices[1], host, rtol=1e-9)


def test_in_float32_the_first_loss_is_the_same_but_for_rounding(data, tmp_path):
    """No more can be had: Adam and BatchNorm amplify rounding from step to step."""
    finish(start(data, tmp_path / "single", "1,8", "float32"))
    one, eight = (recorded(tmp_path / "single", devices) for devices in (1, 8))
    np.testing.assert_allclose(eight["0.loss.total"], one["0.loss.total"], rtol=1e-6)


def test_a_batch_in_parts_with_normalisation_in_groups_gives_the_step_of_the_whole_batch(data, tmp_path):
    """Four groups: at once on one and on two devices, and in two and four parts, on two devices and on one."""
    groups = ("--optim.batch-norm-groups", 4)
    finish(start(data, tmp_path / "whole", "1,2", "float64", *groups))
    whole = recorded(tmp_path / "whole", 1)
    compare(whole, recorded(tmp_path / "whole", 2), rtol=1e-9)
    for parts, devices in ((2, 2), (4, 1)):
        finish(start(data, tmp_path / "parts", devices, "float64", *groups, "--optim.accumulate", parts))
        compare(whole, recorded(tmp_path / "parts", devices), rtol=1e-9)


def test_without_groups_a_part_has_statistics_of_its_own(on_devices, data, tmp_path):
    """Then a batch in parts is another step: nearly the same loss, of the same images, but other gradients."""
    finish(start(data, tmp_path / "parts", 1, "float64", "--optim.accumulate", 2))
    whole, parts = on_devices[1], recorded(tmp_path / "parts", 1)
    assert whole.keys() == parts.keys()
    np.testing.assert_array_equal(parts["0.ids"], whole["0.ids"])
    np.testing.assert_allclose(parts["0.loss.total"], whole["0.loss.total"], rtol=0.01)
    gradients = [name for name in whole if name.startswith("0.grad.")]
    apart = [np.abs(parts[name] - whole[name]).max() / np.abs(whole[name]).max() for name in gradients]
    assert min(apart) > 1e-3
    assert np.median(apart) > 0.1


@pytest.mark.parametrize("remat", ["stack", "level"])
def test_what_is_computed_again_is_the_same(on_devices, data, tmp_path, remat):
    finish(start(data, tmp_path / remat, 2, "float64", "--compute.remat", remat))
    compare(on_devices[1], recorded(tmp_path / remat, 2), rtol=1e-9)
