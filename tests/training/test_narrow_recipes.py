"""The narrow recipes of the other detectors learn: shapes.py has a test of its own."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from cornerjax.config import load_recipe
from cornerjax.data.shapes import STYLES, write_shapes
from cornerjax.training.loop import train


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "parts"), [("squeeze_small", ["focal", "offset"]), ("saccade_small", ["focal", "offset", "attention"])]
)
def test_a_narrow_recipe_learns(tmp_path, recipe, parts):
    """In 150 steps of half its batch what the maps say of places comes to less than 0.6 of its first loss."""
    config = load_recipe(Path(__file__).parents[2] / "configs" / f"{recipe}.py")
    folder = write_shapes(tmp_path / "scenes", seed=0, train=60, val=4, style=STYLES["scenes"])
    data = dataclasses.replace(config.data, root=str(folder), batch=4)
    config = dataclasses.replace(
        config,
        data=data,
        optim=dataclasses.replace(config.optim, warmup_steps=20),
        steps=150,
        log_steps=10,
        eval_steps=0,
    )
    run = train(config, tmp_path / "run").path
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for part in parts:
        losses = [line[part] for line in lines if part in line]
        assert np.mean(losses[-2:]) < 0.6 * losses[0], (part, losses)
