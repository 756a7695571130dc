"""What can be asked of eval.py, and the default of each."""

import dataclasses
import math
from typing import Literal

from cornerjax.config import Compute, Data, Test
from cornerjax.data.records import Source
from cornerjax.data.source import open_source
from cornerjax.errors import InputError

EXTRAS = ("voc", "oracles", "timing")  # options that add numbers to metrics.json, under their own names
MOST = 100_000  # images that are timed or drawn


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What is evaluated and what is made of it; the comments are the help of eval.py."""

    workdir: str = ""  # a folder that cornerjax train or cornerjax weights wrote
    results: str = ""  # instead of a run: a file of boxes in COCO's result format
    checkpoint: Literal["best", "latest"] = "best"  # the one with the highest AP, or the newest
    root: str = ""  # the data set, as train.py's data.root; that of the run if not given
    split: str = ""  # split to evaluate on; the one of the run's evaluations, or val, if not given
    images: str = ""  # folder of its images; that of the run, or looked for in the usual places, if not given
    # turn: images are turned as their EXIF data says, and boxes are those of the turned ones; ignore: both are as
    # stored; as the run, or the pack, has it if not given
    exif: Literal["", "turn", "ignore"] = ""
    annotations: str = ""  # of --results, instead of root and split: a COCO file of true boxes, no image is needed
    out: str = ""  # folder for what is written; <workdir>/eval, or <results without .json>-eval, if not given
    allow_code: bool = False  # import functions that the run's config.json names: only for runs that you trust
    min_score: float = 0.0  # boxes with a lower score are dropped before anything is counted; 0: none is
    voc: bool = False  # PASCAL VOC's AP too
    oracles: bool = False  # the AP with the truth in place of each part of the network's outputs, alone and together
    timing: int = 0  # images on which the phases of finding boxes are timed; 0: none
    pictures: int = 16  # images drawn at most
    report_images: int = 32  # in report.html: three quarters the worst, a quarter the best; 0: no report
    test: Test = dataclasses.field(default_factory=Test)  # those of the run if not given
    compute: Compute = dataclasses.field(default_factory=Compute)  # that of the run if not given

    def check(self) -> None:
        """Raises: InputError: a number cannot be used."""
        if not math.isfinite(self.min_score):
            raise InputError(f"--min-score is {self.min_score}; accepted is a finite number")
        for name in ("timing", "pictures", "report_images"):
            if not 0 <= getattr(self, name) <= MOST:
                option = f"--{name.replace('_', '-')}"
                raise InputError(f"{option} is {getattr(self, name)}; accepted is a whole number from 0 to {MOST}")

    def open_source(self, data: Data, split: str) -> Source:
        """Open the split to evaluate on, of the data set that `data` names.

        Raises: InputError: it cannot be opened, or is not of the kind that the options are for.
        """
        if self.images and data.root.startswith("tfds:"):
            raise InputError(f"--images is of folders; the images of {data.root} lie in its own files")
        source = open_source(dataclasses.replace(data, exif=self.exif or data.exif), split)
        if self.exif == "turn" and not all(record.turned for record in source.records):
            raise InputError(f"--exif is turn, but the boxes of {data.root} are those of the images as they are stored")
        return source

    @property
    def extras(self) -> list[str]:
        """Those of EXTRAS that are asked for."""
        return [name for name in EXTRAS if getattr(self, name)]
