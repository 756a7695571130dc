"""ExtremeNet against recordings of the original, and what its rules do by themselves."""

import ast
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recorded import (
    GOLDEN,
    NOISE,
    RECORDINGS,
    boxes_of,
    by_torch_name,
    compare_maps,
    compare_training_step,
    image,
    keypoint_targets,
    manifest,
    nhwc,
    opened,
    published,
    torch_names,
    weights,
)

from cornerjax.detectors import apply_preset, get_detector
from cornerjax.detectors.base import make_network, variable_shapes
from cornerjax.detectors.extremenet import ExtremeConfig, ExtremeNet
from cornerjax.detectors.extremes import find_extremes, suppress_ghosts
from cornerjax.detectors.rows import Candidates
from cornerjax.detectors.selection import select
from cornerjax.errors import InputError
from cornerjax.nn.functional import by_path
from cornerjax.validation import replaced

NAME = "extremenet"
EXTREMENET = ExtremeNet()
CONFIG = replaced(ExtremeConfig(), {"model.num_classes": 80})
POINTS = ("t", "l", "b", "r")


def inside(network, images, *, train):
    """The recorded maps inside the network, by the original's names."""
    first, levels = network.backbone(images, train=train)[0]
    return {"kps.0": levels[-1], "cnvs.0": first}


@pytest.mark.slow
def test_the_published_network_gives_the_original_maps_and_boxes(golden):
    recorded, boxes = golden("models/ExtremeNet_eval.npz"), golden("decode/ExtremeNet_test_dets.npz")
    outputs, within, found = opened(NAME, inside)(*weights(NAME), image(recorded))
    compare_maps(by_torch_name(NAME, outputs) | within, recorded, NOISE[f"{RECORDINGS[NAME][0]}_eval"])
    extremes = np.asarray(found.extra["extreme_points"])[0].reshape(-1, 8)
    ours = np.column_stack([found.boxes[0], found.scores[0], extremes, found.classes[0]])
    theirs = boxes["test_dets"][0]
    np.testing.assert_allclose(ours[:, 4], theirs[:, 4], atol=1e-3)
    above = theirs[theirs[:, 4] > theirs[-1, 4] + 1e-3]  # of those with the last score any may be there
    assert len(above) > 300
    off = np.abs(ours[:, None] - above).max(-1)
    np.testing.assert_allclose(off.min(0), 0, atol=2e-3)


@pytest.mark.slow
def test_a_training_step_of_the_published_network_is_the_originals(golden):
    maps, step = golden("models/ExtremeNet_train.npz"), golden("train_step/ExtremeNet_grads.npz")
    compare_training_step(NAME, published(NAME), keypoint_targets(NAME, step), maps, step)


def decoded(recorded, prefix, options):
    """The rows of the original's decode, with the score -1 dropped."""
    config = replaced(
        ExtremeConfig(),
        {
            "legacy.pytorch_ties": True,
            "test": {
                "top_k": options["K"],
                "peak_window": options["kernel"],
                "edge_weight": options["aggr_weight"],
                "point_floor": options["scores_thresh"],
                "centre_floor": options["center_thresh"],
                "quadruples": options["num_dets"],
            },
        },
    )
    names = [
        f"{point}_{kind}" for point in (*POINTS, "ct") for kind in ("heat", "off") if f"{point}_{kind}" != "ct_off"
    ]
    maps = {name: jnp.asarray(nhwc(recorded[prefix + name])) for name in names}
    found = jax.jit(lambda maps: EXTREMENET.decode([maps], config))(maps)
    extremes = np.asarray(found.extra["extreme_points"])
    rows = [*found.boxes.T, found.scores.T, *extremes.reshape(*extremes.shape[:2], 8).T, found.classes.T]
    return [of_image[of_image[:, 4] > 0] for of_image in np.stack(rows, -1).transpose(1, 0, 2)]


@pytest.mark.parametrize(
    ("file", "prefix"),
    [("extremenet", ""), ("extremenet_dense", "multi_"), ("extremenet_dense", "single_"), ("extremenet_dense", "thr_")],
)
@pytest.mark.parametrize("case", [0, 1])
def test_decoding_matches_the_original(golden, file, prefix, case):
    """Where there are more than are kept, of those with the last score any may be there."""
    recorded = golden(f"decode/{file}.npz")
    options = ast.literal_eval(str(recorded[f"{prefix}kw{case}"]))
    for ours, theirs in zip(decoded(recorded, prefix, options), recorded[f"{prefix}dets{case}"], strict=True):
        expected = theirs[theirs[:, 4] > 0]
        assert len(ours) == len(expected)
        np.testing.assert_allclose(ours[:, 4], expected[:, 4], atol=1e-6)
        above = expected[:, 4] > expected[-1, 4] + 1e-6 if len(expected) == options["num_dets"] else slice(None)
        expected = expected[above]
        off = np.abs(ours[:, None] - expected).max(-1)
        np.testing.assert_allclose(off.min(0), 0, atol=1e-5)
        if len(ours) < options["num_dets"]:
            np.testing.assert_allclose(off.min(1), 0, atol=1e-5)


def test_decoding_matches_points_of_the_same_kind(golden):
    """The points detector's repository has this decoder too, with and without aggregation; its maps are scores.

    Without maps of offsets it takes the middle of each cell.
    """
    recorded = golden("decode/centernet_z_exdet.npz")
    maps = {name: values for name, values in recorded.items() if re.fullmatch(r"(t|l|b|r|ct)_(heat|off)", name)}
    for name in [name for name in maps if name.endswith("heat")]:
        maps[name] = np.log(maps[name]) - np.log1p(-maps[name])
    middles = {name: np.full_like(values, 0.5) for name, values in maps.items() if name.endswith("off")}
    for case, maps_of_case in (("0", maps), ("1", maps), ("_noreg", maps | middles)):
        options = ast.literal_eval(str(recorded.get(f"kw{case}", recorded["kw0"])))
        options |= {"kernel": 3, "scores_thresh": 0.1, "center_thresh": 0.1}
        (ours,) = decoded(maps_of_case, "", options)
        (theirs,) = recorded[f"exct_dets{case}"]
        expected = theirs[theirs[:, 4] > 0]
        assert len(ours) == len(expected) > 5
        off = np.abs(ours[:, None] - expected).max(-1)
        np.testing.assert_allclose([off.min(0).max(), off.min(1).max()], 0, atol=1e-5)


class Recorded(ExtremeNet):
    """Answers with recorded rows, in cells."""

    def __init__(self, rows):
        self.rows = jnp.asarray(rows)

    def decode(self, outputs, config):
        scores = jnp.where(self.rows[..., 4] > 0, self.rows[..., 4], -1)
        extremes = self.rows[..., 5:13].reshape(*scores.shape, 4, 2)
        return Candidates(
            self.rows[..., :4], scores, self.rows[..., 13].astype(jnp.int32), {"extreme_points": extremes}
        )


@pytest.mark.parametrize(
    ("file", "ghosts", "top"),
    [
        ("extremenet", True, "top"),
        ("extremenet", False, "top_no_ghost"),
        ("extremenet_multi_scale", False, "top"),
        ("extremenet_multi_scale", True, "top_ghost"),
    ],
)
def test_the_test_function_gives_the_same_boxes(golden, file, ghosts, top):
    """From prescribed rows of each scale and its mirror image to the best hundred, with their points."""
    recorded = golden(f"post/{file}.npz")
    scales = tuple(recorded.get("scales_f64", np.ones(1)).tolist())
    places = [f"raw.{i}" for i in range(len(scales))] if "raw.0" in recorded else ["raw"]
    changes = {"test": {"scales": scales, "suppress_ghosts": ghosts}}
    config = replaced(apply_preset(ExtremeConfig(), "released"), changes)
    answers = [Recorded(recorded[place]) for place in places]
    ours = boxes_of(answers, config, recorded["image"], extra=["extreme_points"])
    expected = np.delete(recorded[top], 13, axis=1)  # the class again, from 0
    assert ours.shape == expected.shape
    off = np.abs(ours[:, None] - expected).max(-1)
    np.testing.assert_allclose([off.min(0).max(), off.min(1).max()], 0, atol=2e-3)


def peaks(*scores, **options):
    """Where along a row of a map topmost points are found, and with which scores."""
    row = np.array([1e-6, *scores, 1e-6], np.float32)
    heat = jnp.asarray(np.log(row) - np.log1p(-row)).reshape(1, 1, -1, 1)
    found = find_extremes(heat, 2, top_k=len(row), **options)
    kept = np.asarray(found.scores[0]) > 0.01
    return {
        int(x) - 1: round(float(score), 3)
        for (x, _), score in zip(found.cells[0][kept], found.scores[0][kept], strict=True)
    }


def test_a_point_gathers_the_scores_along_its_edge():
    assert peaks(0.2, 0.3, 0.5, 0.4) == {2: 0.59}
    assert peaks(0.3, 0.2, 0.5) == {0: 0.32, 2: 0.52}  # beyond a cell that is lower nothing is added
    assert peaks(0.4, 0.4, 0.4) == {0: 0.48, 1: 0.48, 2: 0.48}  # equal neighbours all stay


def test_peaks_are_found_before_scores_above_1_become_1():
    for pytorch_ties in (False, True):
        assert peaks(0.5, 0.99, 0.999, pytorch_ties=pytorch_ties) == {2: 1}


def test_of_many_points_above_1_the_best_are_taken_or_those_of_the_first_classes():
    """A row of cells with a plateau of three classes, the longer the better."""
    row = np.full((1, 12, 3), 1e-6, np.float32)
    for label, length in enumerate((3, 5, 9)):
        row[0, 1 : 1 + length, label] = 0.95
    heat = jnp.asarray(np.log(row) - np.log1p(-row))[None]
    best, first = (find_extremes(heat, 2, top_k=3, pytorch_ties=ties) for ties in (False, True))
    assert best.classes[0].tolist() == [2, 2, 2]
    assert first.classes[0].tolist() == [0, 0, 0]
    assert best.scores[0].tolist() == first.scores[0].tolist() == [1, 1, 1]


BOXES = np.array([[0, 0, 30, 10], [0, 0, 10, 10], [10, 0, 20, 10], [20, 0, 30, 10]], np.float32)


def ghosts(scores, classes=(0, 0, 0, 0)):
    return suppress_ghosts(jnp.asarray(BOXES), jnp.asarray(scores, jnp.float32), jnp.array(classes)).tolist()


def test_a_box_that_holds_better_ones_of_its_class_is_halved():
    assert ghosts([0.4, 0.3, 0.3, 0.3]) == pytest.approx([0.2, 0.3, 0.3, 0.3])  # 1.3 of 0.4, more than three times
    assert ghosts([0.5, 0.3, 0.3, 0.3]) == pytest.approx([0.5, 0.3, 0.3, 0.3])
    assert ghosts([0.4, 0.3, 0.3, 0.3], (0, 1, 0, 0)) == pytest.approx([0.4, 0.3, 0.3, 0.3])
    assert ghosts([0.2, 0.3, 0.3, 0.3]) == pytest.approx([0.2, 0.3, 0.3, 0.3])  # not above 0.2
    assert ghosts([0.4, 0.6, 0.3, -1]) == pytest.approx([0.2, 0.6, 0.3, -1])
    assert ghosts([0.4, 0.5, -1, -1]) == pytest.approx([0.4, 0.5, -1, -1])  # what was dropped counts for nothing


def test_ghosts_are_looked_for_in_the_order_in_which_suppression_leaves_the_boxes():
    """There, boxes that it dropped stand last, whatever their scores."""
    boxes = [[200, 0, 260, 60], [200, 0, 260, 60], [0, 0, 50, 60], [2, 2, 20, 20], [25, 2, 45, 20], [2, 25, 20, 45]]
    boxes, scores = [*boxes, [0, 0, 100, 100]], [0.9, 0.85, 0.3, 0.3, 0.3, 0.25, 0.7]
    found = Candidates(jnp.array([boxes], jnp.float32), jnp.array([scores]), jnp.zeros((1, 7), jnp.int32), {})
    released = {"legacy.stale_rows": True, "legacy.inclusive_overlap": True, "legacy.ties": True}
    config = replaced(CONFIG, {"test.nms": "hard", "test.nms_iou": 0.5, **released})
    left = select(found, config, finish=get_detector(NAME).finish)
    large = (np.asarray(left.boxes[0]) == [0, 0, 100, 100]).all(1)
    assert sorted(np.asarray(left.scores[0])[large].tolist()) == pytest.approx([0.35, 0.7])


def test_it_starts_as_the_original():
    """Spread and middle of every array with enough elements to tell; single values where it is constant."""
    started = json.loads((GOLDEN / "init" / "ExtremeNet.json").read_text())
    _, params, _ = make_network(EXTREMENET, CONFIG, np.random.default_rng(0))
    values, compared = by_path(params), 0
    for key, path in torch_names(NAME).items():
        if path not in values or key not in started:
            continue
        ours, theirs = np.asarray(values[path]), started[key]
        if theirs["min"] == theirs["max"]:
            np.testing.assert_allclose(ours, theirs["mean"], rtol=1e-6, err_msg=key)
        elif ours.size > 5000:
            np.testing.assert_allclose(ours.std(), theirs["std"], rtol=0.05, err_msg=key)
            np.testing.assert_allclose(ours.mean(), theirs["mean"], atol=0.1 * theirs["std"], err_msg=key)
            compared += 1
    assert compared > 150


def test_the_published_chain_of_weights_has_one_backbone():
    """CornerNet starts ExtremeNet, which starts points: what --init-part backbone copies is what the originals do."""
    shapes = {
        name: {
            path: shape
            for path, shape in variable_shapes(get_detector(name), published(name, layout).model).items()
            if path.startswith("backbone.")
        }
        for name, layout in (("cornernet", 0), (NAME, 0), ("centernet_points", 1))
    }
    assert shapes["cornernet"] == shapes[NAME] == shapes["centernet_points"]
    renamed = json.loads((GOLDEN / "convert" / "ExtremeNet_to_CenterNetZ_hourglass.json").read_text())
    ours, theirs = torch_names(NAME), torch_names("centernet_points", layout=1)
    copied = {ours[before]: theirs[after] for before, after in renamed if before in ours and after in theirs}
    assert copied == {path: path for path in shapes[NAME]}


def test_an_aggregation_that_is_not_there_is_refused():
    with pytest.raises(InputError, match=r"^test\.edge_implementation is fast; accepted are auto, loop, scan$"):
        EXTREMENET.check(replaced(CONFIG, {"test.edge_implementation": "fast"}))


def test_size():
    _, params, _ = make_network(EXTREMENET, published(NAME), None)
    assert sum(value.size for value in by_path(params).values()) == 198_531_504
    assert len(manifest(NAME)) == len(torch_names(NAME))
