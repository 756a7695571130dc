"""The program `cornerjax`: one command a file, which reads its options and calls the package.

What takes long to import is imported after the options have been read: a mistake in them is told at once.
"""

import importlib
import sys

from cornerjax import interrupts
from cornerjax.errors import InputError

COMMANDS = {
    "train": "train a detector, or resume a run",
    "eval": "evaluate a run, or boxes that any program has found",
    "predict": "find objects in photos, videos and cameras",
    "check": "check a data set before training on it",
    "weights": "convert a released PyTorch checkpoint",
    "pack": "pack a COCO-format folder into a few large files",
    "shapes": "write a generated data set",
    "plan": "compile a recipe for TPUs or GPUs that are not there, and print what it needs on them",
    "replay": "find the image that stopped a run",
}


def main(*given: str) -> None:
    """Run a command: `cornerjax NAME ...`.

    Args:
        given: words to put before those of the command line.
    """
    interrupts.at_once()
    from cornerjax.commands.cli import run

    run(lambda: _dispatch(*given, *sys.argv[1:]))


def _dispatch(name: str = "--help", *args: str) -> None:
    if name in ("-h", "--help"):
        lines = [f"  {command:8s}  {what}" for command, what in COMMANDS.items()]
        print("\n".join(["usage: cornerjax COMMAND ...; cornerjax COMMAND --help lists its options", "", *lines]))
        return
    if name not in COMMANDS:
        raise InputError(f"no command {name!r}; there are: {', '.join(COMMANDS)}")
    importlib.import_module(f"cornerjax.commands.{name}").main(args)
