"""Every layout of every detector from a file that PyTorch wrote: each tensor comes back, and nothing else passes."""

import numpy as np
import pytest

from cornerjax.detectors import DETECTORS
from cornerjax.errors import InputError
from cornerjax.nn.functional import by_path
from cornerjax.weights.convert import read

torch = pytest.importorskip("torch")

CASES = [
    pytest.param(name, i, id=f"{name}-{layout.name}")
    for name, detector in DETECTORS.items()
    for i, layout in enumerate(detector.torch_layouts)
]


@pytest.fixture
def written(tmp_path):
    """The path of a file of arrays."""

    def write(values):
        torch.save({f"module.{key}": torch.from_numpy(value) for key, value in values.items()}, tmp_path / "w.pth")
        return tmp_path / "w.pth"

    return write


@pytest.mark.parametrize(("name", "layout"), CASES)
def test_a_file_becomes_our_network_and_its_arrays_again(checkpoint, written, name, layout):
    values = checkpoint(name, layout=layout)
    converted = read(name, written(values))
    assert converted.match.layout == DETECTORS[name].torch_layouts[layout]
    _, *weights = converted.network()
    ours = {path: np.asarray(array) for tree in weights for path, array in by_path(tree).items()}
    assert converted.match.keys.keys() == ours.keys()
    back = {key: ours[path] for path, key in converted.match.keys.items()}
    assert {f"module.{key}" for key in values} == back.keys()
    for key, value in values.items():
        array = back[f"module.{key}"]
        np.testing.assert_array_equal(array.transpose(3, 2, 0, 1) if array.ndim == 4 else array, value)


@pytest.mark.parametrize(("name", "layout"), CASES)
def test_a_missing_and_a_surplus_key_are_one_sentence(checkpoint, written, name, layout):
    values, of = checkpoint(name, layout=layout), DETECTORS[name].torch_layouts[layout].name
    key = next(key for key in values if key.endswith("running_var"))
    for changed, said in (
        ({k: v for k, v in values.items() if k != key}, f"keys 1 missing: {key}"),
        (values | {"spare.weight": np.ones(2, np.float32)}, "keys 1 unknown: module.spare.weight"),
    ):
        with pytest.raises(InputError) as caught:
            read(name, written(changed))
        assert str(caught.value).endswith(f"w.pth does not fit {name} in the layout of {of}; {said}")


def test_a_backbone_that_was_never_released_is_one_sentence(checkpoint, written):
    """ResNet-34: its keys are those of ResNet-18 and more."""
    values = checkpoint("centernet_points", layout=2)
    more = {key.replace("layer1.1", "layer1.2"): value for key, value in values.items() if "layer1.1" in key}
    with pytest.raises(InputError) as caught:
        read("centernet_points", written(values | more))
    assert "w.pth does not fit centernet_points in the layout of ResNet-18; keys 10 unknown: " in str(caught.value)
    assert "\n" not in str(caught.value)
