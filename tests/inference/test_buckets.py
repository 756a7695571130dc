"""Images taken together by bucket against one at a time, with a real network."""

import jax
import numpy as np
import pytest

from cornerjax.detectors import DETECTORS
from cornerjax.detectors.base import make_network
from cornerjax.detectors.cornernet import CornerConfig, CornerModel, CornerTest
from cornerjax.inference.batching import BatchPredictor
from cornerjax.nn.backbones.hourglass import Hourglass

BACKBONE = Hourglass(stacks=1, stem_dim=4, stem_kernel=3, dims=(4, 4), blocks=(1, 1), dim=4)
CONFIG = CornerConfig(
    model=CornerModel(num_classes=2, backbone=BACKBONE, pool_dim=4),
    test=CornerTest(batch=2, top_k=200, max_pairs=60, tag_distance=100.0),
)


@pytest.fixture
def compilations():
    """A list that grows with everything XLA compiles."""
    heard = []

    def hear(event: str, duration_secs: float, **_: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            heard.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(hear)
    yield heard
    jax.monitoring.unregister_event_duration_listener(hear)


def images(seed, sizes):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]


def find(predictor, weights, given):
    plan = predictor.plan([image.shape[:2] for image in given])
    found = dict(predictor(*weights, plan, given.__getitem__))
    return [np.column_stack([found[i].boxes, found[i].scores, found[i].classes]) for i in range(len(given))]


def test_together_as_one_at_a_time_and_nothing_is_compiled_again(compilations):
    detector = DETECTORS["cornernet"]
    apply, *weights = make_network(detector, CONFIG, np.random.default_rng(0))
    predictor = BatchPredictor(detector, apply, CONFIG, ["a", "b"])
    given = images(0, [(90, 120), (100, 150), (127, 101), (64, 200)])  # two buckets, two images in each
    together = find(predictor, weights, given)
    alone = [find(predictor, weights, [image])[0] for image in given]
    for ours, theirs in zip(together, alone, strict=True):
        assert len(ours) == len(theirs) > 3
        assert (abs(ours[:, None] - theirs).max(-1).min(1) < 1e-4).all()  # the same, in whichever order ties come
        assert (abs(ours[:, None] - theirs).max(-1).min(0) < 1e-4).all()

    assert compilations
    compilations.clear()
    others = images(1, [(127, 127), (33, 128), (101, 255), (80, 80), (50, 60), (77, 131)])
    find(predictor, weights, others)
    find(predictor, weights, others[:1])
    assert not compilations
