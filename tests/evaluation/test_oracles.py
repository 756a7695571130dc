"""The truth in place of what a network says, from the boxes of an image to those found in it."""

import json
from functools import partial

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cornerjax.config import Data
from cornerjax.data.classes import align_classes
from cornerjax.data.shapes import SHAPES, write_shapes
from cornerjax.data.source import open_source
from cornerjax.detectors import DETECTORS
from cornerjax.detectors.base import Truth, make_network
from cornerjax.detectors.cornernet import CornerConfig, CornerModel, CornerTest
from cornerjax.detectors.truth import make_targets
from cornerjax.evaluation.compare.average_precision import average_precision
from cornerjax.evaluation.evaluator import Evaluator, Result
from cornerjax.evaluation.oracles import Oracle, by_name, combinations, evaluate_oracles, verdict
from cornerjax.evaluation.tables.oracles import print_oracles
from cornerjax.inference.batching import BatchPredictor
from cornerjax.nn.backbones.hourglass import Hourglass
from cornerjax.validation import replaced

ALL = DETECTORS["cornernet"].parts
TEST = {"batch": 4, "flip": False, "top_k": 12, "max_pairs": 60, "tag_distance": 0.5, "no_border": False, "nms": "none"}
STRIDES = {"cornernet": 4, "cornernet_squeeze": 8, "cornernet_saccade": 4}
# x1 y1 x2 y2 as parts of an image's sides, and class
OBJECTS = [(0.0, 0.0, 0.41, 0.3, 2), (0.5, 0.12, 0.97, 0.58, 0), (0.03, 0.4, 0.45, 0.93, 0), (0.52, 0.6, 0.8, 0.9, 1)]


def blind(stride, params, model_state, images, train):
    """A network that sees the same noise everywhere."""
    b, height, width = images.shape[:3]
    h, w = (height + 1) // stride, (width + 1) // stride
    rng = np.random.default_rng(0)
    sizes = {"heat": 3, "tag": 1, "off": 2}
    maps = {
        f"{corner}_{kind}": jnp.broadcast_to(rng.normal(0, 0.2, (h, w, n)).astype(np.float32), (b, h, w, n))
        for corner in ("tl", "br")
        for kind, n in sizes.items()
    }
    return [maps | {"attention": [jnp.full((b, h >> level, w >> level, 1), -9.0) for level in (2, 1, 0)]}], {}


def batches(name, test={}, **data):  # noqa: B006
    changes = {"model.num_classes": 3, "data": {"max_objects": 8} | data, "test": TEST | test}
    config = replaced(DETECTORS[name].defaults, changes)
    return BatchPredictor(DETECTORS[name], partial(blind, STRIDES[name]), config, ["a", "b", "c"])


@pytest.fixture(scope="module")
def cornernet():
    return batches("cornernet")


def find(finder, sizes, objects, parts=ALL):
    """The boxes found in black images of these sizes."""
    batches = finder.plan(sizes)
    truth = None if parts is None else lambda i: Truth(objects[i], parts)
    found = dict(finder({}, {}, batches, lambda i: np.zeros((*sizes[i], 3), np.uint8), truth))
    return [found[i] for i in range(len(sizes))]


def objects_in(height, width):
    *boxes, classes = np.array(OBJECTS, np.float32).T
    return {
        "boxes": np.stack(boxes, 1) * np.tile(np.array([width, height], np.float32), 2),
        "classes": classes.astype(np.int32),
    }


def compare(found, true, atol):
    order, expected = np.argsort(found.boxes[:, 0], kind="stable"), np.argsort(true["boxes"][:, 0], kind="stable")
    np.testing.assert_allclose(found.boxes[order], true["boxes"][expected], atol=atol)
    np.testing.assert_array_equal(found.classes[order], true["classes"][expected])
    np.testing.assert_array_equal(found.scores, 1)


@pytest.mark.parametrize("name", ["cornernet", "cornernet_squeeze"])
def test_with_everything_true_the_boxes_found_are_the_true_ones(name):
    sizes = [(120, 197), (70, 255), (113, 201)]
    objects = [objects_in(*size) for size in sizes]
    for found, true in zip(find(batches(name), sizes, objects), objects, strict=True):
        compare(found, true, atol=1e-4)


def test_so_they_are_at_another_scale_and_in_the_mirrored_image():
    finder = batches("cornernet", {"scales": (1.5,), "flip": True})
    true = objects_in(69, 83)
    (found,) = find(finder, [(69, 83)], [true])
    compare(found, {key: np.repeat(values, 2, axis=0) for key, values in true.items()}, atol=1e-4)


def test_an_object_ends_at_the_last_pixel_of_an_image_that_is_not_padded(cornernet):
    """Its corner lies where the last cell ends."""
    objects = {"boxes": np.array([[64, 20, 127, 60]], np.float32), "classes": np.array([1], np.int32)}
    (found,) = find(cornernet, [(127, 127)], [objects])
    np.testing.assert_allclose(found.boxes, [[64, 20, 127, 60]], atol=1e-4)


def test_objects_in_the_same_cell(cornernet):
    """Two that share a corner's cell are both found, one of them less exactly; of two that share both, one is."""
    boxes = np.array([[10, 10, 50, 50], [11, 9, 90, 90], [90.5, 20, 120, 50], [89, 21, 121.5, 49]], np.float32)
    objects = {"boxes": boxes, "classes": np.zeros(4, np.int32)}
    (found,) = find(cornernet, [(127, 127)], [objects])
    order = np.argsort(found.boxes[:, 0] + found.boxes[:, 3])
    np.testing.assert_allclose(found.boxes[order], [boxes[0], [10, 10, 90, 90], boxes[2]], atol=1e-4)


def test_with_nothing_true_nothing_changes(cornernet):
    (given,), (plain,) = (find(cornernet, [(120, 97)], [objects_in(120, 97)], true) for true in ((), None))
    assert len(plain) > 5
    for name in ("boxes", "scores", "classes"):
        np.testing.assert_array_equal(getattr(given, name), getattr(plain, name))


def test_a_shape_is_compiled_once_whatever_is_true(cornernet):
    find(cornernet, [(127, 127)], [objects_in(127, 127)])
    compiled = cornernet.procedure.find._cache_size()
    for true in combinations(ALL):
        find(cornernet, [(120, 97)], [objects_in(120, 97)], true)
    assert cornernet.procedure.find._cache_size() == compiled


def test_a_part_replaces_its_maps_and_no_others():
    """In the rows that say so."""
    detector = DETECTORS["cornernet"]
    changes = {"model.num_classes": 3, "data.crop_px": (127, 127), "data.max_objects": 8}
    config = replaced(detector.defaults, changes)
    (maps,), _ = blind(4, {}, {}, np.zeros((2, 127, 127, 3)), False)
    replace = jax.jit(lambda targets: detector.with_truth([maps], targets, config)[0])
    for part, kind in (("heat maps", "heat"), ("tags", "tag"), ("offsets", "off")):
        targets = make_targets(detector, config, [objects_in(127, 127)] * 2, [(), (part,)], rows=2)
        after = replace(targets)
        for name, values in maps.items():
            if name == "attention":
                continue
            np.testing.assert_array_equal(after[name][0], values[0])
            assert np.array_equal(after[name][1], values[1]) != name.endswith(kind)


def test_a_part_that_there_is_not_is_refused(cornernet):
    with pytest.raises(ValueError, match="no part 'boxes'; there are: heat maps, tags, offsets"):
        find(cornernet, [(120, 97)], [objects_in(120, 97)], ("boxes",))


def test_true_attention_leads_saccade_to_what_its_views_are_too_coarse_for():
    """Objects of 30 px in an image of 400: less than training asks for in the views, enough in a crop."""
    saccade = {"view_px": (127,), "max_crops": 8, "crop_batch": 1}
    finder = batches("cornernet_saccade", {"nms": "hard", "saccade": saccade}, crop_px=(127, 127))
    boxes = np.array([[31, 42, 60, 66], [300, 100, 331, 128], [200, 251, 225, 280]], np.float32)
    objects = {"boxes": boxes, "classes": np.array([0, 2, 1], np.int32)}
    parts = DETECTORS["cornernet_saccade"].parts
    compare(find(finder, [(301, 400)], [objects], parts)[0], objects, atol=1e-2)
    assert len(find(finder, [(301, 400)], [objects], ALL)[0]) == 0


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = write_shapes(tmp_path_factory.mktemp("data") / "shapes", seed=0, train=1, val=6)
    return open_source(Data(root=str(root)), "val")


@pytest.fixture(scope="module")
def evaluator(source):
    return untrained(source)


def untrained(source):
    """The evaluator and the weights of a narrow network."""
    backbone = Hourglass(stacks=1, stem_dim=4, stem_kernel=3, dims=(4, 4), blocks=(1, 1), dim=4)
    model = CornerModel(num_classes=3, backbone=backbone, pool_dim=4)
    config = CornerConfig(model=model, test=CornerTest(batch=8, top_k=40, tag_distance=0.1))
    apply, *weights = make_network(DETECTORS["cornernet"], config, np.random.default_rng(0))
    return Evaluator(DETECTORS["cornernet"], apply, config, source), weights


def test_on_generated_shapes_the_whole_truth_has_an_ap_of_1(evaluator, capsys):
    evaluator, weights = evaluator
    ordinary = evaluator(*weights)
    params, model_state = weights
    oracles = evaluate_oracles(evaluator, params, model_state, ordinary.detections, ALL)
    assert oracles[-1].true == ALL
    assert oracles[-1].metrics["AP"] > 0.99
    assert ordinary.metrics["AP"] < 0.1
    print_oracles(oracles)
    printed = capsys.readouterr().out
    assert "all but heat maps" in printed
    assert verdict(oracles) in printed
    table = by_name(oracles)
    assert list(table) == [
        *("nothing", "heat maps", "tags", "offsets"),
        *("all but heat maps", "all but tags", "all but offsets", "all"),
    ]
    assert table["nothing"]["AP50"] == ordinary.metrics["AP50"]


def test_objects_of_a_class_that_the_network_does_not_have_are_missed_with_the_whole_truth_too(source, tmp_path):
    content = json.loads(source.annotation_file.read_text())
    content["categories"].insert(0, {"id": 0, "name": "star"})
    of_image = next(iter(content["annotations"]))["image_id"]
    for entry in content["annotations"]:
        if entry["image_id"] == of_image:
            entry["category_id"] = 0
    (tmp_path / "stars.json").write_text(json.dumps(content))
    images = str(source.records[0].path.parent)
    stars = open_source(Data(root=str(tmp_path), images=images), str(tmp_path / "stars.json"))
    evaluator, weights = untrained(align_classes(stars, SHAPES, "the run"))
    find = evaluator.batches
    given: list[dict] = []

    def find_with(params, model_state, plan, load, truth):
        given.extend(truth(i).objects for i in range(len(stars.records)))
        return find(params, model_state, plan, load, truth)

    evaluator.batches = find_with
    found = evaluator.find(*weights, true=ALL)
    for objects, record in zip(given, stars.records, strict=True):
        kept = 0 if record.image_id == of_image else len(record.classes)
        assert len(objects["boxes"]) == len(objects["classes"]) == kept
    metrics, per_class = average_precision(evaluator.ground_truth, evaluator.results(found), evaluator.image_ids())
    assert per_class["star"]["AP"] == 0
    assert metrics["AP"] == pytest.approx(3 / 4, abs=0.01)


def test_with_nothing_true_an_evaluation_is_the_ordinary_one(evaluator, source):
    evaluator, weights = evaluator
    batches, plan = evaluator.batches, evaluator._plan
    records = source.records
    plain: Result = evaluator(*weights)
    given = dict(
        batches(
            *weights,
            plan,
            lambda i: np.ascontiguousarray(cv2.imread(str(records[i].path))),
            lambda i: Truth({"boxes": records[i].boxes, "classes": records[i].classes}, ()),
        )
    )
    for i, expected in enumerate(plain.detections):
        np.testing.assert_array_equal(given[i].boxes, expected.boxes)
        np.testing.assert_array_equal(given[i].scores, expected.scores)


def test_combinations_come_once():
    assert combinations(("a", "b")) == [("a",), ("b",), ("a", "b")]
    assert combinations(ALL)[0] == ("heat maps",)
    assert len(combinations(ALL)) == 7


def test_the_verdict_names_the_part_that_gains_most():
    def oracle(true, ap):
        return Oracle(true, {"AP": ap})

    asked = [oracle((), 0.5), oracle(("heat maps",), 0.6), oracle(("tags",), 0.7), oracle(("heat maps", "tags"), 0.9)]
    assert verdict(asked) == (
        "the truth in place of its tags alone raises AP most, from 0.500 to 0.700; in place of everything, to 0.900"
    )
    assert verdict([oracle((), 0.9), *asked[1:]]) == "no part alone limits it: the truth of none raises AP"
