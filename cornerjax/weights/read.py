"""A PyTorch checkpoint as a plain dict of NumPy arrays. The only module that imports PyTorch, to read files."""

import hashlib
import os
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cornerjax.config import InputError

Source = str | os.PathLike[str] | Mapping[str, np.ndarray]


class Tensors(NamedTuple):
    """What a source holds."""

    values: dict[str, np.ndarray]  # float32, in PyTorch's layout, by the names of the source
    name: str  # of the file, or "dict"
    sha256: str  # of the file's bytes; of a dict's names and values
    converted: dict[str, str]  # the types that were not float32 before, by name


def read_tensors(source: Source) -> Tensors:
    """Read a checkpoint.

    A file is read with `torch.load(weights_only=True)`: no code that it may hold runs.

    Args:
        source: a .pkl or .pth file with a dict of tensors, at its top or under "state_dict"; or such a dict of NumPy
            arrays. The counters `num_batches_tracked` are left out.
    Raises: InputError: the file is missing, damaged, holds code or anything but tensors, or PyTorch is not installed;
        a tensor is not finite.
    """
    if isinstance(source, Mapping):
        name, given, digest = "dict", dict(source), _hash_of_dict(source)
        types = {key: str(value.dtype) for key, value in given.items()}
    else:
        path = Path(source)
        name, (given, types) = str(path), _load(path)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    values, converted = {}, {}
    for key, value in given.items():
        if key.endswith("num_batches_tracked"):
            continue
        if value.dtype.kind != "f":
            raise InputError(f"{name}: {key} has the type {value.dtype}; expected floating-point numbers")
        if types[key] != "float32":
            converted[key] = types[key]
        values[key] = np.ascontiguousarray(value, np.float32)
        if not np.isfinite(values[key]).all():
            raise InputError(f"{name}: {key} has values that are infinite or no numbers; expected finite ones")
    return Tensors(values, name, digest, converted)


def _load(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors of a file as arrays, and their types."""
    if not path.is_file():
        raise InputError(f"{path} is no file; expected a checkpoint of PyTorch, .pkl or .pth")
    try:
        import torch
    except ImportError:
        raise InputError(f"reading {path} needs PyTorch; install it with: pip install torch") from None
    try:
        with warnings.catch_warnings(action="ignore"):  # old pickle protocols are read all the same
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise InputError(
            f"{path} is refused: it is no checkpoint of PyTorch, or holds more than tensors, such as code to run; "
            "expected a dict of tensors"
        ) from None
    except Exception:  # torch lets through whatever damaged bytes happen to raise
        raise InputError(
            f"{path} cannot be read as a checkpoint of PyTorch: it is damaged or cut short; expected an intact file"
        ) from None
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"{path} holds a {type(content).__name__}; expected a dict of tensors")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise InputError(f"{path}: {key!r} is a {type(value).__name__}; expected tensors only")
    types = {key: str(value.dtype).removeprefix("torch.") for key, value in content.items()}
    # NumPy has no bfloat16, which float32 holds.
    arrays = {key: (v.float() if types[key] == "bfloat16" else v).numpy() for key, v in content.items()}
    return arrays, types


def _hash_of_dict(tensors: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(f"{key} {tensors[key].dtype} {tensors[key].shape}".encode())
        digest.update(np.ascontiguousarray(tensors[key]).tobytes())
    return digest.hexdigest()
