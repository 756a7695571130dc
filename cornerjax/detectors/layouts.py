"""The names that released PyTorch checkpoints have for our variables."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple


class TorchLayout(NamedTuple):
    """How one kind of released PyTorch checkpoint names things.

    Attributes:
        name: of the layout.
        rules: (pattern, replacement) from our dotted paths to the checkpoint's keys, applied one after the other.
        preset: what from_torch calls this layout's configuration.
        changes: what the preset changes besides the switches of `legacy`, by option; the same in all its layouts.
        model: in what the network of such a checkpoint differs from that of the detector's defaults, by option.
        unused: patterns of whole keys that such a checkpoint has and the network does not need.
        only: a pattern that those of our paths begin with that such a checkpoint has; empty: it has all.
    """

    name: str
    rules: tuple[tuple[str, str], ...]
    preset: str = "released"
    changes: Mapping[str, Any] = {}
    model: Mapping[str, Any] = {}
    unused: tuple[str, ...] = ()
    only: str = ""

    def key_of(self, path: str) -> str:
        """The checkpoint's key, without "module.", of one of our variables."""
        for pattern, replacement in self.rules:
            path = re.sub(pattern, replacement, path)
        return path
