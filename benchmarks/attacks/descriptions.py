"""The JSON of a work directory: a run whose config.json or run.json is damaged is refused, or predicts."""

import json
import random
import shutil
from pathlib import Path

import numpy as np

import cornerjax

from .mutations import damaged
from .outcome import Outcome

PHOTO = np.full((64, 96, 3), 128, np.uint8)
PREDICTING = ("model", "compute", "test", "legacy")  # what decides how a run predicts


def attack(run: Path, folder: Path, count: int, draws: random.Random) -> Outcome:
    """Open a run so many times with other descriptions.

    Args:
        run: of runs.make_run.
        folder: for the damaged one.
    """
    outcome = Outcome("descriptions", str(folder))
    sound = {name: json.loads((run / name).read_text()) for name in ("config.json", "run.json")}
    shutil.copytree(run, folder)
    seen: set[str] = set()
    for number in range(count):
        name = draws.choice(["config.json", "config.json", "config.json", "run.json"])
        content = damaged(sound[name], draws, most=2)
        for file, text in sound.items():
            (folder / file).write_text(json.dumps(text if file != name else content))
        with outcome.trial(f"{name} {number}: {_changes(sound[name], content)}"):
            predictor = cornerjax.load(folder)
            # What predicts as one before it has been seen to predict.
            decides = json.dumps([content.get(part) for part in PREDICTING]) if name == "config.json" else name
            if decides not in seen:
                seen.add(decides)
                predictor(PHOTO)
    return outcome


def _changes(sound: object, content: object, name: str = "") -> str:
    if isinstance(sound, dict) and isinstance(content, dict):
        keys = sorted(sound.keys() | content.keys())
        inside = [_changes(sound.get(key), content.get(key), f"{name}.{key}") for key in keys]
        return ", ".join(part for part in inside if part)
    return "" if json.dumps(sound) == json.dumps(content) else f"{name[1:]} = {str(content)[:60]!r}"
