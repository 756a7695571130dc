"""A detector that the package has never heard of goes all the way, from training to the report."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from post_detector import Plain, PostConfig, PostModel, Posts, PostTest

import cornerjax
from cornerjax.check.run import check_set
from cornerjax.config import Data, Optim
from cornerjax.data.records import read_image
from cornerjax.data.shapes import write_shapes
from cornerjax.data.source import open_source
from cornerjax.detectors import DETECTORS
from cornerjax.detectors.base import make_network
from cornerjax.errors import InputError
from cornerjax.evaluation.of_run import evaluate_run
from cornerjax.evaluation.options import Options
from cornerjax.inference.overlays import available, draw, find_evidence
from cornerjax.nn.backbones import Backbone
from cornerjax.nn.backbones.hourglass import Hourglass
from cornerjax.training.loop import train


@pytest.fixture(scope="module", autouse=True)
def posts():
    """All that a new detector edits: its line in DETECTORS."""
    DETECTORS["posts"] = Posts()
    yield
    del DETECTORS["posts"]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    root = write_shapes(tmp_path_factory.mktemp("data") / "shapes", seed=0, train=8, val=4)
    return PostConfig(
        model=PostModel(backbone=Plain(dim=12)),
        data=Data(
            root=str(root),
            batch=4,
            crop_px=(128, 128),
            random_crop=False,
            max_objects=8,
            colour_jitter=0.0,
            workers=1,
            worker_kind="thread",
        ),
        optim=Optim(peak_lr=1e-2),
        test=PostTest(batch=4, top_k=12, flip=True, trust=0.25),
        steps=50,
        log_steps=10,
    )


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    return train(config, tmp_path_factory.mktemp("runs") / "posts")


def test_it_learns(run):
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    losses = [line["total"] for line in lines if "total" in line]
    assert len(losses) == 5
    assert losses[-1] < 0.6 * losses[0]
    assert {"focal", "offset"} <= set(lines[0])
    assert "AP" in lines[-1]


def test_its_options_are_kept_and_refused_like_all_others(run, tmp_path):
    content = json.loads((run.path / "config.json").read_text())
    assert content["model"]["backbone"] == {"type": "Plain", "dim": 12, "stacks": 1, "stride": 4}
    assert run.config.test.trust == 0.25
    with pytest.raises(InputError, match=r"^test.trust is 1.5; accepted is more than 0 and less than 1$"):
        cornerjax.load(run.path, test={"trust": 1.5})


def test_it_has_another_backbone(config):
    hourglass = Hourglass(stacks=1, stem_dim=4, stem_kernel=3, dims=(4, 4), blocks=(1, 1), dim=4)
    assert all(isinstance(options, Backbone) for options in (hourglass, config.model.backbone))
    model = PostModel(num_classes=3, backbone=hourglass)
    apply, *weights = make_network(
        DETECTORS["posts"], dataclasses.replace(config, model=model), np.random.default_rng(0)
    )
    (maps,), _ = apply(*weights, jnp.zeros((1, 127, 127, 3)), train=False)
    assert maps["hub_heat"].shape == (1, 32, 32, 3)


def test_its_boxes_bring_what_belongs_to_them(run, config):
    source = open_source(config.data, "val")
    detections = cornerjax.load(run.path)(source.records[0].path)
    assert len(detections)
    assert set(detections.extra) == {"tip_points", "height"}
    tips, boxes = detections.extra["tip_points"], detections.boxes
    assert tips.shape == (len(boxes), 1, 2)
    # A tip stands on the upper side of its box, in mirrored images too, where the image does not cut either off.
    inside = (boxes[:, :2] > 1).all(1) & (boxes[:, 2:] < 126).all(1)
    assert inside.any()
    np.testing.assert_allclose(tips[inside, 0, 1], boxes[inside, 1], atol=1e-3)


def test_it_is_finished(run, config):
    source = open_source(config.data, "val")
    plain, trusted = (
        cornerjax.load(run.path, test={"trust": trust, "nms": "none", "scales": (0.5,)})(source.records[0].path)
        for trust in (0.25, 0.5)
    )
    assert (plain.boxes[:, 2] - plain.boxes[:, 0]).max() < 128  # none is wider than a crop
    np.testing.assert_array_equal(plain.scores, trusted.scores)
    small = dataclasses.replace(run.config, data=dataclasses.replace(run.config.data, crop_px=(8, 8)))
    found = Posts().finish(_found([[0, 0, 9, 9], [0, 0, 8, 8]], [0.8, 0.8]), small)
    np.testing.assert_allclose(found.scores, [[0.2, 0.8]])


def _found(boxes, scores):
    from cornerjax.detectors.rows import Found

    return Found(np.array([boxes], np.float32), np.array([scores], np.float32), np.zeros((1, 2), np.int32), {})


def test_it_is_evaluated_with_a_report_and_with_oracles(run):
    evaluate_run(Options(workdir=str(run.path), oracles=True, test=run.config.test, compute=run.config.compute))
    metrics = json.loads((run.path / "eval" / "metrics.json").read_text())
    assert list(metrics["oracles"]) == ["nothing", "heat maps", "offsets", "all"]
    assert metrics["oracles"]["heat maps"]["AP"] > metrics["AP"]
    page = (run.path / "eval" / "report.html").read_text()
    assert "top of the post" in page
    assert 'name="layer-keypoints"' in page


def test_its_keypoints_are_drawn(run, config):
    predictor = cornerjax.load(run.path)
    assert available(predictor.detector) == ("keypoints",)
    image = read_image(open_source(config.data, "val").records[0])
    evidence, found = find_evidence(predictor, image), predictor(image[..., ::-1], 0.3)
    assert set(evidence.keypoints) == {"hub", "tip"}
    assert len(evidence.keypoints["hub"].points)
    plain, drawn = (draw(predictor, image, found, evidence, names) for names in ((), ("keypoints",)))
    assert (plain != drawn).any()


def test_it_is_checked_with_a_picture(config, tmp_path, capsys):
    findings = check_set(config, ("train", "val"), recipe="posts", out=tmp_path, samples=2)
    assert not findings.has_errors()
    assert (tmp_path / "samples.jpg").stat().st_size > 10_000
    assert "a cell of the map" in capsys.readouterr().out
