"""The hashes of a checkpoint's files, written with it, by which a file that has changed since is told."""

import json
from collections.abc import Iterable
from pathlib import Path

from cornerjax.errors import InputError
from cornerjax.files import read_json, sha256_of, write_atomically

CHECKSUMS = "sha256.json"  # in the folder of a step


class DamagedError(Exception):
    """What is on the disk is not what was written."""


def write_checksums(folder: Path, items: Iterable[str]) -> None:
    """Write those of all files in these folders of a step.

    Raises: OSError.
    """
    files = sorted(path for item in items for path in (folder / item).rglob("*") if path.is_file())
    sums = {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}
    write_atomically(folder / CHECKSUMS, json.dumps(sums, indent=1))


def compare_checksums(folder: Path, items: Iterable[str]) -> None:
    """Compare the files in these folders of a step with what was written; steps of older versions have no hashes.

    Raises: DamagedError: one is gone or changed. OSError: it cannot be read.
    """
    if not (folder / CHECKSUMS).exists():
        return
    try:
        sums = read_json(folder / CHECKSUMS, "checksums")
        names = {item: [name for name in sums if name.startswith(f"{item}/") and ".." not in name] for item in items}
        if lacking := [item for item, there in names.items() if not there]:
            raise DamagedError(f"{CHECKSUMS} names no file of {lacking[0]}")
        changed = [name for there in names.values() for name in there if sha256_of(folder / name) != sums[name]]
    except (InputError, TypeError, AttributeError, FileNotFoundError) as e:
        raise DamagedError(f"checksums cannot be compared: {e}") from None
    if changed:
        raise DamagedError(f"{changed[0]} is not as it was written")
