"""What is found in a data set: how bad it is, how often it occurs, and where."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, get_args

from cornerjax.text import plain

Level = Literal["error", "warning", "info"]
LEVELS = get_args(Level)
PLURALS = {"box": "boxes", "category": "categories", "entry": "entries"}
SHOWN = 3  # examples printed; report.json has all


@dataclasses.dataclass(frozen=True)
class Finding:
    """One kind of thing that was found.

    Attributes:
        level: error: training would stop, or learn something wrong; warning: training works, but loses or distorts
            something; info: good to know.
        count: how often it occurs.
        text: what it is, in the singular or plural as the count needs.
        examples: where: file, id, value.
    """

    level: Level
    count: int
    text: str
    examples: tuple[str, ...]

    def line(self) -> str:
        """As printed, with the first examples."""
        more = ", ..." if len(self.examples) > SHOWN else ""
        where = f": {', '.join(self.examples[:SHOWN])}{more}" if self.examples else ""
        return plain(f"{self.level:<7}  {self.count} {self.text}{where}")


class Findings:
    """Collects findings; all occurrences of one kind, in whichever split, are one finding."""

    def __init__(self) -> None:
        self._found: dict[tuple[Level, str, str], tuple[int, tuple[str, ...]]] = {}

    def add(self, level: Level, noun: str, text: str, examples: Sequence[str], *, count: int | None = None) -> None:
        """Note what was found, if anything.

        Args:
            noun: what is counted, in the singular.
            text: the rest of the line; it must fit one and many.
            examples: one for each occurrence.
            count: number of occurrences if it is not that of the examples.
        """
        count = len(examples) if count is None else count
        if count:
            before, of_before = self._found.get((level, noun, text), (0, ()))
            self._found[level, noun, text] = before + count, (*of_before, *examples)

    def sorted(self) -> list[Finding]:
        """Errors first, then warnings, then what is good to know."""
        found = [
            Finding(level, count, f"{noun if count == 1 else _plural(noun)} {text}", examples)
            for (level, noun, text), (count, examples) in self._found.items()
        ]
        return sorted(found, key=lambda finding: LEVELS.index(finding.level))

    def has_errors(self) -> bool:
        """Whether training should not be started."""
        return any(level == "error" for level, *_ in self._found)

    def verdict(self) -> str:
        """Everything in one line."""
        kinds = Counter(level for level, *_ in self._found)
        numbers = f"{_number(kinds['error'], 'error')}, {_number(kinds['warning'], 'warning')}"
        if kinds["error"]:
            return f"NOT READY: {numbers}; correct the errors before training"
        return f"READY: {numbers}" + ("; see what they cost before a long run" if kinds["warning"] else "")

    def as_json(self) -> list[dict[str, Any]]:
        """For report.json, with every example."""
        return [dataclasses.asdict(finding) for finding in self.sorted()]


def _plural(noun: str) -> str:
    *before, last = noun.split()
    return " ".join([*before, PLURALS.get(last, f"{last}s")])


def _number(count: int, of: str) -> str:
    return f"{count} kind{'' if count == 1 else 's'} of {of}s" if count else f"no {of}s"
