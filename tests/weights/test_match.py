"""Every tensor of a checkpoint finds its place, or the checkpoint is refused with the reason."""

import re

import numpy as np
import pytest

from cornerjax.detectors import DETECTORS
from cornerjax.detectors.cornernet import LITE_RULES
from cornerjax.detectors.layouts import TorchLayout
from cornerjax.errors import InputError
from cornerjax.validation import replaced
from cornerjax.weights.match import match

CLASSES = 3


def first_repositorys(name):
    """The name that CornerNet's first repository has for one of CornerNet-Lite's."""
    for lite, theirs in (
        ("hg.hgs.", "kps."), ("hg.", ""), ("tl_modules.", "tl_cnvs."), ("br_modules.", "br_cnvs."),
        ("tl_offs.", "tl_regrs."), ("br_offs.", "br_regrs."),
    ):  # fmt: skip
        if name.startswith(lite):
            return theirs + name.removeprefix(lite)
    return name


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("classes", [1, 7])
def test_every_tensor_finds_its_place(checkpoint, detector, prefix, classes):
    values = {prefix + key: value for key, value in checkpoint(detector, classes).items()}
    found = match(DETECTORS[detector], values, source="dict")
    assert found.layout is DETECTORS[detector].torch_layouts[0]
    assert found.model.num_classes == classes
    assert found.unused == []
    assert sorted(found.keys.values()) == sorted(values)
    for path, key in found.keys.items():
        expected = values[key].transpose(2, 3, 1, 0) if values[key].ndim == 4 else values[key]
        np.testing.assert_array_equal(found.values[path], expected)


def test_the_first_repositorys_layout_gives_the_same(checkpoint):
    values = checkpoint("cornernet")
    renamed = {f"module.{first_repositorys(key)}": value for key, value in values.items()}
    lite, first = (match(DETECTORS["cornernet"], given, source="dict") for given in (values, renamed))
    assert (lite.layout.name, first.layout.name) == ("CornerNet-Lite", "CornerNet's first repository")
    assert sorted(first.keys.values()) == sorted(renamed)
    assert lite.values.keys() == first.values.keys()
    for path, value in lite.values.items():
        np.testing.assert_array_equal(first.values[path], value)


def with_layouts(*layouts):
    return type("Many", (type(DETECTORS["cornernet"]),), {"torch_layouts": layouts})()


def with_classes(changes):
    """The narrow network of the checkpoints, changed."""
    return replaced(DETECTORS["cornernet"].defaults.model, {"num_classes": CLASSES, **changes})


def test_a_layout_knows_its_network(checkpoint):
    """Recognised by which arrays there are, or by their shapes alone."""
    one = TorchLayout("one stack", LITE_RULES, model={"backbone.stacks": 1})
    thin = TorchLayout("1x1 heads", LITE_RULES, model={"head_kernel": 1})
    many = with_layouts(one, thin, TorchLayout("published", LITE_RULES))
    values = checkpoint("cornernet")
    assert match(many, values, source="dict").layout.name == "published"
    kernels = {key: value[..., 1:2, 1:2] for key, value in values.items() if re.search(r"s\.\d\.0\.conv\.weight", key)}
    found = match(many, values | kernels, source="dict")
    assert (found.layout.name, found.model) == ("1x1 heads", with_classes({"head_kernel": 1}))
    first_stack = {key: value for key, value in values.items() if re.match(r"hg\.(pre|\w+\.0)\.|\w+\.0\.", key)}
    first_stack = {key: value for key, value in first_stack.items() if not re.match(r"hg\.(inters|cnvs_)", key)}
    found = match(many, first_stack, source="dict")
    assert (found.layout.name, found.model) == ("one stack", with_classes({"backbone.stacks": 1}))


def test_keys_that_the_network_does_not_need_are_told_apart(checkpoint):
    values = {f"module.{key}": value for key, value in checkpoint("cornernet").items()}
    besides = {"module.base.fc.weight": np.ones(2, np.float32), "module.base.fc.bias": np.ones(2, np.float32)}
    known = with_layouts(TorchLayout("with a classifier", LITE_RULES, unused=(r"base\.fc\.\w+",)))
    found = match(known, values | besides, source="w.pkl")
    assert found.unused == ["module.base.fc.bias", "module.base.fc.weight"]
    assert sorted(found.keys.values()) == sorted(values)
    with pytest.raises(InputError, match=r"with a classifier; keys 1 unknown: module\.base\.fc\.bias\.more$"):
        match(known, values | besides | {"module.base.fc.bias.more": np.ones(2, np.float32)}, source="w.pkl")


def test_a_detector_that_was_never_released_has_no_checkpoints(checkpoint):
    with pytest.raises(InputError, match=r"^no released checkpoints of cornernet are known; w\.pkl cannot be read"):
        match(with_layouts(), checkpoint("cornernet"), source="w.pkl")


def refused(detector, values, message):
    with pytest.raises(InputError, match=message) as caught:
        match(DETECTORS[detector], values, source="w.pkl")
    assert "\n" not in str(caught.value)


def test_what_does_not_fit_is_listed(checkpoint):
    values = checkpoint("cornernet")
    without = {key: value for key, value in values.items() if key != "tl_tags.1.1.weight"}
    lite = r"^w.pkl does not fit cornernet in the layout of CornerNet-Lite; keys"
    refused("cornernet", without, rf"{lite} 1 missing: tl_tags.1.1.weight$")
    refused("cornernet", values | {"extra": np.ones(1, np.float32)}, "keys 1 unknown: extra$")
    both = values | {"kps.0.low1.0.bn1.bias": values["hg.hgs.0.low1.0.bn1.bias"]}
    refused("cornernet", both, rf"{lite} 1 unknown: kps.0.low1.0.bn1.bias$")
    wide = values | {"br_tags.0.1.weight": np.ones((2, 8, 1, 1), np.float32)}
    refused("cornernet", wide, r"keys 1 of another shape: br_tags.0.1.weight \(2, 8, 1, 1\), expected \(1, 8, 1, 1\)$")
    scalar = values | {"br_tags.0.1.bias": np.ones((), np.float32)}
    refused("cornernet", scalar, r"keys 1 of another shape: br_tags.0.1.bias \(\), expected \(1,\)$")
    other = values | {"br_heats.0.1.bias": np.ones(5, np.float32)}
    refused("cornernet", other, r"keys 1 of another shape: br_heats.0.1.bias \(5,\), expected \(3,\)$")
    few = {key: value for key, value in values.items() if not key.startswith("hg.hgs.0.")}
    refused("cornernet", few, r"\d\d missing: (hg\.hgs\.0\.\S+, ){9}hg\.hgs\.0\.\S+ and \d+ more")
    first = {first_repositorys(key): value for key, value in without.items()}
    refused("cornernet", first, r"in the layout of CornerNet's first repository; keys 1 missing: tl_tags.1.1.weight$")


@pytest.mark.parametrize("again", ["tl_tags.1.1.bias", "hg.pre.0.conv.weight"])
def test_a_tensor_that_is_given_twice_is_refused(checkpoint, again):
    values = checkpoint("cornernet")
    refused("cornernet", values | {f"module.{again}": values[again]}, f"keys 1 given twice: {again}$")


def test_heat_maps_of_no_class_are_refused(checkpoint):
    values = checkpoint("cornernet_squeeze")
    of_classes = [key for key in values if re.fullmatch(r"(tl|br)_heats\.\d\.1\.\w+", key)]
    none = {key: values[key][:0] for key in of_classes}
    refused("cornernet_squeeze", values | none, r"keys 8 of another shape: .*tl_heats.1.1.bias \(0,\), expected \(1,\)")


@pytest.mark.parametrize(("said", "really"), [("cornernet", "cornernet_saccade"), ("cornernet_saccade", "cornernet")])
def test_the_state_of_another_detector_is_recognised(checkpoint, said, really):
    hint = f"; its names are those of {really} in the layout of CornerNet-Lite; keys"
    refused(said, checkpoint(really), f"does not fit {said} in the layout of CornerNet-Lite{hint}")
    first = {first_repositorys(key): value for key, value in checkpoint("cornernet").items()}
    if really == "cornernet":
        refused(said, first, "; its names are those of cornernet in the layout of CornerNet's first repository; keys")
