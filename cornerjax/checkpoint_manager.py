"""What of orbax's manager of checkpoints has to differ here."""

import json
import logging
from pathlib import Path

import orbax.checkpoint as ocp

from cornerjax.checksums import DamagedError, add_checksums, compare_checksums
from cornerjax.files import write_atomically

METRICS = "metrics"  # orbax's name for the folder with the AP
_LOG = logging.getLogger("cornerjax")


class Manager(ocp.CheckpointManager):
    """As orbax's own, but that damage and signals do not stop it."""

    def reached_preemption(self, step: int) -> bool:
        """Never: StopSignals asks this, and orbax's threads, asking for steps gone by, would put it out of step."""
        return False

    def metrics(self, step: int) -> dict[str, float] | None:
        """Of a checkpoint on the disk; None where none are readable, so that they keep no run from starting."""
        try:
            compare_checksums(Path(self.directory) / str(step), [METRICS], needed=False)
            return {"AP": float(super().metrics(step)["AP"])}
        except DamagedError as e:
            _LOG.warning(f"{self.directory / str(step)}: its AP is not known, {e}")
            return None
        except (OSError, ValueError, KeyError, TypeError):
            return None


def ap_of(metrics: dict[str, float]) -> float:
    """What the best checkpoint has most of."""
    return metrics["AP"]


def write_ap(folder: Path, ap: float) -> None:
    """Give the complete checkpoint in a folder an AP, in the place and form in which orbax writes it.

    Raises: OSError.
    """
    (folder / METRICS).mkdir(exist_ok=True)
    write_atomically(folder / METRICS / METRICS, json.dumps({"AP": ap}))
    add_checksums(folder, [METRICS])
