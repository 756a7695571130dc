"""From a PyTorch checkpoint and a BGR image to final boxes: what the originals find, found here."""

import functools
import json
import runpy
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cornerjax
from cornerjax.commands.weights import main
from cornerjax.inference.placing import resized
from cornerjax.inference.whole_image import WholeImage, combine_and_select, decode
from cornerjax.ops.pixels import normalise
from cornerjax.weights.convert import read

torch = pytest.importorskip("torch")

GOLDEN = Path(__file__).parents[1] / "golden"
tweaked = runpy.run_path(str(GOLDEN / "tweak.py"))["tweaked"]
SHARE_THAT_MAY_DIFFER = 0.02  # where rounding decides which candidate is the K-th, or which of two equals comes first
FEW_CROPS: dict[str, Any] = {"crop_batch": 4}  # of one image there are few crops, and a batch is filled up
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "cornernet_squeeze": ("cornernet_squeeze", "CornerNet_Squeeze", {}),
    "cornernet_eccv18": ("cornernet", "CornerNet_ECCV18", {}),
    "cornernet": ("cornernet", "CornerNet", {}),
    "cornernet_multi_scale": (
        "cornernet", "CornerNet", {"scales": (0.5, 0.75, 1.0, 1.25, 1.5), "merge": True, "merge_exp": 10}
    ),
    "cornernet_saccade": ("cornernet_saccade", "CornerNet_Saccade", {"saccade": FEW_CROPS}),
    "cornernet_saccade_two_iter": (
        "cornernet_saccade", "CornerNet_Saccade", {"saccade": FEW_CROPS | {"attention": (0.3, 0.3), "max_crops": 14}}
    ),
    "centernet_triplet": ("centernet_triplets", "CenterNet_104", {}),
    "centernet_triplet_52": ("centernet_triplets", "CenterNet_52", {}),
    "centernet_triplet_multi_scale": (
        "centernet_triplets", "CenterNet_104", {"scales": (0.6, 1.0, 1.2, 1.5, 1.8), "merge": True, "merge_exp": 10}
    ),
}  # fmt: skip
EXTREMES: dict[str, dict[str, Any]] = {
    "extremenet": {},
    "extremenet_multi_scale": {"scales": (0.5, 0.75, 1.0, 1.25, 1.5), "suppress_ghosts": False},
}
POINTS: dict[str, tuple[str, dict[str, dict[str, Any]]]] = {  # recording: backbone, modes with their test options
    "centernet_z_res_18": (
        "res_18",
        {
            "single": {},
            "flip": {"flip": True},
            "multi": {"flip": True, "scales": (0.75, 1.0, 1.25)},
            "fixres": {"fixed_px": (256, 256)},
        },
    ),
    "centernet_z_res_18_more": (
        "res_18",
        {
            "nms": {"nms": "gaussian"},
            "nms_flip": {"nms": "gaussian", "flip": True},
            "fixres_1.25": {"fixed_px": (256, 256), "scales": (1.25,)},
            "fixres_0.75": {"fixed_px": (192, 256), "scales": (0.75,)},
            "fixres_multi": {"fixed_px": (224, 224), "scales": (0.75, 1.25), "flip": True},
        },
    ),
    "centernet_z_resdcn_18": (
        "resdcn_18", {"single": {}, "flip": {"flip": True}, "nms": {"nms": "gaussian"}}
    ),
    "centernet_z_dla_34": (
        "dla_34", {"single": {}, "flip": {"flip": True}, "fixres": {"fixed_px": (256, 256)}}
    ),
    "centernet_z_dla_34_multi": (
        "dla_34",
        {
            "multi5": {"flip": True, "scales": (0.5, 0.75, 1.0, 1.25, 1.5)},
            "nms_flip": {"nms": "gaussian", "flip": True},
        },
    ),
    "centernet_z_hourglass": (
        "hourglass", {"single": {}, "flip": {"flip": True}, "fixres": {"fixed_px": (256, 256)}}
    ),
}  # fmt: skip
THROUGH_THE_DISK = ("cornernet_squeeze", "cornernet_eccv18")  # one for each layout of checkpoints


# What is said in these words there: "final hm bias (hm.*.1.bias of hourglass, hm.2.bias otherwise): entries [0, 5, 17]
# += 3.0 ; final wh weight *= 3 and final wh bias += 12"; * stands for what only hourglasses have.
POINTS_TWEAK = (
    "every hm.*1.bias and hm.2.bias: entries [0, 5, 17] += 3.0 ; every wh.*1.weight and wh.2.weight *= 3 ; "
    "every wh.*1.bias and wh.2.bias += 12"
)


@functools.lru_cache(maxsize=1)
def released(manifest: str, tweak: str) -> dict[str, np.ndarray]:
    """As the authors released theirs: all names behind "module."."""
    draw = runpy.run_path(str(GOLDEN / "golden_weights.py"))["weight"]
    shapes = json.loads((GOLDEN / "manifest" / f"{manifest}.json").read_text())
    weights = {key: draw(key, shape) for key, shape in shapes.items() if not key.endswith("num_batches_tracked")}
    return {f"module.{key}": value for key, value in tweaked(weights, tweak).items()}


def converted(detector: str, weights: dict[str, np.ndarray], folder: Path) -> Path:
    """The work directory that the command makes of a file."""
    source, out = folder / "checkpoint.pkl", folder / "converted"
    torch.save({key: torch.from_numpy(value) for key, value in weights.items()}, source)
    main(["--detector", detector, "--source", str(source), "--out", str(out)])
    source.unlink()  # up to 800 MB
    return out


def unmatched(found: cornerjax.Detections, top: np.ndarray) -> tuple[list, list]:
    """Recorded boxes that were not found within 0.5 px and 2e-3 in score, each found box once; and boxes besides."""
    left, missing = list(range(len(found))), []
    for *box, score, label in top[np.argsort(-top[:, 4], kind="stable")].tolist():
        off = {i: np.abs(found.boxes[i] - box).max() for i in left if found.classes[i] + 1 == label}
        near = {i: px for i, px in off.items() if px < 0.5 and abs(found.scores[i] - score) < 2e-3}
        if near:
            left.remove(min(near, key=near.__getitem__))
        else:
            missing.append((box, score, label))
    return missing, [(found.boxes[i], found.scores[i], found.classes[i]) for i in left]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_released_checkpoint_finds_the_boxes_of_the_original(case, golden, tmp_path, capsys):
    detector, manifest, test = CASES[case]
    recorded = golden(f"e2e/{case}.npz")
    weights = released(manifest, str(recorded["tweak"]))
    if case in THROUGH_THE_DISK:
        predictor = cornerjax.load(converted(detector, weights, tmp_path), test=test)
        assert "all equal when read back" in capsys.readouterr().out
    else:
        predictor = cornerjax.from_torch(detector, weights, test=test)
    found = predictor(recorded["image"][..., ::-1])
    top = recorded["top"]
    missing, besides = unmatched(found, top)
    assert len(found) == len(top)
    assert len(missing) <= SHARE_THAT_MAY_DIFFER * len(top), missing
    assert len(besides) <= SHARE_THAT_MAY_DIFFER * len(top), besides


def network_in_float64(network, images):
    """Float32 maps of images and mirrored ones by a network, given as (apply, params, model_state), in float64."""
    apply, *weights = network
    inputs = jnp.concatenate([images, images[:, :, ::-1]])
    given = jax.tree.map(np.float64, (*weights, normalise(inputs.astype(jnp.float32) / 255)))
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        outputs, _ = jax.jit(partial(apply, train=False))(*given)
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), jax.device_get(outputs))


@pytest.mark.slow
@pytest.mark.parametrize("case", EXTREMES)
def test_the_released_extremenet_finds_the_boxes_and_points_of_the_original(case, golden):
    """Its best points all have the score 1. Which of them are taken is decided by a heap through which the whole map
    goes: float32 maps of another machine have others, those of a float64 network are the same everywhere. The boxes
    of float32 are compared at one scale."""
    recorded = golden(f"e2e/{case}.npz")
    checkpoint = read("extremenet", released("ExtremeNet", str(recorded["tweak"])), test=EXTREMES[case])
    network, procedure = checkpoint.network(), checkpoint.predictor().procedure
    detector, config = checkpoint.detector, checkpoint.config
    assert isinstance(procedure, WholeImage)
    picture, candidates, placements = recorded["image"], [], []
    for scale, size in zip(config.test.scales, procedure.bucket(*picture.shape[:2]), strict=True):
        placed = procedure.place([resized(picture, scale)], [picture.shape[:2]], size, 1, scale=scale)
        images, borders, ratios, sizes = map(jnp.asarray, placed)
        maps = network_in_float64(network, images)
        candidates.append(jax.jit(partial(decode, detector, config))(maps, images, borders, ratios, sizes))
        placements.append((borders, ratios, sizes))
    found = combine_and_select(detector, config, candidates, placements)
    points = np.asarray(found.extra["extreme_points"][0]).reshape(-1, 8)
    ours = np.column_stack([found.boxes[0], found.scores[0], points, found.classes[0]])[found.scores[0] >= 0]
    assert len(ours) == len(recorded["top_from_f64_net"])
    off = np.abs(ours[:, None] - recorded["top_from_f64_net"][:, :14]).max(-1)
    np.testing.assert_allclose([off.min(0).max(), off.min(1).max()], 0, atol=2e-3)
    if case == "extremenet":
        found = checkpoint.predictor()(picture[..., ::-1])
        missing, besides = unmatched(found, recorded["top"][:, [0, 1, 2, 3, 4, 14]])
        assert max(len(missing), len(besides)) <= SHARE_THAT_MAY_DIFFER * len(recorded["top"]), (missing, besides)


@pytest.mark.slow
@pytest.mark.parametrize("case", POINTS)
def test_released_points_find_the_boxes_of_the_original(case, golden):
    """Their recordings have several test procedures each."""
    backbone, modes = POINTS[case]
    recorded = golden(f"e2e/{case}.npz")
    weights = released(f"CenterNetZ_{backbone}", POINTS_TWEAK)
    for mode, test in modes.items():
        found = cornerjax.from_torch("centernet_points", weights, test=test)(recorded["image"][..., ::-1])
        top = recorded[f"{mode}_top"]
        missing, besides = unmatched(found, top)
        assert len(found) == len(top), mode
        assert len(missing) <= SHARE_THAT_MAY_DIFFER * len(top), (mode, missing)
        assert len(besides) <= SHARE_THAT_MAY_DIFFER * len(top), (mode, besides)


def test_the_recordings_words_are_understood():
    weights = {"a.1.bias": np.zeros(3), "b.1.bias": np.ones(2), "c.weight": np.ones(2)}
    tweaked(weights, "every a.*.bias and b.*.bias: entries [0, 1] += 3.0 ; every c.* *= 0.5")
    assert [value.tolist() for value in weights.values()] == [[3, 3, 0], [4, 4], [0.5, 0.5]]
