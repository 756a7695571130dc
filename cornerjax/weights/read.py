"""A PyTorch checkpoint as a plain dict of NumPy arrays. The only module that imports PyTorch, to read files."""

import contextlib
import hashlib
import io
import os
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jax import dtypes

from cornerjax.errors import InputError
from cornerjax.files import is_file, open_regular
from cornerjax.text import plain, short, shortened
from cornerjax.weights.pickles import REFUSED, refuse_bombs

if TYPE_CHECKING:
    import torch

MOST_DIMS = 8
LONGEST_KEY = 200
Source = str | os.PathLike[str] | Mapping[str, Any]  # arrays; they are checked here


class Tensors(NamedTuple):
    """What a source holds."""

    values: dict[str, np.ndarray]  # float32, in PyTorch's layout, by the names of the source, without counters
    name: str  # of the file, or "dict"
    sha256: str  # of the file's bytes; of a dict's names and values
    converted: dict[str, str]  # the types that were not float32 before, by name


def read_tensors(source: Source) -> Tensors:
    """Read a checkpoint.

    A file is read with `torch.load(weights_only=True)`: no code that it may hold runs.

    Args:
        source: a .pkl or .pth file with a dict of tensors, at its top or under "state_dict", or such a dict of NumPy
            arrays. The counters `num_batches_tracked` are left out.
    Raises: InputError: the file is missing, damaged, holds code or anything but tensors, or PyTorch is not installed;
        a tensor is not finite, or none of floating-point numbers, or a variance is negative.
    """
    if isinstance(source, Mapping):
        source = inside if isinstance(inside := source.get("state_dict"), Mapping) else source
        name, arrays = "dict", _copies(source)
        types, digest = {key: str(value.dtype) for key, value in arrays.items()}, _hash_of_dict(arrays)
    else:
        path = Path(source)
        name, (arrays, types, digest) = str(path), _load(path)
    values, converted = {}, {}
    for key, value in arrays.items():
        if len(key) > LONGEST_KEY or not key.isprintable():
            raise InputError(f"{name}: {short(key)} is no name of a tensor; expected up to {LONGEST_KEY} letters")
        if not dtypes.issubdtype(value.dtype, np.floating):
            raise InputError(f"{name}: {key} has the type {value.dtype}; expected floating-point numbers")
        if types[key] != "float32":
            converted[key] = types[key]
        with np.errstate(over="ignore"):  # what float32 cannot hold is refused below
            values[key] = np.asarray(value, np.float32, order="C")
        if not np.isfinite(values[key]).all():
            raise InputError(f"{name}: {key} has values that are infinite or no numbers; expected finite ones")
        if key.endswith("running_var") and values[key].min(initial=0) < 0:
            raise InputError(f"{name}: {key} has negative values; expected variances, which are 0 or more")
    return Tensors(values, name, digest, converted)


def _copies(given: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Arrays of our own: JAX uses NumPy's memory in place, and the caller may write to his."""
    for key, value in given.items():
        if not isinstance(key, str) or not (_is_counter(key) or isinstance(value, np.ndarray)):
            raise InputError(
                f"dict: {short(key)} is a {type(value).__name__}; expected NumPy arrays by their PyTorch names"
            )
    return {key: value.copy() for key, value in given.items() if not _is_counter(key)}


def _is_counter(key: str) -> bool:
    return key.endswith("num_batches_tracked")


def _load(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str], str]:
    """The tensors of a file as arrays, their types, and the hash of the file.

    It is opened once, so that what was looked at is what is read, whatever stands under its name meanwhile.
    """
    if not is_file(path):
        raise InputError(f"{path} is no file; expected a checkpoint of PyTorch, .pkl or .pth")
    try:
        with open_regular(path) as file:
            refuse_bombs(file, path)
            file.seek(0)
            arrays, types = _tensors_in(file, path)
            file.seek(0)
            return arrays, types, hashlib.file_digest(file, "sha256").hexdigest()
    except PermissionError:
        raise InputError(f"{path} may not be read; expected a file that this user has the right to read") from None
    except OSError as e:
        raise InputError(f"cannot read {path}: {e.strerror}; expected a checkpoint of PyTorch") from None


def _tensors_in(file: io.BufferedReader, path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    try:
        import torch
    except ImportError:
        raise InputError(f"reading {path} needs PyTorch; install it with: pip install torch") from None
    try:
        with warnings.catch_warnings(action="ignore"):  # old pickle protocols are read all the same
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise InputError(f"{path} {REFUSED}") from None
    except MemoryError:
        raise
    except Exception:  # torch lets through whatever damaged bytes happen to raise
        raise InputError(
            f"{path} cannot be read as a checkpoint of PyTorch: it is damaged or cut short; expected an intact file"
        ) from None
    # Methods of dict itself: a file can put attributes of its own in their place.
    if isinstance(content, dict) and isinstance(inside := dict.get(content, "state_dict"), dict):
        content = inside
    if not isinstance(content, dict) or not dict.__len__(content):
        raise InputError(f"{path} holds a {type(content).__name__}; expected a dict of tensors")
    arrays, types = {}, {}
    left = _stored(content, torch.Tensor)
    for key, value in dict.items(content):
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise InputError(f"{path}: {short(key)} is a {type(value).__name__}; expected tensors only")
        if _is_counter(key):
            continue
        types[key] = str(value.dtype).removeprefix("torch.")
        named = f"{path}: {shortened(plain(key), 100)}"
        try:
            arrays[key] = _as_array(value)
        except (TypeError, RuntimeError, ValueError):
            raise InputError(
                f"{named} is a tensor of {types[key]} that is not stored number by number; "
                "expected dense tensors of floating-point numbers"
            ) from None
        left -= value.numel()
        if left < 0:
            raise InputError(f"{named} repeats what other tensors store; expected tensors of their own")
    return arrays, types


def _stored(content: dict[Any, Any], tensor: type["torch.Tensor"]) -> int:
    """How many numbers are stored, twice: a tensor or two may well be there under two names."""
    storages = {}
    for value in dict.values(content):
        if isinstance(value, tensor):
            with contextlib.suppress(RuntimeError, NotImplementedError):  # sparse ones, which are refused later
                storage = value.untyped_storage()
                storages[storage.data_ptr()] = storage.nbytes() // max(value.element_size(), 1)
    return 2 * sum(storages.values())


def _as_array(tensor: "torch.Tensor") -> np.ndarray:
    """Raises: TypeError or RuntimeError: the tensor is not stored number by number."""
    if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        raise TypeError("a tensor that repeats what it stores can claim a size that fills any memory")
    if tensor.dim() > MOST_DIMS or not tensor.numel():
        raise TypeError("no network has a tensor of so many dimensions, or an empty one")
    # NumPy lacks some of PyTorch's types, such as bfloat16; float32 holds them.
    return (tensor.float() if tensor.is_floating_point() else tensor).detach().numpy()


def _hash_of_dict(tensors: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(f"{key} {tensors[key].dtype} {tensors[key].shape}".encode())
        digest.update(np.ascontiguousarray(tensors[key]).tobytes())
    return digest.hexdigest()
