"""A checkpoint is untrusted input."""

import hashlib
import os
import pickle
import sys

import numpy as np
import pytest

from cornerjax.errors import InputError
from cornerjax.weights import read
from cornerjax.weights.read import read_tensors

torch = pytest.importorskip("torch")

VALUES = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "a.running_mean": np.ones(2, np.float32)}


def tensors(**more):
    return {key: torch.from_numpy(value) for key, value in VALUES.items()} | more


class Hostile:
    """Unpickled without care, it makes a folder."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def refused(source, message):
    with pytest.raises(InputError, match=message) as caught:
        read_tensors(source)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("nested", [True, False])
def test_a_file_gives_its_tensors_without_counters(tmp_path, zipped, nested):
    content = tensors(**{"a.num_batches_tracked": torch.tensor(7)})
    path = tmp_path / "checkpoint.pkl"
    content = {"epoch": 3, "state_dict": content} if nested else content
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    read = read_tensors(path)
    assert sorted(read.values) == sorted(VALUES)
    for key, value in VALUES.items():
        np.testing.assert_array_equal(read.values[key], value)
    assert read.name == str(path)
    assert len(read.sha256) == 64


def test_a_dict_is_known_by_its_content():
    read, again = read_tensors(VALUES), read_tensors(dict(reversed(VALUES.items())))
    assert read.sha256 == again.sha256
    assert read.sha256 != read_tensors(VALUES | {"a.running_mean": np.zeros(2, np.float32)}).sha256


def test_other_precisions_become_float32_and_are_named(tmp_path):
    kinds = {"double": torch.float64, "half": torch.float16, "brain": torch.bfloat16}
    torch.save({key: torch.tensor([0.5, 2.0], dtype=dtype) for key, dtype in kinds.items()}, tmp_path / "w.pth")
    read = read_tensors(tmp_path / "w.pth")
    assert all(value.dtype == np.float32 and value.tolist() == [0.5, 2.0] for value in read.values.values())
    assert sorted(read.converted) == sorted(kinds)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("by_torch", [True, False])
def test_code_in_a_file_does_not_run(tmp_path, protocol, by_torch):
    path, made = tmp_path / "hostile.pkl", tmp_path / "made"
    content = {"a.weight": Hostile(made)}
    if by_torch:
        torch.save(content, path, pickle_protocol=protocol)
    else:
        path.write_bytes(pickle.dumps(content, protocol))
    refused(path, "hostile.pkl is refused: .* code to run")
    assert not made.exists()
    if not by_torch:
        pickle.loads(path.read_bytes())
        assert made.exists()  # it would have


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("part", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_a_file_cut_short_is_refused(tmp_path, zipped, part):
    path = tmp_path / "cut.pkl"
    torch.save({"a.weight": torch.ones(300, 300)}, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    refused(path, r"cut.pkl (cannot be read as|is refused)")


def test_other_files_are_refused(tmp_path):
    refused(tmp_path / "missing.pkl", "missing.pkl is no file; expected a checkpoint of PyTorch")
    refused(tmp_path, "is no file")
    text = tmp_path / "notes.pkl"
    text.write_text("not a checkpoint")
    refused(text, "notes.pkl (cannot be read as|is refused)")
    endless = torch.zeros(1).expand(10**12)  # four terabytes in a file of a kilobyte
    for content, message in (
        ([1, 2], "holds a list; expected a dict of tensors"),
        ({}, "holds a dict; expected a dict of tensors"),
        ({"lr": 0.1}, "'lr' is a float; expected tensors only"),
        ({"ids": torch.arange(3)}, "ids has the type int64; expected floating-point"),
        ({"w": torch.tensor([1.0, float("nan")])}, "w has values that are infinite or no numbers"),
        ({"w": torch.tensor([1e300], dtype=torch.float64)}, "w has values that are infinite or no numbers"),
        ({"w": torch.ones(3, 3).to_sparse()}, "w is a tensor of float32 that is not stored number by number"),
        ({"w": torch.ones(3, device="meta")}, "w is a tensor of float32 that is not stored number by number"),
        ({"w": endless}, "w is a tensor of float32 that is not stored number by number"),
        ({3: torch.ones(1)}, "3 is a Tensor; expected tensors only"),
    ):
        torch.save(content, tmp_path / "w.pkl")
        refused(tmp_path / "w.pkl", message)


def test_without_pytorch_a_file_cannot_be_read_but_a_dict_can(tmp_path, monkeypatch):
    torch.save(tensors(), tmp_path / "w.pkl")
    monkeypatch.setitem(sys.modules, "torch", None)
    refused(tmp_path / "w.pkl", "needs PyTorch; install it with: pip install torch")
    assert len(read_tensors(VALUES).values) == 2


def test_a_file_that_may_not_be_read_says_so(tmp_path, monkeypatch):
    torch.save(tensors(), tmp_path / "w.pkl")

    def forbidden(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(read, "open_regular", forbidden)
    refused(tmp_path / "w.pkl", "w.pkl may not be read")


@pytest.mark.parametrize("zipped", [True, False])
def test_what_was_looked_at_is_what_is_read(tmp_path, monkeypatch, zipped):
    """Whatever comes to stand under the name of the file meanwhile."""
    path, other = tmp_path / "w.pkl", tmp_path / "other.pkl"
    for file, content in ((path, tensors()), (other, {"other": torch.ones(1)})):
        torch.save(content, file, _use_new_zipfile_serialization=zipped)
    digest, look = hashlib.sha256(path.read_bytes()).hexdigest(), read.refuse_bombs

    def look_and_change(*given):
        look(*given)
        other.replace(path)

    monkeypatch.setattr(read, "refuse_bombs", look_and_change)
    found = read_tensors(path)
    assert sorted(found.values) == sorted(VALUES)
    assert found.sha256 == digest


def test_a_negative_variance_is_refused_with_its_name(tmp_path):
    """Its root is no number, so that nothing would be found, without a word."""
    negative = {"bn.running_var": np.array([1, -1e-3], np.float32)}
    message = r"bn\.running_var has negative values; expected variances, which are 0 or more$"
    refused(VALUES | negative, f"^dict: {message}")
    torch.save(tensors(**{"bn.running_var": torch.tensor([1, -1e-3])}), tmp_path / "w.pkl")
    refused(tmp_path / "w.pkl", message)


def test_parameters_that_know_their_gradients_are_read(tmp_path):
    torch.save({key: torch.nn.Parameter(value) for key, value in tensors().items()}, tmp_path / "w.pkl")
    for key, value in read_tensors(tmp_path / "w.pkl").values.items():
        np.testing.assert_array_equal(value, VALUES[key])


def test_a_dict_of_anything_but_arrays_is_refused():
    refused(tensors(), "'a.weight' is a Tensor; expected NumPy arrays by their PyTorch names")
    refused({"a": [1.0]}, "'a' is a list; expected NumPy arrays")
    refused({"a": np.arange(3)}, "a has the type int64; expected floating-point numbers")
    assert sorted(read_tensors(VALUES | {"a.num_batches_tracked": 7}).values) == sorted(VALUES)


def test_a_dict_that_changes_later_changes_nothing_here():
    given = {key: value.copy() for key, value in VALUES.items()}
    read = read_tensors(given)
    given["a.weight"][:] = 7
    np.testing.assert_array_equal(read.values["a.weight"], VALUES["a.weight"])
