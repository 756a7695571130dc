"""Every tensor of a checkpoint finds its place, or the checkpoint is refused with the reason."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from cornerjax.detectors import DETECTORS
from cornerjax.errors import InputError
from cornerjax.weights.match import layout_of, lite_name, match

MANIFESTS = Path(__file__).parents[1] / "golden" / "manifest"


def first_repositorys(name):
    """The name that CornerNet's first repository has for one of CornerNet-Lite's."""
    for lite, theirs in (
        ("hg.hgs.", "kps."), ("hg.", ""), ("tl_modules.", "tl_cnvs."), ("br_modules.", "br_cnvs."),
        ("tl_offs.", "tl_regrs."), ("br_offs.", "br_regrs."),
    ):  # fmt: skip
        if name.startswith(lite):
            return theirs + name.removeprefix(lite)
    return name


def test_the_first_repositorys_names_are_those_of_the_recorded_manifest():
    lite = json.loads((MANIFESTS / "CornerNet.json").read_text())
    first = json.loads((MANIFESTS / "CornerNet_ECCV18.json").read_text())
    assert layout_of(first) == "eccv18"
    assert layout_of(lite) == "lite"
    renamed = {lite_name(name): shape for name, shape in first.items()}
    assert len(renamed) == len(first)
    counted = "num_batches_tracked"
    assert {n: s for n, s in renamed.items() if counted not in n} == {n: s for n, s in lite.items() if counted not in n}


@pytest.mark.parametrize("detector", ["cornernet", "cornernet_squeeze", "cornernet_saccade"])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("classes", [3, 7])
def test_every_tensor_finds_its_place(checkpoint, detector, prefix, classes):
    values = {prefix + key: value for key, value in checkpoint(detector, classes).items()}
    model, ours, names = match(DETECTORS[detector], values, source="dict")
    assert model.num_classes == classes
    assert sorted(names.values()) == sorted(values)
    for path, key in names.items():
        expected = values[key].transpose(2, 3, 1, 0) if values[key].ndim == 4 else values[key]
        np.testing.assert_array_equal(ours[path], expected)


def test_the_first_repositorys_layout_gives_the_same(checkpoint):
    values = checkpoint("cornernet")
    renamed = {f"module.{first_repositorys(key)}": value for key, value in values.items()}
    _, ours, _ = match(DETECTORS["cornernet"], values, source="dict")
    _, again, names = match(DETECTORS["cornernet"], renamed, source="dict")
    assert sorted(names.values()) == sorted(renamed)
    for path, value in ours.items():
        np.testing.assert_array_equal(again[path], value)


def refused(detector, values, message):
    with pytest.raises(InputError, match=message) as caught:
        match(DETECTORS[detector], values, source="w.pkl")
    assert "\n" not in str(caught.value)


def test_what_does_not_fit_is_listed(checkpoint):
    values = checkpoint("cornernet")
    without = {key: value for key, value in values.items() if key != "tl_tags.1.1.weight"}
    refused("cornernet", without, r"^w.pkl does not fit cornernet; keys 1 missing: tl_tags.1.1.weight$")
    refused("cornernet", values | {"extra": np.ones(1, np.float32)}, "keys 1 unknown: extra$")
    wide = values | {"br_tags.0.1.weight": np.ones((2, 8, 1, 1), np.float32)}
    refused("cornernet", wide, r"keys 1 of another shape: br_tags.0.1.weight \(2, 8, 1, 1\), expected \(1, 8, 1, 1\)$")
    scalar = values | {"br_tags.0.1.bias": np.ones((), np.float32)}
    refused("cornernet", scalar, r"keys 1 of another shape: br_tags.0.1.bias \(\), expected \(1,\)$")
    few = {key: value for key, value in values.items() if not key.startswith("hg.hgs.0.")}
    refused("cornernet", few, r"\d\d missing: (hg\.hgs\.0\.\S+, ){9}hg\.hgs\.0\.\S+ and \d+ more")


@pytest.mark.parametrize("again", ["module.tl_tags.1.1.bias", "module.hg.pre.0.conv.weight", "kps.0.low1.0.bn1.bias"])
def test_a_tensor_that_is_given_twice_is_refused(checkpoint, again):
    values = checkpoint("cornernet")
    first = lite_name(again.removeprefix("module."))
    refused("cornernet", values | {again: values[first]}, f"keys 1 given twice: {first}$")


def test_heat_maps_of_no_class_are_refused(checkpoint):
    values = checkpoint("cornernet_squeeze")
    of_classes = [key for key in values if re.fullmatch(r"(tl|br)_heats\.\d\.1\.\w+", key)]
    none = {key: values[key][:0] for key in of_classes}
    refused("cornernet_squeeze", values | none, r"keys 8 of another shape: .*tl_heats.1.1.bias \(0,\), expected")


@pytest.mark.parametrize(("said", "really"), [("cornernet", "cornernet_saccade"), ("cornernet_saccade", "cornernet")])
def test_the_state_of_another_detector_is_recognised(checkpoint, said, really):
    refused(said, checkpoint(really), f"does not fit {said}; its names are those of {really}; keys")
