"""A new run starts from the backbone of another detector, or of a file that holds a backbone alone."""

import dataclasses
import hashlib

import numpy as np
import pytest
from made_runs import NETWORK, PETS, assert_equal, write_run

import cornerjax
from cornerjax.detectors import get_detector
from cornerjax.detectors.base import make_network
from cornerjax.errors import InputError
from cornerjax.nn.backbones.resnet import ResNet
from cornerjax.nn.functional import by_path
from cornerjax.training.finetune import Init, init_weights, record_of
from cornerjax.validation import replaced

POINTS = {"model": {"backbone": NETWORK.backbone, "head_dim": 4, "num_classes": 3}}
RESNET = {"model": {"backbone": ResNet(width=4, up_dims=(4, 4, 4)), "head_dim": 4, "num_classes": 3}}


def started(init, changes):
    """What a network of points for three classes starts from, its own initial arrays, and what is said."""
    config = replaced(get_detector("centernet_points").defaults, changes)
    _, params, model_state = make_network(get_detector("centernet_points"), config, np.random.default_rng(2))
    *made, said = init_weights(params, model_state, config, ("a", "b", "c"), init)
    return *(by_path(a) | by_path(b) for a, b in (made, (params, model_state))), "\n".join(said)


def test_a_backbone_is_taken_over_by_another_detector(tmp_path):
    theirs = write_run(tmp_path, PETS)
    made, initial, said = started(Init(tmp_path, "backbone"), POINTS)
    below = {path for path in made if path.startswith("backbone.")}
    assert below == {path for path in theirs if path.startswith("backbone.")}
    assert_equal(below, made, theirs)
    assert_equal(made.keys() - below, made, initial)
    first, second = said.splitlines()
    assert first.startswith(f"from {tmp_path}: {len(below)} arrays")
    assert second == "not loaded, and as in a run without --init: ct.0 (12 arrays)"


def test_another_backbone_is_refused_with_the_settings_that_differ(tmp_path):
    write_run(tmp_path, PETS, {"model.backbone.dims": (8, 16)})
    with pytest.raises(InputError, match=r"there, here: model\.backbone\.dims: \(8, 16\), \(8, 8\)\); give the same"):
        started(Init(tmp_path, "backbone"), POINTS)
    with pytest.raises(InputError, match=r"another backbone \(there, here: model\.backbone: Hourglass, ResNet; "):
        started(Init(tmp_path, "backbone"), RESNET)


def write_imagenet(file, *, extra=()):
    """A file as torchvision's of a ResNet-18, narrow; the arrays by path."""
    torch = pytest.importorskip("torch")
    detector = get_detector("centernet_points")
    config = replaced(detector.defaults, RESNET)
    _, *trees = make_network(detector, config, np.random.default_rng(7))
    ours = by_path(trees[0]) | by_path(trees[1])
    layout = next(layout for layout in detector.backbone_layouts if layout.name.startswith("ResNet-18"))
    names = detector.torch_names(config.model, layout)
    tensors = {name: ours[path] for name, path in names.items()}
    tensors = {name: v.transpose(3, 2, 0, 1) if v.ndim == 4 else v for name, v in tensors.items()}
    tensors |= {name: np.ones(2, np.float32) for name in ("fc.weight", "fc.bias", *extra)}
    torch.save({name: torch.tensor(value) for name, value in tensors.items()}, file)
    return {path: ours[path] for path in names.values()}


def test_a_file_of_a_backbone_alone_is_taken_over(tmp_path):
    theirs = write_imagenet(tmp_path / "resnet18.pth")
    init = Init(tmp_path / "resnet18.pth", "backbone")
    made, initial, said = started(init, RESNET)
    assert len(theirs) == 100
    assert_equal(theirs, made, theirs)
    assert_equal(made.keys() - theirs.keys(), made, initial)
    assert "not loaded, and as in a run without --init: backbone.ups (15 arrays), ct.0 (12 arrays)" in said
    assert said.endswith("not needed: fc.bias, fc.weight")
    turned, _, _ = started(dataclasses.replace(init, rgb=True), RESNET)
    first = "backbone.stem.conv.kernel"
    np.testing.assert_array_equal(turned[first], theirs[first][:, :, [2, 1, 0]])
    assert_equal(theirs.keys() - {first}, turned, theirs)
    digest = hashlib.sha256(init.checkpoint.read_bytes()).hexdigest()
    assert record_of(init) == {"part": "backbone", "file": str(init.checkpoint), "source_sha256": digest}


def test_files_that_are_no_such_backbone_are_refused(tmp_path):
    file = tmp_path / "resnet18.pth"
    write_imagenet(file, extra=["layer5.0.conv1.weight"])
    with pytest.raises(
        InputError, match=r"does not fit the backbone of this network; keys 1 unknown: layer5\.0\.conv1"
    ):
        started(Init(file, "backbone"), RESNET)
    write_imagenet(file)
    deeper = replaced(RESNET["model"]["backbone"], {"depth": 34})
    with pytest.raises(
        InputError, match=r"; its names are those of the backbone alone, ResNet-18 .*; keys \d+ missing"
    ):
        started(Init(file, "backbone"), {"model": RESNET["model"] | {"backbone": deeper}})
    with pytest.raises(InputError, match=r"no files of a Hourglass backbone alone .* DLA-34 trained"):
        started(Init(file, "backbone"), POINTS)
    with pytest.raises(InputError, match=r"resnet18\.pth is a file; expected a work directory"):
        started(Init(file), RESNET)
    with pytest.raises(InputError, match=r"ResNet-18 trained on ImageNet, from which cornerjax train --init FILE"):
        cornerjax.from_torch("centernet_points", file)
