"""How the golden weights were changed for some recordings, so that their networks find something."""

import fnmatch
import re

import numpy as np


def tweaked(weights: dict[str, np.ndarray], tweak: str) -> dict[str, np.ndarray]:
    """The recording's change of the weights, in its own words: "every A and B: entries [0, 5] += 3.0 ; every ..."."""
    for clause in tweak.split(" ; "):
        said = re.fullmatch(r"every (.+?)(?:: entries \[(.*)\])? ([+*])= (-?[\d.]+)", clause)
        assert said, clause
        names, entries, sign, number = said.groups()
        changed = [key for key in weights for name in names.split(" and ") if fnmatch.fnmatchcase(key, name)]
        assert changed or ("tags" in names and "t_heats.0.1.bias" in weights), clause  # ExtremeNet has no tags
        for key in changed:
            at = [int(i) for i in entries.split(",")] if entries else slice(None)
            weights[key][at] = weights[key][at] + float(number) if sign == "+" else weights[key][at] * float(number)
    return weights
