"""The narrow recipes learn; the default one has a test of its own."""

import json
from pathlib import Path

import pytest

from cornerjax.config import load_recipe
from cornerjax.data.shapes import STYLES, write_shapes
from cornerjax.detectors import get_detector
from cornerjax.training.loop import train
from cornerjax.validation import replaced

# What is left of each part of the loss at most. Pull and push count together: at first all tags are alike, which is
# what pull wants, and they need more steps than these to lie apart.
PARTS = {("focal",): 0.5, ("offset",): 0.5, ("size",): 0.5, ("pull", "push"): 0.8, ("attention",): 0.5}
SMALL = ("squeeze", "cornernet", "saccade", "triplets", "points", "extreme")
RECIPES = ("shapes", *(f"{name}_small" for name in SMALL))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_narrow_recipe_learns_two_pictures_by_heart(tmp_path, recipe):
    """Small, always the same: if every part of the training step does its work, the maps must come to fit them."""
    config = load_recipe(Path(__file__).parents[2] / "configs" / f"{recipe}.py")
    folder = write_shapes(tmp_path / "scenes", seed=0, train=2, val=2, style=STYLES["scenes"])
    still = {"batch": 2, "random_crop": False, "flip": False, "colour_jitter": 0.0, "lighting": 0.0}
    side = {"points_small": 128, "saccade_small": 255}.get(recipe, 127)
    steps = {"steps": 150, "log_steps": 10, "eval_steps": 0, "optim.warmup_steps": 20}
    config = replaced(config, {"data": {"root": str(folder), "crop_px": (side, side), **still}, **steps})
    weights = get_detector(config.model.detector).loss_weights(config)
    parts = [names for names in PARTS if set(names) <= set(weights)]
    assert {name for names in parts for name in names} == set(weights)
    run = train(config, tmp_path / "run").path
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for names in parts:
        losses = [sum(line[name] for name in names) for line in lines if "total" in line]
        assert losses[-1] < PARTS[names] * losses[0], (names, losses)
