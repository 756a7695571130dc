"""Octagons against recordings of the original and of COCO's masks."""

import numpy as np

from cornerjax.detectors.octagons import filled, octagons


def test_they_are_the_originals_and_cover_its_pixels(golden):
    recorded = golden("post/octagon.npz")
    height, width = recorded["image_size_hw"].tolist()
    names = [key for key in recorded if key.startswith("ex")]
    assert len(names) == len(recorded["names"])
    for name in names:
        i = name[2:].removesuffix("_f64")
        points = recorded[name].astype(np.float64).reshape(1, 4, 2)
        ours = octagons(points)
        if recorded[name].dtype == np.int32:
            np.testing.assert_array_equal(octagons(recorded[name].reshape(1, 4, 2)), ours)
        np.testing.assert_allclose(ours.reshape(-1), recorded[f"oct{i}_f64"].reshape(-1), rtol=0, atol=2e-6)
        np.testing.assert_array_equal(filled(ours, height, width)[0], recorded[f"mask{i}"])


def test_there_may_be_none():
    assert octagons(np.zeros((0, 4, 2), np.float32)).shape == (0, 8, 2)
    assert filled(np.zeros((0, 8, 2), np.float32), 4, 5).shape == (0, 4, 5)
