"""From a BGR image to final boxes: the published test procedure, recorded from the original."""

import dataclasses
import json
import re
import runpy
from pathlib import Path

import numpy as np
import pytest

from cornerjax.config import Config, Test
from cornerjax.detectors import get_detector
from cornerjax.inference.predictor import Predictor
from cornerjax.nn.functional import by_path, functional, nested
from cornerjax.nn.layers import kernel_from_torch

GOLDEN = Path(__file__).parents[1] / "golden"


def weights(detector, model):
    """The recording's weights; their heads are changed, as its `tweak` says, so that there is something to find."""
    draw = runpy.run_path(str(GOLDEN / "golden_weights.py"))["weight"]
    shapes = json.loads((GOLDEN / "manifest" / "CornerNet_Squeeze.json").read_text())
    values = {}
    for key, path in detector.torch_names(model).items():
        value = draw(key, shapes[key])
        if re.fullmatch(r"(tl|br)_heats\.\d\.1\.bias", key):
            value[[0, 5, 17]] += 3
        if re.fullmatch(r"(tl|br)_tags\.\d\.1\.weight", key):
            value *= 0.3
        values[path] = kernel_from_torch(value)
    return values


@pytest.mark.slow
def test_the_published_squeeze_finds_the_original_boxes(golden):
    recorded = golden("e2e/cornernet_squeeze.npz")
    detector = get_detector("cornernet_squeeze")
    model = dataclasses.replace(detector.defaults, num_classes=80)
    apply, *trees = functional(detector.build(model, None))
    values = weights(detector, model)
    params, model_state = (nested({path: values[path] for path in by_path(tree)}) for tree in trees)
    config = Config(model=model, test=Test(top_k=20, max_pairs=100))
    found = Predictor(detector, apply, params, model_state, config, ["?"] * 80)(recorded["image"][..., ::-1])

    expected = recorded["top_bboxes"]  # x1 y1 x2 y2, score, class from 1
    expected = expected[np.argsort(-expected[:, 4], kind="stable")]
    assert len(found) == len(expected) == 19
    np.testing.assert_allclose(found.scores, expected[:, 4], atol=1e-4)
    for *box, score, label in expected:
        same = (found.classes + 1 == label) & (np.abs(found.scores - score) < 1e-4)
        assert np.abs(found.boxes[same] - box).max(1).min() < 0.01
