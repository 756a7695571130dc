"""The configuration: frozen dataclasses, the recipes that fill them, and their form on disk.

A recipe is a file in `configs/` with a function `config() -> Config`. The command line of `train.py` is made
from these same dataclasses, so every field below is an option (`--optim.peak-lr`) and its comment is its help.
"""

import dataclasses
import json
import runpy
from pathlib import Path
from typing import Any, Literal

from cornerjax.errors import InputError
from cornerjax.legacy import Legacy


@dataclasses.dataclass(frozen=True)
class Model:
    """The network; the defaults are the Hourglass-104 of CornerNet."""

    detector: str = "cornernet"  # a name in cornerjax.detectors.DETECTORS
    num_classes: int = 0  # 0: as many as the data set has
    stacks: int = 2  # hourglass modules, one after the other, each with heads of its own
    stem_dim: int = 128  # channels of the first convolution
    stem_kernel: int = 7  # its side
    dims: tuple[int, ...] = (256, 256, 384, 384, 384, 512)  # channels at each level of the hourglass, outermost first
    blocks: tuple[int, ...] = (2, 2, 2, 2, 2, 4)  # residual or fire blocks at each level
    head_dim: int = 256  # channels between the hourglass and the heads
    head_kernel: int = 3  # side of the first convolution of each head
    pool_dim: int = 128  # channels that corner pooling scans
    # what is pooled: corner; full: maxima of whole rows and columns; none: the map itself; or a function of your own,
    # (map, direction) -> map, as package.module:function
    pooling: str = "corner"
    pooling_implementation: str = "auto"  # how corner pooling is computed: a name in cornerjax.ops.IMPLEMENTATIONS
    # of the network's maps; weights, their gradients, statistics and losses stay float32
    dtype: Literal["float32", "bfloat16"] = "float32"
    # what the backward pass computes again instead of keeping it: none; stack: each hourglass, and each corner's heads,
    # as a whole; level: each row of blocks in them by itself, which keeps more and needs less at a time
    remat: Literal["none", "stack", "level"] = "none"
    # the batch is normalised in so many parts, each by its own statistics; the originals have one a GPU; 1: as a whole
    batch_norm_groups: int = 1


@dataclasses.dataclass(frozen=True)
class Data:
    """The data set and what is done to an example before the network sees it."""

    # a folder with a COCO-format set; tfds:NAME, a prepared TFDS set, or tfds:DIR, such a set or what
    # cornerjax.data.pack wrote; shapes:SEED or scenes:SEED, which are generated
    root: str = "shapes:0"
    # split to train on: annotations/instances_<split>.json, or a path to a JSON file; of TFDS sets, as TFDS calls it
    train: str = "train"
    val: str = "val"  # split to evaluate on; often "validation" in TFDS
    images: str = ""  # of folders: where the images are; empty: looked for in the usual places
    batch: int = 8  # images a step, over all devices and hosts
    crop_px: tuple[int, int] = (511, 511)  # height and width of a training example
    random_crop: bool = True  # crop at a random scale and place; otherwise stretch the whole image to crop_px
    # crop side / crop_px, drawn uniformly; Saccade: what images without objects are resized by
    crop_scales: tuple[float, ...] = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3)
    crop_border_px: int = 128  # crop centres keep this distance to the image border, halved until it fits
    flip: bool = True  # mirror half of the examples
    colour_jitter: float = 0.4  # brightness, contrast and saturation change by a factor 1 +- this
    lighting: float = 0.1  # standard deviation of the PCA lighting noise
    max_objects: int = 128  # objects an example has room for; more are counted and left out, with a warning
    crowd: bool = False  # True: crowd boxes count as ordinary boxes, as in the originals
    empty_images: bool = True  # False: leave out images without boxes
    gaussian_iou: float = 0.3  # least overlap with the true box of a box whose corners lie within the radius
    gaussian_radius: Literal["exact", "legacy"] = "exact"  # legacy: the formula of the first repositories
    min_object_px: int = 16  # Saccade: smaller objects, their longer side in the crop, are left out of the loss
    min_overlap: float = 0.5  # Saccade: so are those of which the crop keeps no more than this part
    attention_px: tuple[tuple[int, int], ...] = ((96, 256), (32, 96), (0, 32))  # Saccade: sizes each map looks for
    render: Literal["host", "device"] = "host"  # where pixels are jittered and heat maps drawn
    workers: int = 2  # examples made at the same time
    # an image that cannot be read stops the run, or the next one takes its place, which is counted and logged
    on_bad_image: Literal["error", "skip"] = "error"


@dataclasses.dataclass(frozen=True)
class Loss:
    """Weights of the loss parts; the focal loss has weight 1."""

    pull: float = 0.1  # corners of one object to the same tag
    push: float = 0.1  # tags of different objects apart
    offset: float = 1.0
    attention: float = 1.0  # Saccade: the attention maps' focal loss; the original's is 1 / stacks
    # The originals sum pull and push over the images of one GPU; here they are means over images times this number,
    # so that the batch size does not change them. 1: a plain mean. The papers' values stand in their recipes.
    group: float = 1.0


@dataclasses.dataclass(frozen=True)
class Optim:
    """Adam and its learning rate."""

    peak_lr: float = 2.5e-4
    schedule: Literal["step", "cosine"] = "step"  # step: times decay_factor at each of decay_steps; cosine: to zero
    decay_steps: tuple[int, ...] = ()
    decay_factor: float = 0.1
    warmup_steps: int = 0  # linear rise from a tenth of peak_lr
    clip_norm: float = 0.0  # largest norm of the gradient; 0: not clipped
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    accumulate: int = 1  # parts of a batch that go through the network one after the other, to need less memory
    ema_decay: float = 0.0  # of the running mean of the weights, which then is what is evaluated; 0: none


@dataclasses.dataclass(frozen=True)
class Saccade:
    """Where CornerNet-Saccade looks: first at the whole image, then at the places that seem to hold something."""

    view_px: tuple[int, ...] = (192, 255)  # the first looks: the image's longer side is resized to each of these
    view_score: float = 0.3  # boxes of the first looks below are dropped
    attention: tuple[float, ...] = (0.3,)  # least attention of a place; one number a round of looking closer
    attention_window: int = 3  # a place is the maximum of this window
    zooms: tuple[float, ...] = (1.0, 2.0, 4.0)  # how much closer, for each attention map: large, medium, small objects
    max_view_scale: float = 2.0  # attention of a look at more than this scale is not followed
    max_scale: float = 4.0  # nor is one that would lead to a larger scale
    box_score: float = 0.5  # boxes with a higher score are looked at too
    box_px: tuple[int, ...] = (192, 64, 24)  # resized so that the longer side is this: large, medium, small boxes
    large_px: int = 96  # longer side of a large box: more than this
    small_px: int = 32  # and of a small one: at most this
    apart_px: float = 16.0  # places closer than this, in pixels of the look, are one
    max_crops: int = 30  # looks an image, besides the first ones
    crop_batch: int = 32  # looks that go through the network together, from one or several images


@dataclasses.dataclass(frozen=True)
class Test:
    """From the network's maps to boxes."""

    __test__ = False  # not a class of tests for pytest

    batch: int = 16  # images at a time
    scales: tuple[float, ...] = (1.0,)  # images are resized by each of these factors; the boxes of all are put together
    flip: bool = False  # the mirrored image is looked at as well
    top_k: int = 100  # corners taken from each heat map
    max_pairs: int = 1000  # pairs kept before non-maximum suppression, of each scale and of the mirrored image
    peak_window: int = 3  # a corner is the maximum of this window
    tag_distance: float = 0.5  # largest difference of the tags of a pair
    no_border: bool = False  # no box starts in the first row or column of a map, or ends in the last
    nms: Literal["gaussian", "linear", "hard", "none"] = "gaussian"
    nms_sigma: float = 0.5  # of gaussian
    nms_iou: float = 0.5  # of linear and hard
    nms_floor: float = 0.001  # boxes whose score falls below are dropped
    merge: bool = False  # a box becomes the weighted mean of itself and those it suppresses
    merge_exp: int = 10  # the larger, the less do boxes count in it that are suppressed a little
    max_detections: int = 100  # boxes an image
    saccade: Saccade = Saccade()  # of CornerNet-Saccade only


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole run."""

    model: Model = Model()
    data: Data = Data()
    loss: Loss = Loss()
    optim: Optim = Optim()
    test: Test = Test()
    legacy: Legacy = Legacy()
    seed: int = 0  # of the initial weights, the order of the data and its random draws
    steps: int = 500_000
    log_steps: int = 100
    save_steps: int = 5000  # a checkpoint every so many steps
    save_minutes: float = 0.0  # and when the last one is so old; 0: by steps only
    eval_steps: int = 0  # evaluate every so many steps and at the end; 0: at the end only
    keep: int = 2  # newest checkpoints kept, besides the best one
    deterministic: bool = False  # on GPUs: only operations that give the same bits every time, some of them slower


def load_recipe(path: str | Path) -> Config:
    """Run a recipe file and return its configuration.

    Raises: InputError: there is no such file, or it has no function `config` that returns a Config.
    """
    path = Path(path)
    if not path.is_file():
        there = sorted(Path("configs").glob("*.py"))
        raise InputError(f"no recipe {path}; there are: {', '.join(map(str, there)) or 'none'}")
    try:
        make = runpy.run_path(str(path)).get("config")
    except SyntaxError as e:
        raise InputError(f"recipe {path} is no Python: {e}") from None
    made = make() if callable(make) else None
    if not isinstance(made, Config):
        raise InputError(f"recipe {path} needs a function config() that returns a cornerjax.config.Config")
    return made


# Least values of the numbers that have one; booleans say whether the least value itself is accepted.
_LEAST = {
    **dict.fromkeys(("steps", "log_steps", "save_steps", "keep", "data.batch", "data.max_objects"), (1, True)),
    **dict.fromkeys(("data.workers", "test.batch", "test.top_k", "test.max_pairs", "test.max_detections"), (1, True)),
    **dict.fromkeys(("seed", "eval_steps", "optim.warmup_steps", "optim.clip_norm", "data.crop_border_px"), (0, True)),
    **dict.fromkeys(("save_minutes", "optim.ema_decay"), (0, True)),
    **dict.fromkeys(("model.batch_norm_groups", "optim.accumulate"), (1, True)),
    **dict.fromkeys(("data.colour_jitter", "data.lighting", "loss.pull", "loss.push", "loss.offset"), (0, True)),
    **dict.fromkeys(("test.tag_distance", "test.nms_iou", "test.nms_floor", "model.num_classes"), (0, True)),
    **dict.fromkeys(("loss.group", "optim.peak_lr", "optim.eps", "optim.decay_factor"), (0, False)),
    **dict.fromkeys(("test.nms_sigma", "data.gaussian_iou", "test.saccade.max_scale"), (0, False)),
    **dict.fromkeys(("test.saccade.max_view_scale", "test.saccade.large_px", "test.saccade.small_px"), (0, False)),
    **dict.fromkeys(("test.saccade.view_score", "test.saccade.box_score"), (0, True)),
    **dict.fromkeys(("test.merge_exp", "test.saccade.max_crops", "test.saccade.crop_batch"), (1, True)),
    **dict.fromkeys(("loss.attention", "data.min_object_px", "data.min_overlap", "test.saccade.apart_px"), (0, True)),
}
_LISTS = (
    "data.crop_scales",
    "test.scales",
    "test.saccade.view_px",
    "test.saccade.attention",
    "test.saccade.zooms",
    "test.saccade.box_px",
)


def check(config: Config) -> None:
    """Refuse numbers that no run can use.

    Raises: InputError: naming the field, its value and what is accepted.
    """
    values = flat(dataclasses.asdict(config))
    for name, (least, itself) in _LEAST.items():
        if not (values[name] > least or (itself and values[name] == least)):
            accepted = f"{least} or more" if itself else f"more than {least}"
            raise InputError(f"{name} is {values[name]}; accepted is {accepted}")
    if config.data.gaussian_iou >= 1:
        raise InputError(f"data.gaussian_iou is {config.data.gaussian_iou}; accepted is more than 0 and less than 1")
    if config.optim.ema_decay >= 1:
        raise InputError(f"optim.ema_decay is {config.optim.ema_decay}; accepted is 0 or more and less than 1")
    for name in _LISTS:
        if not values[name] or not min(values[name]) > 0:
            raise InputError(f"{name} is {values[name]}; accepted are one or more numbers above 0")
    for name in ("test.peak_window", "test.saccade.attention_window"):
        if values[name] < 1 or values[name] % 2 == 0:
            raise InputError(f"{name} is {values[name]}; accepted are odd numbers from 1 on")


def to_json(config: Config) -> str:
    """The text of a `config.json`."""
    return json.dumps(dataclasses.asdict(config), indent=2)


def from_json(path: str | Path) -> Config:
    """Read a `config.json` back into the dataclasses that wrote it.

    Raises: InputError: the file is not there, is no JSON, or has a field that Config lacks.
    """
    path = Path(path)
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise InputError(f"cannot read {path}: {e.strerror}; expected the config.json that training writes") from None
    except ValueError as e:
        raise InputError(f"{path} is not JSON: {e}") from None
    if not isinstance(fields, dict):
        raise InputError(f"{path} is no JSON object; expected the config.json that training writes")
    return _fill(Config, fields, path)


def _fill(cls: type, fields: dict[str, Any], path: Path) -> Any:
    types: dict[str, Any] = {f.name: f.type for f in dataclasses.fields(cls)}
    if unknown := sorted(set(fields) - set(types)):
        raise InputError(f"{path}: unknown {cls.__name__} field {unknown[0]!r}; known are {', '.join(types)}")
    made = {
        name: _fill(types[name], value, path) if dataclasses.is_dataclass(types[name]) else _as_tuple(value)
        for name, value in fields.items()
    }
    return cls(**made)


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


def differences(a: Config, b: Config) -> list[str]:
    """The fields in which two configurations differ, as `name: value in a, value in b`."""
    first, second = flat(dataclasses.asdict(a)), flat(dataclasses.asdict(b))
    return [f"{name}: {first[name]!r}, {second[name]!r}" for name in first if first[name] != second[name]]


def flat(fields: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested fields by dotted names."""
    found: dict[str, Any] = {}
    for name, value in fields.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found
