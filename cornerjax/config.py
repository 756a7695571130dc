"""The options that all detectors share: frozen dataclasses, the recipes that fill them, and their form on disk.

A recipe is a file in `configs/` with a function `config() -> Config`. The command line of training is made from the
dataclasses of the recipe, so every field below is an option (`--optim.peak-lr`) and its comment is its help. What only
one detector or backbone knows is a subclass or a dataclass in its own file.
"""

import dataclasses
import json
import runpy
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from cornerjax import files, validation
from cornerjax.errors import InputError
from cornerjax.legacy import Legacy
from cornerjax.validation import Count, Decay, Name, Natural, NotNegative, Part, Pixels, Positive, Rows, Scale

Scales = Annotated[tuple[Scale, ...], validation.some(100)]

Nms = Literal["gaussian", "linear", "hard", "none"]


@dataclasses.dataclass(frozen=True)
class Model:
    """What the network is; runs can exchange weights where these are the same."""

    detector: str = ""  # a name in cornerjax.DETECTORS
    num_classes: Annotated[int, validation.between(0, 10**5)] = 0  # 0: as many as the data set has


@dataclasses.dataclass(frozen=True)
class Compute:
    """How the network is computed, which may change from one machine to the next."""

    # of the network's maps; weights, their gradients, statistics and losses stay float32
    dtype: Literal["float32", "bfloat16"] = "float32"
    # of float32 convolutions; default: as fast as the device has it (TF32 on GPUs, one bfloat16 pass on TPUs, on CPUs
    # Winograd's products, which round like float32); highest: true float32, summed up as XLA does
    precision: Literal["default", "highest"] = "default"
    # what the backward pass computes again instead of keeping it: none; stack: each stack of the network, and its
    # heads, as a whole; level: each row of blocks by itself, which keeps more and needs less memory at a time
    remat: Literal["none", "stack", "level"] = "none"
    pooling_implementation: Name = "auto"  # how corner pooling is computed: a name in cornerjax.ops.IMPLEMENTATIONS
    deterministic: bool = False  # on GPUs: only operations that give the same bits every time, some of them slower


@dataclasses.dataclass(frozen=True)
class Data:
    """The data set and what is done to an example before the network sees it."""

    needs: ClassVar[tuple[str, ...]] = ()  # what a detector needs to know of objects besides boxes and classes
    # a folder with a COCO-format set; tfds:NAME, a prepared TFDS set, or tfds:DIR, such a set or what `cornerjax pack`
    # wrote; shapes:SEED or scenes:SEED, which are generated
    root: str = "shapes:0"
    # split to train on: annotations/instances_<split>.json, or a path to a JSON file; of TFDS sets, as TFDS calls it
    train: str = "train"
    val: str = "val"  # split to evaluate on; often "validation" in TFDS
    images: str = ""  # of folders: where the images are; empty: looked for in the usual places
    # turn: images of folders are turned as their EXIF data says, and boxes are those of the turned ones; ignore: both
    # are as stored
    exif: Literal["turn", "ignore"] = "turn"
    batch: Rows = 8  # images a step, over all devices and hosts
    crop_px: tuple[Pixels, Pixels] = (511, 511)  # height and width of a training example
    random_crop: bool = True  # crop at a random scale and place; otherwise stretch the whole image to crop_px
    # side of the crop, as a multiple of crop_px: one of these is drawn for each example
    crop_scales: Scales = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3)
    crop_border_px: Natural = 128  # crop centres keep this distance to the image border, halved until it fits
    flip: bool = True  # mirror half of the examples
    colour_jitter: NotNegative = 0.4  # brightness, contrast and saturation change by a factor 1 +- this
    lighting: NotNegative = 0.1  # standard deviation of the PCA lighting noise
    max_objects: Rows = 128  # objects an example has room for; more are counted and left out, with a warning
    crowd: bool = False  # True: crowd boxes count as ordinary boxes, as in the originals
    empty_images: bool = True  # False: leave out images without boxes
    # the radius of a gaussian is where a box moved so far may overlap the true one this little
    gaussian_iou: Part = 0.3
    gaussian_radius: Literal["exact", "legacy"] = "exact"  # legacy: the formula of the first repositories
    render: Literal["host", "device"] = "host"  # where pixels are jittered and heat maps drawn
    # that make examples, at the same time; 0: one a core but one, at most 32
    workers: Annotated[int, validation.between(0, 1024)] = 0
    # process: each worker is a process of its own; thread: of the training process, which starts at once but has one
    # interpreter for all; the examples are the same
    worker_kind: Literal["process", "thread"] = "process"
    # an image that cannot be read stops the run, or the next one takes its place, which is logged; 20 of them in a row
    # stop the run all the same
    on_bad_image: Literal["error", "skip"] = "error"

    def for_evaluation(self) -> "Data":
        """The same set as evaluations see it, of which every image counts."""
        return dataclasses.replace(self, empty_images=True)


@dataclasses.dataclass(frozen=True)
class Loss:
    """Weights of the parts of the loss; the focal loss of the heat maps has weight 1."""

    offset: NotNegative = 1.0  # weight of the offsets, from cells to the exact places of keypoints


@dataclasses.dataclass(frozen=True)
class Optim:
    """Adam, its learning rate, and how a batch is divided."""

    peak_lr: Positive = 2.5e-4  # highest learning rate
    schedule: Literal["step", "cosine"] = "step"  # step: times decay_factor at each of decay_steps; cosine: to zero
    decay_steps: tuple[Count, ...] = ()  # of schedule step: after which the learning rate falls
    decay_factor: Positive = 0.1  # of schedule step: what the learning rate is multiplied by
    warmup_steps: Natural = 0  # linear rise from a tenth of peak_lr
    clip_norm: NotNegative = 0.0  # largest norm of the gradient; 0: not clipped
    # decay of Adam's running mean of the gradients
    b1: Decay = 0.9
    # decay of Adam's running mean of their squares
    b2: Decay = 0.999
    # added to the root of the mean square that Adam divides by
    eps: Annotated[float, validation.more_than(0), validation.at_most(1)] = 1e-8
    accumulate: Rows = 1  # parts of a batch that go through the network one after the other, to need less memory
    # the batch is normalised in so many parts, each by its own statistics; the originals have one a GPU; 1: as a whole
    batch_norm_groups: Rows = 1
    # decay of a running mean of the weights, which then is what is evaluated; 0: none
    ema_decay: Decay = 0.0


@dataclasses.dataclass(frozen=True)
class Test:
    """From the network's maps to boxes."""

    __test__ = False  # not a class of tests for pytest

    batch: Rows = 16  # images at a time
    # images go through the network resized by each of these factors; the boxes of all are suppressed together
    scales: Scales = (1.0,)
    flip: bool = False  # the mirrored image goes through the network as well
    top_k: Annotated[int, validation.between(1, 10**4)] = 100  # keypoints taken from each heat map
    peak_window: validation.Odd = 3  # a keypoint is the maximum of this many cells around it, in each direction
    nms: Nms = "gaussian"
    nms_sigma: Positive = 0.5  # of nms gaussian: scores are multiplied by exp(-IoU^2 / sigma)
    nms_iou: NotNegative = 0.5  # of nms linear and hard: boxes that overlap less keep their score
    nms_floor: NotNegative = 0.001  # boxes whose score NMS lowers below this are dropped
    merge: bool = False  # a box becomes the weighted mean of itself and those it suppresses
    # of merge: the larger, the less do boxes count that are suppressed a little only
    merge_exp: Annotated[int, validation.between(1, 100)] = 10
    max_detections: Rows = 100  # boxes an image


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole run; its parts are those of a detector."""

    model: Model = Model()
    data: Data = Data()
    loss: Loss = Loss()
    optim: Optim = Optim()
    test: Test = Test()
    compute: Compute = Compute()
    legacy: Legacy = Legacy()
    # of the initial weights, the order of the data and its random draws
    seed: Annotated[int, validation.between(0, 2**63 - 1)] = 0
    steps: Count = 500_000  # updates, each on one batch
    log_steps: Count = 100  # losses are printed and written every so many steps
    save_steps: Count = 5000  # a checkpoint every so many steps
    save_minutes: NotNegative = 0.0  # a checkpoint also when the last one is so many minutes old; 0: by steps only
    eval_steps: Natural = 0  # evaluate every so many steps and at the end; 0: at the end only
    keep: Count = 2  # newest checkpoints kept, besides the best one


def load_recipe(path: str | Path) -> Config:
    """Run a recipe file and return its configuration.

    Raises: InputError: there is no such file, it does not run, it has no function `config` that returns a Config, or an
        option in it cannot be used.
    """
    path = Path(path)
    if not files.is_file(path):
        there = sorted(Path("configs").glob("*.py"))
        raise InputError(f"no recipe {path}; there are: {', '.join(map(str, there)) or 'none'}")
    try:
        make = runpy.run_path(str(path)).get("config")
        made = make() if callable(make) else None
    except OSError as e:
        raise InputError(f"recipe {path} cannot be read: {e.strerror or e}") from None
    except SyntaxError as e:
        raise InputError(f"recipe {path} is no Python: {e}") from None
    except (Exception, SystemExit) as e:  # whatever the user's own code raises, as TypeError for an unknown option
        raise InputError(f"recipe {path} cannot be run: {type(e).__name__}: {e}") from None
    if not isinstance(made, Config):
        raise InputError(f"recipe {path} needs a function config() that returns a cornerjax.config.Config")
    try:
        check(made)
    except InputError as e:
        raise InputError(f"recipe {path}: {e}") from None
    return made


def check(config: Config) -> None:
    """Refuse values that no run can use.

    Raises: InputError: naming the option, its value and what is accepted.
    """
    validation.validated(config, Config, "")


def to_json(config: Config) -> str:
    """The text of a `config.json`."""
    return json.dumps(validation.as_dict(config), indent=2)


def read_json(path: str | Path) -> dict[str, Any]:
    """The fields of a `config.json`.

    Raises: InputError: the file is not there or is no JSON object, or an older version wrote it.
    """
    path = Path(path)
    fields = files.read_json(path, "the config.json that training writes")
    if not isinstance(fields, dict):
        raise InputError(f"{path} is no JSON object; expected the config.json that training writes")
    if "model" in fields and "compute" not in fields:
        raise InputError(
            f"{path} was written by an older version of cornerjax, whose runs this one cannot open; "
            "train again, or convert the weights again"
        )
    if isinstance(fields.get("data"), dict):  # runs from before there were these options
        fields["data"] = {"worker_kind": Data.worker_kind, "exif": Data.exif} | fields["data"]
    return fields


def differences(a: Config, b: Config) -> list[str]:
    """The fields in which two configurations differ, as `name: value in a, value in b`."""
    first, second = validation.flat(a), validation.flat(b)
    names = [*first, *(name for name in second if name not in first)]
    return [
        f"{name}: {first.get(name)!r}, {second.get(name)!r}" for name in names if first.get(name) != second.get(name)
    ]
