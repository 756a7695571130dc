"""The detectors. A new one is a file here and a line in DETECTORS."""

from cornerjax.detectors.base import Detector
from cornerjax.detectors.cornernet import CornerNet
from cornerjax.detectors.cornernet_saccade import CornerNetSaccade
from cornerjax.detectors.cornernet_squeeze import CornerNetSqueeze
from cornerjax.errors import InputError

DETECTORS: dict[str, Detector] = {
    "cornernet": CornerNet(),
    "cornernet_squeeze": CornerNetSqueeze(),
    "cornernet_saccade": CornerNetSaccade(),
}


def get_detector(name: str) -> Detector:
    """The detector of this name.

    Raises: InputError: there is none.
    """
    if name not in DETECTORS:
        raise InputError(f"no detector {name!r}; there are: {', '.join(DETECTORS)}")
    return DETECTORS[name]
