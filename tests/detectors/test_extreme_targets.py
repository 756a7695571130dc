"""Training crops, targets and losses of ExtremeNet against recordings of the original."""

import numpy as np
import pytest
from recorded_targets import case_of, cropped, gathered_loss, same_crop, same_targets

from cornerjax.detectors.extremenet import ExtremeConfig, ExtremeNet
from cornerjax.validation import replaced

EXTREMENET = ExtremeNet()
CONFIG = replaced(ExtremeConfig(), {"model.num_classes": 80})
POINTS = ("t", "l", "b", "r")


@pytest.mark.parametrize(
    ("file", "i"), [("extremenet", 0), ("extremenet", 1), *(("extremenet_flip", i) for i in range(3))]
)
def test_training_crops_and_targets_match_the_original(golden, file, i):
    """Whatever crop and mirror were drawn; an object without extreme points has four at 0, 0 there."""
    recorded = golden(f"targets/{file}.npz")
    boxes = recorded.get(f"boxes{i}_f64", recorded[f"boxes{i}"])
    points = recorded[f"extreme_pts{i}"].reshape(-1, 4, 2)
    picture, objects, config = cropped(EXTREMENET, recorded, i, CONFIG, boxes, extreme_points=points)
    same_crop(picture, recorded, i)
    # The first file was made from boxes in float32, with which the original goes on in float32, here in float64.
    within = 1e-7 if f"boxes{i}_f64" in recorded else 2e-5
    same_targets(EXTREMENET, objects, recorded, i, config, within=within)


@pytest.mark.parametrize("case", ["normal", "one_object", "no_object", "one_image_empty"])
def test_losses_and_their_gradients_match_the_original(golden, case):
    recorded = case_of(golden("losses/extremenet.npz"), case, "focal|off")
    parts = gathered_loss(EXTREMENET, CONFIG, recorded)
    for ours, names in (("focal", (*POINTS, "ct")), ("offset", POINTS)):
        kind = "off" if ours == "offset" else ours
        expected = sum(float(recorded[f"{kind}_{point}"]) for point in names) / int(recorded["stacks"])
        np.testing.assert_allclose(parts[ours], expected, rtol=1e-5, atol=1e-7)
