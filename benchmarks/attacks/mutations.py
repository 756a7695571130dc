"""Hostile values, put anywhere into what is read from JSON."""

import copy
import random
from typing import Any

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 1.5, -0.0, 1e30, 1e308, float("nan"), float("inf"), 2**31, 2**63, -(2**63), 10**400),
    *("", "0", "x", "a\0b", "\ud800", "../../etc/passwd", "/", "x" * 300, "\x1b[2J", "=1+1", "7.png"),
    *([], [[]], [1, 2], {}, {"id": 7}, [1, 2, 3, 4], [1, 2, "3", 4], ["a"] * 1000),
)


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """Every place in nested lists and dicts."""
    inside: list[tuple] = [path] if path else []
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        inside += places(entry, (*path, key))
    return inside


def damaged(sound: Any, draws: random.Random, *, most: int = 3, values: tuple[Any, ...] = VALUES) -> Any:
    """A copy of nested lists and dicts with up to `most` values replaced, removed, or of an unknown name."""
    content = copy.deepcopy(sound)
    for _ in range(draws.randint(1, most)):
        *path, last = draws.choice(places(content))
        holder: Any = content
        for key in path:
            holder = holder[key]
        how = draws.random()
        if isinstance(holder, dict) and how < 0.15:
            del holder[last]
        elif isinstance(holder, dict) and how < 0.2:
            holder[f"{last}x"] = holder[last]
        elif isinstance(holder[last], int | float) and how < 0.4:  # of the right type, and near
            holder[last] = holder[last] * draws.choice([0, -1, 2, 10, 1000]) + draws.choice([0, 1])
        else:
            holder[last] = copy.deepcopy(draws.choice(values))
    return content
