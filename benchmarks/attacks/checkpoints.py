"""Checkpoints: data of a run that is changed never loads as other weights, and no file of PyTorch takes all memory."""

import contextlib
import json
import logging
import pickle
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np

from cornerjax.checkpoint import restore_weights
from cornerjax.commands.process import quiet
from cornerjax.weights.read import read_tensors

from .outcome import Outcome

Change = Callable[[bytes, random.Random], bytes]


def _bit(content: bytes, draws: random.Random) -> bytes:
    at = draws.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << draws.randrange(8)]) + content[at + 1 :]


def _block(content: bytes, draws: random.Random) -> bytes:
    at = draws.randrange(len(content))
    return content[:at] + draws.randbytes(min(64, len(content) - at)) + content[at + 64 :]


CHANGES: dict[str, Change] = {
    "a bit": _bit,
    "another bit": _bit,
    "a block": _block,
    "zeros": lambda content, draws: bytes(len(content)),
    "cut": lambda content, draws: content[: draws.randrange(len(content))],
    "empty": lambda content, draws: b"",
    "longer": lambda content, draws: content + draws.randbytes(9),
}


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    log = logging.getLogger("cornerjax")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


@_without_warnings()  # there is one of each damaged checkpoint
def attack_data(run: Path, folder: Path, count: int, draws: random.Random) -> Outcome:
    """Change one file of a run's newest checkpoint, so many times, and restore the weights.

    Args:
        run: of runs.make_run.
        folder: for the damaged one.
    """
    outcome = Outcome("checkpoint data", str(folder), limit_s=10)
    sound = {step: _bytes_of(run, step) for step in ("best", "latest")}
    shutil.copytree(run, folder)
    newest = max((folder / "checkpoints").iterdir(), key=lambda path: int(path.name))
    earlier = set(_all_steps(run))
    files = sorted(path for path in newest.rglob("*") if path.is_file())
    sizes = [1 + path.stat().st_size for path in files]
    for number in range(count):
        (file,) = draws.choices(files, weights=sizes)  # most is to be found in the largest
        what, change = draws.choice(list(CHANGES.items()))
        content = file.read_bytes()
        name = file.relative_to(folder)
        with outcome.trial(f"{number}: {what} of {name}"), quiet():
            file.write_bytes(change(content, draws)) if content else file.unlink()
            loaded = _bytes_of(folder, "latest")
            assert loaded == sound["latest"] or loaded in earlier, "other weights were loaded"
        file.write_bytes(content)
    return outcome


def _bytes_of(run: Path, which: str) -> bytes:
    params, state, _ = restore_weights(run, "best" if which == "best" else "latest")
    return b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves((params, state)))


def _all_steps(run: Path) -> Iterator[bytes]:
    """The weights of each step alone, as a run has them whose newer ones are damaged."""
    copy = run.with_name(f"{run.name}-older")
    shutil.copytree(run, copy)
    steps = sorted((copy / "checkpoints").iterdir(), key=lambda path: -int(path.name))
    for step in steps:
        yield _bytes_of(copy, "latest")
        shutil.rmtree(step)


def attack_torch(folder: Path, count: int, draws: random.Random) -> Outcome:
    """Read so many files of PyTorch: sound ones that were changed, and such as were made to take time or memory."""
    outcome = Outcome("torch files", str(folder), limit_s=10)
    folder.mkdir()
    made = {**_hostile(folder), **_sound(folder)}
    for number in range(count):
        name, content = draws.choice(list(made.items()))
        if not name.startswith("hostile"):
            content = draws.choice(list(CHANGES.values()))(content, draws)
        file = folder / f"tried.{'pth' if number % 2 else 'pkl'}"
        file.write_bytes(content)
        with outcome.trial(f"{number}: {name}"):
            read_tensors(file)
    return outcome


def _sound(folder: Path) -> dict[str, bytes]:
    import torch

    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Conv2d(8, 8, 3))
    made = {}
    for older in (False, True):
        torch.save(network.state_dict(), folder / "made", _use_new_zipfile_serialization=not older)
        made[f"sound, older {older}"] = (folder / "made").read_bytes()
    return made


def _hostile(folder: Path) -> dict[str, bytes]:
    import torch

    stored = torch.zeros(2_000_000)
    trees = {
        "one storage 300 times": {f"key {i}": stored[:] for i in range(300)},
        "70 dimensions": {"a": torch.zeros([1] * 70)},
        "an endless empty shape": {"a": torch.zeros(0, 2**62)},
        "an endless expansion": {"a": torch.zeros(1).expand(2**40)},
        "sparse": {"a": torch.zeros(2, 2).to_sparse()},
        "a key of a megabyte": {"x" * 2**20: torch.zeros(1, dtype=torch.int32)},
        "not finite": {"a": torch.full((3,), float("nan"))},
    }
    made = {}
    for name, tree in trees.items():
        torch.save(tree, folder / "made")
        made[f"hostile: {name}"] = (folder / "made").read_bytes()
    sizes = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    head = b"".join(pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, sizes))
    for levels in (26, 45, 3000):
        memo = [b"h" + bytes([1 + i % 200]) for i in range(levels + 1)]
        tuples = b"".join(2 * memo[i] + b"\x86q" + memo[i + 1][1:] + b"0" for i in range(levels))
        body = b"\x80\x02X\x01\x00\x00\x00a\x85q\x010" + tuples + b"}" + memo[levels] + b"K\x01s."
        made[f"hostile: {levels} tuples in tuples"] = head + body + pickle.dumps([], 2)
    made["hostile: JSON"] = json.dumps({"a": [1]}).encode()
    return made
