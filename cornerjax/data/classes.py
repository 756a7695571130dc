"""The classes of two data sets matched by name: files of the same task list them in any order and with any ids."""

import dataclasses
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cornerjax.data.records import Source
from cornerjax.errors import InputError

log = logging.getLogger("cornerjax")
MOST_NAMED = 10  # of more classes, a message names the first ones only


def align_classes(source: Source, class_names: Sequence[str], of: str | Path) -> Source:
    """The same data set with the labels that a detector has for the classes of these names.

    Classes that the detector does not have stand behind its own. Warns of the classes that only one of the two has.

    Args:
        class_names: of the detector, by label; of classes that share a name the first is matched with the first.
        of: what has them, for messages: a work directory or an annotation file.
    Raises: InputError: there is no class that both have.
    """
    if source.class_names == tuple(class_names):
        return source
    theirs, ours = _numbered(class_names), _numbered(source.class_names)
    if not set(theirs) & set(ours):
        raise InputError(
            f"{source.annotation_file} has {_listed(source.class_names)} and {of} has {_listed(class_names)}; "
            "expected at least one class of the same name"
        )
    if differences := class_differences(source, class_names, of):
        log.warning("%s", differences)
    every = list(dict.fromkeys([*theirs, *ours]))
    labels = np.array([every.index(name) for name in ours], np.int32)
    ids = dict(zip(ours, source.category_ids, strict=True))
    return dataclasses.replace(
        source,
        records=[dataclasses.replace(record, classes=labels[record.classes]) for record in source.records],
        class_names=tuple(name for name, _ in every),
        category_ids=tuple(ids.get(name) for name in every),
    )


def class_differences(source: Source, class_names: Sequence[str], of: str | Path) -> str:
    """A sentence that names the classes only one of the two has; empty where there are none.

    Args: as in align_classes; the source may be aligned already.
    """
    theirs, ids = _numbered(class_names), source.category_ids
    ours = [name for name, id_ in zip(_numbered(source.class_names), ids, strict=True) if id_ is not None]
    unknown = [name for name, n in ours if (name, n) not in theirs]
    absent = [name for name, n in theirs if (name, n) not in ours]
    file, said = source.annotation_file, []
    if unknown:
        said.append(f"{of} lacks {_listed(unknown)} of {file}: such objects count as missed")
    if absent:
        said.append(f"{file} lacks {_listed(absent)} of {of}: such detections do not count")
    return "; ".join(said)


def _numbered(names: Sequence[str]) -> list[tuple[str, int]]:
    """Each name with the number of equal ones before it."""
    before: Counter[str] = Counter()
    numbered = []
    for name in names:
        numbered.append((name, before[name]))
        before[name] += 1
    return numbered


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"the class{'' if len(names) == 1 else 'es'} {', '.join(names[:MOST_NAMED])}{more}"
