"""The detectors. A new one is a file here and a line in DETECTORS."""

import dataclasses
from pathlib import Path

from cornerjax import config as options
from cornerjax import validation
from cornerjax.config import Config
from cornerjax.detectors.base import Detector, check_type
from cornerjax.detectors.centernet_points.detector import CenterNetPoints
from cornerjax.detectors.centernet_triplets import CenterNetTriplets
from cornerjax.detectors.cornernet import CornerNet
from cornerjax.detectors.cornernet_saccade.detector import CornerNetSaccade
from cornerjax.detectors.cornernet_squeeze import CornerNetSqueeze
from cornerjax.detectors.extremenet import ExtremeNet
from cornerjax.errors import InputError
from cornerjax.legacy import switched
from cornerjax.text import short

DETECTORS: dict[str, Detector] = {
    "cornernet": CornerNet(),
    "cornernet_squeeze": CornerNetSqueeze(),
    "cornernet_saccade": CornerNetSaccade(),
    "extremenet": ExtremeNet(),
    "centernet_triplets": CenterNetTriplets(),
    "centernet_points": CenterNetPoints(),
}


def get_detector(name: str) -> Detector:
    """The detector of this name.

    Raises: InputError: there is none.
    """
    if name not in DETECTORS:
        raise InputError(f"no detector {short(name, 100)}; there are: {', '.join(DETECTORS)}")
    return DETECTORS[name]


def check(config: Config) -> Detector:
    """Refuse options that no run can use; the detector that they are for.

    What depends on the number of classes, on the machine or on the crop is left to the detector's own `check`.

    Raises: InputError: naming the option, its value and what is accepted.
    """
    detector = get_detector(config.model.detector)
    check_type(config, detector)
    options.check(config)
    return detector


def read_config(path: str | Path) -> Config:
    """Read a `config.json` back into the dataclasses that wrote it.

    Raises: InputError: the file is not there, is no JSON, an older version wrote it, or an option cannot be used.
    """
    fields = options.read_json(path)
    model = fields.get("model")
    try:
        detector = get_detector(str(model.get("detector")) if isinstance(model, dict) else "")
        return validation.filled(type(detector.defaults), fields)
    except InputError as e:
        raise InputError(f"{path}: {e}") from None


def presets(detector: Detector) -> list[str]:
    """The names that apply_preset takes."""
    return list(dict.fromkeys([*(layout.preset for layout in detector.torch_layouts), "clean"]))


def apply_preset(config: Config, name: str) -> Config:
    """The configuration with all switches of `legacy` and `data.crowd` set.

    Args:
        name: "clean": all off; or the preset of one of the detector's torch_layouts, "released" in most cases: all on,
            in true float32, and what the layout changes.
    Raises: InputError: there is no such preset.
    """
    detector = get_detector(config.model.detector)
    if name not in presets(detector):
        raise InputError(f"no preset {name!r}; there are: {', '.join(presets(detector))}")
    released = name != "clean"
    changed = dataclasses.replace(
        config,
        legacy=switched(config.legacy, on=released),
        data=dataclasses.replace(config.data, crowd=released),
        compute=dataclasses.replace(config.compute, precision="highest") if released else config.compute,
    )
    layouts = [layout for layout in detector.torch_layouts if layout.preset == name]
    return validation.replaced(changed, layouts[0].changes) if layouts else changed
