"""The narrow recipes learn: shapes.py has a test of its own."""

import dataclasses
import json
from pathlib import Path

import pytest

from cornerjax.config import load_recipe
from cornerjax.data.shapes import STYLES, write_shapes
from cornerjax.training.loop import train


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "parts"),
    [("squeeze_small", ["focal"]), ("cornernet_small", ["focal"]), ("saccade_small", ["focal", "attention"])],
)
def test_a_narrow_recipe_learns_four_pictures_by_heart(tmp_path, recipe, parts):
    """Whole, always the same: if every part of the training step does its work, the heat maps must come to fit them."""
    config = load_recipe(Path(__file__).parents[2] / "configs" / f"{recipe}.py")
    folder = write_shapes(tmp_path / "scenes", seed=0, train=4, val=2, style=STYLES["scenes"])
    data = dataclasses.replace(
        config.data, root=str(folder), batch=4, random_crop=False, flip=False, colour_jitter=0.0, lighting=0.0
    )
    optim = dataclasses.replace(config.optim, warmup_steps=20)
    config = dataclasses.replace(config, data=data, optim=optim, steps=150, log_steps=10, eval_steps=0)
    run = train(config, tmp_path / "run").path
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for part in parts:
        losses = [line[part] for line in lines if part in line]
        assert losses[-1] < 0.5 * losses[0], (part, losses)
