"""Which files of a folder are predict's own: it replaces these and nothing else; one call at a time writes there."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from cornerjax.errors import InputError
from cornerjax.files import no_links, only_one, open_regular, place_of, remove_leftovers, sha256_of, write_atomically

# Names and SHA-256 hashes of the files that were written, a JSON list of two a line. A file that somebody has put in
# the place of one of them has another hash.
OURS = ".written_by_predict"


def write(out: Path, name: str, content: str | bytes) -> None:
    """Write a file, see note.

    Raises: OSError: it cannot be written.
    """
    content = content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape")
    note(out, name, hashlib.sha256(content).hexdigest())
    write_atomically(out / name, content)


def note(out: Path, name: str, sha256: str) -> None:
    """Say that a file is ours, before it is there: so a later call may replace it, however this one ends.

    Args:
        out: the folder, made if missing.
        sha256: of what it will hold.
    Raises: OSError: it cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    with open(out / OURS, "a", encoding="utf-8", opener=no_links) as file:
        file.write(f"\n{json.dumps([name, sha256])}")  # the line before it may have been cut by a full disk


def refuse_to_replace(out: Path, names: Iterable[str], given: Iterable[Path]) -> None:
    """Whatever is there under a name that we are going to use must be ours, see note.

    Args:
        names: of the files to be written into `out`.
        given: files that are read, which are never replaced.
    Raises: InputError: naming the file that is in the way.
    """
    read = {place_of(path) for path in given}
    for name in names:
        if place_of(out / name) in read:
            raise InputError(f"{out / name} would overwrite a file that is read; give another folder for the results")
    try:
        with open_regular(out / OURS) as file:
            ours = set(file.read().decode("utf-8", "replace").splitlines())
    except OSError:
        ours = set()
    for name in names:
        if os.path.lexists(out / name) and not _is_ours(out / name, ours):
            raise InputError(f"{out / name} is there already; give another folder for the results, or remove it")


def _is_ours(file: Path, ours: set[str]) -> bool:
    try:
        return json.dumps([file.name, sha256_of(file)]) in ours
    except OSError:  # a folder, or nothing that may be read
        return False


@contextlib.contextmanager
def only_writer(out: Path) -> Iterator[None]:
    """Keep other calls out of a folder, made if missing; one that stays empty is removed again.

    Raises: InputError: another call writes into it. OSError: it cannot be written.
    """
    with only_one(out / OURS, f"another call writes into {out}; wait for it, or give another folder"):
        remove_leftovers(out)
        yield
