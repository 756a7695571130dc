"""BatchNorm in groups: with those that fit the devices no device gathers the maps of others; the rest are refused."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cornerjax.config import Config, Data, Optim
from cornerjax.errors import InputError
from cornerjax.training.setup import check_batch, fitting_groups

SCRIPT = Path(__file__).with_name("groups.py")
BATCH, DEVICES = 48, 8


@pytest.mark.parametrize(
    ("parts", "compiled", "fitting"),
    [
        (1, [1, 2, 3, 4, 6, 8, 12, 16], [1, 2, 4, 8, 16, 24, 48]),
        (2, [1, 2, 6, 16], [1, 2, 4, 8, 16, 48]),  # with 24, a part has 12
        (3, [3], [1, 24, 48]),
    ],
)
def test_the_step_of_groups_that_fit_gathers_nothing_on_eight_devices(parts, compiled, fitting):
    command = [sys.executable, str(SCRIPT), *map(str, (BATCH, parts, *compiled))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    collectives = {int(groups): kinds for groups, *kinds in map(str.split, done.stdout.splitlines())}
    assert list(collectives) == compiled
    assert all("all-reduce" in kinds for kinds in collectives.values())
    assert fitting_groups(BATCH, parts, DEVICES) == fitting
    assert [groups for groups in compiled if "all-gather" not in collectives[groups]] == [
        groups for groups in compiled if groups in fitting
    ]


@pytest.mark.parametrize("groups", [3, 6, 12, 32])
def test_other_numbers_of_groups_are_refused_with_those_that_fit(groups):
    config = Config(data=Data(batch=BATCH), optim=Optim(batch_norm_groups=groups))
    fitting = "accepted are 1, 2, 4, 8, 16, 24, 48 (data.batch 48, optim.accumulate 1, devices 8)"
    with pytest.raises(InputError, match=f"^{re.escape(f'optim.batch_norm_groups is {groups}; {fitting}')}$"):
        check_batch(config, DEVICES)
    fitting = "accepted are 1, 24, 48 (data.batch 48, optim.accumulate 3, devices 8)"
    with pytest.raises(InputError, match=f"{re.escape(fitting)}$"):
        check_batch(dataclasses.replace(config, optim=Optim(accumulate=3, batch_norm_groups=groups)), DEVICES)


def test_numbers_of_groups_that_fit_are_taken():
    for groups in fitting_groups(BATCH, 2, DEVICES):
        config = Config(data=Data(batch=BATCH), optim=Optim(accumulate=2, batch_norm_groups=groups))
        check_batch(config, DEVICES)
