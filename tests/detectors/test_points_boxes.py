"""CenterNet points from its maps to boxes, against recordings of the original."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recorded import boxes_of, nhwc

from cornerjax.detectors import apply_preset
from cornerjax.detectors.centernet_points.detector import CenterNetPoints
from cornerjax.detectors.centernet_points.options import PointConfig
from cornerjax.detectors.rows import Candidates
from cornerjax.errors import InputError
from cornerjax.inference.placing import fit_images
from cornerjax.inference.whole_image import WholeImage, decode
from cornerjax.validation import replaced

POINTS = CenterNetPoints()


def rows_of(found, i):
    return np.column_stack([found.boxes[i], found.scores[i], found.classes[i]])


def same_rows(ours, expected, *, within):
    """Whatever their order."""
    assert ours.shape == expected.shape
    off = np.abs(ours[:, None] - expected).max(-1)
    np.testing.assert_allclose([off.min(0).max(), off.min(1).max()], 0, atol=within)


@pytest.mark.parametrize(("kept", "top_k"), [("dets_K100", 100), ("dets_K40_noreg", 40)])
def test_boxes_match_the_original(golden, kept, top_k):
    """Without a map of offsets too, where the original takes the middle of each cell."""
    recorded = golden("decode/centernet_z_ctdet.npz")
    p, off = nhwc(recorded["hm"]), nhwc(recorded["reg"])
    off = np.full_like(off, 0.5) if kept.endswith("noreg") else off
    maps = {"ct_heat": np.log(p) - np.log1p(-p), "ct_size": nhwc(recorded["wh"]), "ct_off": off}
    config = replaced(PointConfig(), {"legacy.non_peaks": True, "test.top_k": top_k})
    found = jax.jit(lambda maps: POINTS.decode([maps], config))(maps)
    for i in range(2):
        same_rows(rows_of(found, i), recorded[kept][i], within=1e-4)


class Recorded(CenterNetPoints):
    """Answers with recorded boxes, in cells, whose mirrored maps have been averaged."""

    def __init__(self, rows):
        self.rows = jnp.asarray(rows)

    def decode(self, outputs, config):
        return Candidates(self.rows[..., :4], self.rows[..., 4], self.rows[..., 5].astype(jnp.int32), {})


@pytest.mark.parametrize(
    ("mode", "test"),
    [
        ("single", {}),
        ("nms", {"nms": "gaussian"}),
        ("multi", {"scales": (0.5, 0.75, 1.0, 1.25, 1.5)}),
        ("fixres_multi", {"scales": (0.75, 1.25), "fixed_px": (256, 256)}),
    ],
)
def test_the_test_function_gives_the_same_boxes(golden, mode, test):
    """From prescribed boxes of each scale to the best hundred."""
    recorded = golden("post/centernet_z_multi_scale.npz")
    config = replaced(apply_preset(PointConfig(), "released"), {"test": test})
    answers = [Recorded(recorded[f"{mode}_s{scale:g}_raw_dets"]) for scale in config.test.scales]
    same_rows(boxes_of(answers, config, recorded["image"]), recorded[f"{mode}_top"], within=2e-3)


def test_boxes_go_back_into_the_image_as_by_the_original(golden):
    """From cells of a network's fixed input; the recorded square has a side of its own, as of an image that was cut."""
    recorded = golden("decode/centernet_z_ctdet.npz")
    (x, y), side = recorded["pp_c"].astype(int).tolist(), int(recorded["pp_s"].max())
    size = tuple(4 * cells for cells in recorded["hm"].shape[2:])
    config = replaced(apply_preset(PointConfig(), "released"), {"test": {"fixed_px": size, "flip": False}})
    picture = np.zeros((2 * y, 2 * x, 3), np.uint8)
    placed = fit_images([picture] * 2, [(y, side)] * 2, size, 2, scale=1.0, legacy=config.legacy)
    images, borders, ratios, sizes = map(jnp.asarray, placed)
    (found,) = decode(Recorded(recorded["dets_K100"]), config, [{}], images, borders, ratios, sizes)
    ours = np.concatenate([rows_of(found, i) for i in range(2)]) + np.array([0, 0, 0, 0, 0, 1])  # classes from 1
    same_rows(ours, recorded["pp_out"], within=1e-4)


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (
            {"fixed_px": (64, 64), "scales": (1.0, 60.0)},
            r"^image of 1000x800 pixels is 2,880,000,000 pixels at scale 60; accepted are up to 268,435,456: reduce it",
        ),
        (
            {"fixed_px": (16384, 8192)},
            r"^test\.fixed_px is \(16384, 8192\), 134,217,728 pixels for the network; accepted",
        ),
    ],
    ids=["enlarged", "input"],
)
def test_what_would_take_gigabytes_on_its_way_into_a_fixed_input_is_refused(test, message):
    with pytest.raises(InputError, match=message):
        WholeImage(POINTS, lambda *_: None, replaced(PointConfig(), {"test": test})).bucket(800, 1000)


def test_a_large_photo_is_fitted_into_a_small_input():
    config = replaced(PointConfig(), {"test": {"fixed_px": (64, 96), "scales": (0.5, 1.0)}})
    assert WholeImage(POINTS, lambda *_: None, config).bucket(20_000, 13_000) == ((64, 96), (64, 96))
