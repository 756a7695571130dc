"""Images divided over the devices of a process have the boxes that they have on one."""

import os
import subprocess
import sys
from pathlib import Path

OVER_DEVICES = """
import colour_detector, corner_network, numpy as np
from colour_detector import NAMES, WEIGHTS
from cornerjax.config import Config, Test
from cornerjax.detectors.cornernet_saccade.detector import CornerNetSaccade
from cornerjax.devices import copies, local_copies
from cornerjax.inference.batching import BatchPredictor
from cornerjax.inference.predictor import Predictor
from cornerjax.inference.video import predict_frames

def same(found, here):
    for name in ("boxes", "scores", "classes"):
        np.testing.assert_array_equal(getattr(found, name), getattr(here, name))

def compare(predictor, weights, images):
    batches = predictor.plan([image.shape[:2] for image in images])
    assert {batch.rows for batch in batches} == {1, 4}
    here = dict(predictor(weights, {}, batches, images.__getitem__))
    copied = local_copies(weights)
    assert copies(copied) == 4 and copies(weights) == 1
    found = dict(predictor(copied, {}, batches, images.__getitem__))
    assert sorted(found) == sorted(here) == list(range(len(images)))
    for i in here:
        same(found[i], here[i])
    return [len(found[i]) for i in sorted(found)]

rng = np.random.default_rng(0)
images = [colour_detector.draw(*rng.integers(20, 64, 2), (i, 2, i + 9, 12), (1, 1, 9, 4 + i)) for i in range(9)]
colours, config = colour_detector.DETECTOR, Config(test=Test(batch=3))  # four, as there are four devices
assert compare(BatchPredictor(colours, colour_detector.apply, config, NAMES), WEIGHTS, images) == [2] * 9

predictor = Predictor(colours, colour_detector.apply, WEIGHTS, {}, config, NAMES)
assert copies(predictor.copies) == 4 and copies(predictor.weights) == 1
for found, image in zip(predictor([image[..., ::-1] for image in images]), images):
    same(found, predictor(image[..., ::-1]))
frames = [image for image in images if image.shape == images[0].shape] * 5
for frame, found in predict_frames(predictor, iter(frames), batch=2):
    same(found, predictor(frame[..., ::-1]))

images = [corner_network.picture(side, 130) for side in (101, 120, 128, 97, 90, 140)]
saccades = BatchPredictor(CornerNetSaccade(), corner_network.with_attention, corner_network.SACCADE, NAMES)
find, devices = saccades.procedure.find, []

def watched(params, state, crops, *rest):
    devices.append(len(crops.sharding.device_set))
    return find(params, state, crops, *rest)

saccades.procedure.find = watched
assert min(compare(saccades, {"none": np.zeros(1)}, images)) >= 2
assert set(devices) == {1, 4}  # crops of four images are cut where the network sees them
"""


def test_images_divided_over_devices_have_the_same_boxes():
    """In a process of its own, with four devices; the weights of the Saccade detector are not used by it."""
    here = Path(__file__).parent
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "PYTHONPATH": f"{here.parent}:{here}",
    }
    done = subprocess.run([sys.executable, "-c", OVER_DEVICES], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
