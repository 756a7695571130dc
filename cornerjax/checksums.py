"""The hashes of a checkpoint's files, written with it, by which a file that has changed since is told."""

import errno
import json
from collections.abc import Iterable
from pathlib import Path

from cornerjax.errors import InputError, errno_of
from cornerjax.files import FEW_BYTES, json_if_there, read_json, sha256_of, write_atomically

CHECKSUMS = "sha256.json"  # in the folder of a step
_DESCRIBED = "_CHECKPOINT_METADATA"  # orbax's, which has no hash: it is written last
_LACKING = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)  # a system's errors that say that something is missing


class DamagedError(Exception):
    """What is on the disk is not what was written."""


def write_checksums(folder: Path, items: Iterable[str]) -> None:
    """Write those of all files in these folders of a step.

    Raises: OSError.
    """
    write_atomically(folder / CHECKSUMS, json.dumps(_sums(folder, items), indent=1))


def add_checksums(folder: Path, items: Iterable[str]) -> None:
    """Write those of folders of a step that were written after it; steps of older versions have no hashes.

    Raises: OSError. InputError: those that are there cannot be read.
    """
    if not (folder / CHECKSUMS).exists():
        return
    known = read_json(folder / CHECKSUMS, "checksums", most=FEW_BYTES)
    others = {name: value for name, value in known.items() if name.partition("/")[0] not in items}
    write_atomically(folder / CHECKSUMS, json.dumps(others | _sums(folder, items), indent=1))


def _sums(folder: Path, items: Iterable[str]) -> dict[str, str]:
    files = sorted(path for item in items for path in (folder / item).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}


def compare_checksums(folder: Path, items: Iterable[str], *, needed: bool = True) -> None:
    """Compare the files in these folders of a step with what was written; steps of older versions have no hashes.

    Args:
        needed: False: there need not be hashes of an item.
    Raises: DamagedError: one is gone or changed. OSError: it cannot be read.
    """
    if not (folder / CHECKSUMS).exists():
        return
    try:
        sums = read_json(folder / CHECKSUMS, "checksums", most=FEW_BYTES)
        names = {item: [name for name in sums if name.startswith(f"{item}/") and ".." not in name] for item in items}
        if needed and (lacking := [item for item, there in names.items() if not there]):
            raise DamagedError(f"{CHECKSUMS} names no file of {lacking[0]}")
        changed = [name for there in names.values() for name in there if sha256_of(folder / name) != sums[name]]
    except (InputError, TypeError, AttributeError, FileNotFoundError) as e:
        raise DamagedError(f"checksums cannot be compared: {e}") from None
    if changed:
        raise DamagedError(f"{changed[0]} is not as it was written")


def is_damaged(folder: Path, items: Iterable[str], error: Exception) -> bool:
    """Whether an error in reading a step comes of damage: something lacks, or is not as it was written."""
    number = errno_of(error)
    if isinstance(error, DamagedError) or number in _LACKING:
        return True
    if number is not None or not (folder / CHECKSUMS).exists():  # without hashes, by older versions, it cannot be told
        return number is None
    try:
        compare_checksums(folder, items, needed=False)
    except DamagedError:
        return True
    except OSError:
        return False
    return json_if_there(folder / _DESCRIBED) is None
