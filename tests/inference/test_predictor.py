"""The public face: photos in, boxes out."""

import dataclasses
import re
import subprocess
import sys

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from colour_detector import NAMES, draw
from media import BLUE, GREEN

import cornerjax
from cornerjax import ops
from cornerjax.checkpoint import Checkpoints
from cornerjax.config import Compute
from cornerjax.detectors import get_detector
from cornerjax.detectors.base import make_network
from cornerjax.detectors.cornernet import CornerConfig, CornerModel, CornerTest
from cornerjax.errors import InputError
from cornerjax.inference.predictor import load
from cornerjax.inference.whole_image import WholeImage
from cornerjax.new_workdir import create_workdir
from cornerjax.nn.backbones.hourglass import Hourglass

BACKBONE = Hourglass(stacks=1, stem_dim=4, stem_kernel=3, dims=(4, 4), blocks=(1, 1), dim=4)
MODEL = CornerModel(num_classes=2, backbone=BACKBONE, head_kernel=1, pool_dim=4)
NARROW = CornerConfig(model=MODEL, test=CornerTest(top_k=5, max_pairs=10))


@pytest.fixture
def photo(tmp_path):
    """A file with both boxes in an image of 48 x 55 pixels."""
    cv2.imwrite(str(tmp_path / "photo.png"), draw(55, 48, BLUE, GREEN))
    return tmp_path / "photo.png"


def test_a_path_and_an_rgb_array_give_the_same(predictor, photo):
    for given in (photo, str(photo), draw(55, 48, BLUE, GREEN)[..., ::-1]):
        found = predictor(given)
        np.testing.assert_allclose(found.boxes, [BLUE, GREEN], atol=1e-4)
        assert [found.class_names[c] for c in found.classes] == ["blue", "green"]


def test_a_list_keeps_its_order(predictor, photo):
    images = [draw(40 + 9 * (i % 3), 60 - 9 * (i % 3), (i, i, i + 9, i + 7))[..., ::-1] for i in range(6)]
    found = predictor([images[0], photo, *images[1:]])
    np.testing.assert_allclose(found[1].boxes, [BLUE, GREEN], atol=1e-4)
    for i, one in enumerate([found[0], *found[2:]]):
        np.testing.assert_allclose(one.boxes, [(i, i, i + 9, i + 7)], atol=1e-4)
    assert predictor([]) == []


def test_photos_are_taken_in_order_and_few_are_in_memory_at_a_time(predictor, monkeypatch):
    """Whether their buckets fill or not: the first photo is the only one of its bucket."""
    monkeypatch.setattr("cornerjax.inference.batching.WAIT", 6)
    monkeypatch.setattr("cornerjax.inference.batching.THREADS", 2)
    taken = []

    def photos():
        for i in range(200):
            taken.append(i)
            yield draw(40, 40 if i else 20, (i % 9, 2, i % 9 + 5, 11))[..., ::-1]

    used = -1
    for used, found in enumerate(predictor.in_order(photos(), 0.1)):
        np.testing.assert_allclose(found.boxes, [(used % 9, 2, used % 9 + 5, 11)], atol=1e-4)
        assert len(taken) <= used + 1 + 6 + 2 + 1 + 4 * 5  # waiting, being read, batches loaded and used
    assert used == 199
    assert list(predictor.in_order([])) == []


def test_a_generator_may_fill_one_array_again_and_again(predictor):
    def photos():
        photo = np.empty((40, 40, 3), np.uint8)
        for i in range(9):
            photo[:] = draw(40, 40, (i, i, i + 9, i + 7))[..., ::-1]
            yield photo

    for i, found in enumerate(predictor.in_order(photos(), 0.1)):
        np.testing.assert_allclose(found.boxes, [(i, i, i + 9, i + 7)], atol=1e-4)


def test_arrays_of_a_list_wait_for_others_of_their_size(predictor, monkeypatch):
    """They are in memory anyway; batches are as full as they can be."""
    monkeypatch.setattr("cornerjax.inference.batching.WAIT", 1)
    rows = []
    procedure = type(predictor.procedure).__call__

    def noted(self, params, state, images, bucket, count):
        rows.append(count)
        return procedure(self, params, state, images, bucket, count)

    monkeypatch.setattr(type(predictor.procedure), "__call__", noted)
    predictor([draw(40, side, BLUE)[..., ::-1] for side in [40, 20] * 4])
    assert rows == [4, 4]


def test_the_photos_of_a_list_are_not_all_in_memory(predictor, monkeypatch):
    monkeypatch.setattr("cornerjax.inference.batching.THREADS", 2)
    read: list[str] = []
    used: list[cornerjax.Detections] = []
    above = cornerjax.Detections.above

    def load_image(path):
        read.append(path)
        assert len(read) <= len(used) + 32 + 2 + 1 + 4 * 5
        return draw(40, 40, BLUE)

    def above_and_note(found, score):
        used.append(found)
        return above(found, score)

    monkeypatch.setattr("cornerjax.inference.predictor.load_image", load_image)
    monkeypatch.setattr(cornerjax.Detections, "above", above_and_note)
    assert len(predictor([f"{i}.png" for i in range(200)])) == len(read) == 200


@pytest.mark.parametrize("score", [-0.1, 1.5, float("nan")])
def test_a_score_that_no_box_could_have_is_refused(predictor, photo, score):
    for call in (lambda: predictor(photo, score), lambda: predictor([], score), lambda: predictor.in_order([], score)):
        with pytest.raises(InputError, match=rf"^min_score is {score}; accepted is 0 to 1$"):
            call()


def test_boxes_with_lower_scores_are_left_out(predictor, photo):
    assert len(predictor(photo)) == len(predictor(photo, min_score=0.0)) == 2
    np.testing.assert_allclose(predictor(photo, min_score=0.85).boxes, [BLUE], atol=1e-4)  # green has 0.8
    assert [len(found) for found in predictor([photo, photo], min_score=0.85)] == [1, 1]
    assert len(predictor(photo, 0.95)) == 0


def test_files_may_be_grey_have_an_alpha_channel_or_be_turned_by_exif(predictor, tmp_path):
    image = draw(55, 48, BLUE, GREEN)
    cv2.imwrite(str(tmp_path / "alpha.png"), np.dstack([image, np.full(image.shape[:2], 9, np.uint8)]))
    np.testing.assert_allclose(predictor(tmp_path / "alpha.png").boxes, [BLUE, GREEN], atol=1e-4)
    cv2.imwrite(str(tmp_path / "grey.png"), image[..., 0])
    assert [predictor.class_names[c] for c in predictor(tmp_path / "grey.png").classes] == ["blue", "green"]

    # Orientation 6: to be turned clockwise. A box x1 y1 x2 y2 of the stored image becomes H - y2, x1, H - y1, x2.
    jpeg = cv2.imencode(".jpg", draw(56, 48, (8, 16, 24, 32)))[1].tobytes()
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    (tmp_path / "turned.jpg").write_bytes(jpeg[:2] + segment + jpeg[2:])
    np.testing.assert_allclose(predictor(tmp_path / "turned.jpg").boxes, [(24, 8, 40, 24)], atol=1.1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((40, 40, 3)), r"type uint8, got shape \(40, 40, 3\), float64"),
        (np.zeros((40, 40), np.uint8), r"got shape \(40, 40\)"),
        (np.zeros((40, 40, 4), np.uint8), r"got shape \(40, 40, 4\)"),
        (np.zeros((1, 40, 40, 3), np.uint8), r"got shape \(1, 40, 40, 3\)"),
        (np.zeros((3, 50, 3), np.uint8), "image of 50x3 pixels: both sides must be at least 4"),
        ("gone.jpg", "cannot read gone.jpg: No such file"),
        (".", "cannot read .: Is a directory"),
    ],
)
def test_what_is_no_photo_is_refused(predictor, given, message):
    with pytest.raises(InputError, match=message):
        predictor(given)
    with pytest.raises(InputError, match=message):
        predictor([np.zeros((40, 40, 3), np.uint8), given])


@pytest.mark.parametrize("content", [b"", b"no image"])
def test_a_file_that_is_no_image_is_named(predictor, tmp_path, content):
    (tmp_path / "text.jpg").write_bytes(content)
    with pytest.raises(InputError, match=r"cannot read .*text\.jpg as an image; expected"):
        predictor(tmp_path / "text.jpg")


def test_a_small_file_is_named(predictor, tmp_path):
    cv2.imwrite(str(tmp_path / "dot.png"), np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(InputError, match=r"image of 2x2 pixels.*dot\.png"):
        predictor(tmp_path / "dot.png")


def write_run(path, config):
    """A run of a network that was never trained."""
    create_workdir(path, config, NAMES, (1, 2), recipe="")
    _, params, model_state = make_network(get_detector("cornernet"), NARROW, np.random.default_rng(0))
    with Checkpoints(path) as checkpoints:
        checkpoints.save(1, {"params": params, "model_state": model_state}, {"step": jnp.int32(1)})
    return path


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "narrow", NARROW)


def test_a_run_is_loaded_and_gives_the_maps_of_its_network(workdir):
    predictor = cornerjax.load(workdir)
    assert isinstance(predictor, cornerjax.Predictor)
    assert predictor.class_names == NAMES
    images = np.random.default_rng(0).standard_normal((2, 63, 71, 3)).astype(np.float32)
    maps = predictor.forward(images)
    assert {name: m.shape[1:] for name, m in maps.items()} == {
        f"{corner}_{kind}": (16, 18, channels)
        for corner in ("tl", "br")
        for kind, channels in (("heat", 2), ("tag", 1), ("off", 2))
    }
    np.testing.assert_array_equal(predictor.forward(jnp.asarray(images))["tl_heat"], maps["tl_heat"])
    apply, params, model_state = make_network(get_detector("cornernet"), NARROW, np.random.default_rng(0))
    expected = jax.jit(lambda images: apply(params, model_state, images, train=False)[0][-1])(images)
    np.testing.assert_allclose(maps["br_heat"], expected["br_heat"], atol=1e-5)

    found = predictor(np.zeros((60, 50, 3), np.uint8))
    assert isinstance(found, cornerjax.Detections)
    assert (np.diff(found.scores) <= 0).all()


def test_options_of_a_run_can_be_replaced_by_name(workdir):
    plain = load(workdir)
    assert plain.config == NARROW
    changed = load(workdir, test={"flip": True, "scales": [1, 0.5]}, compute={"precision": "highest"})
    test = dataclasses.replace(NARROW.test, flip=True, scales=(1.0, 0.5))
    assert changed.config == dataclasses.replace(NARROW, test=test, compute=Compute(precision="highest"))
    assert load(workdir, test={"max_detections": 3})(np.zeros((60, 50, 3), np.uint8)).scores.shape <= (3,)


def test_flip_and_precision_reach_the_network(workdir):
    """As lowered: the mirrored image goes through in the same batch; every convolution is in true float32."""
    plain, changed = load(workdir), load(workdir, test={"flip": True}, compute={"precision": "highest"})
    images = np.zeros((1, 63, 63, 3), np.float32)
    for predictor, batch, precision in [(plain, 1, "DEFAULT"), (changed, 2, "HIGHEST")]:
        lowered = jax.jit(lambda images, of=predictor: of.apply(*of.weights, images, train=False)[0]).lower(images)
        convolutions = [line for line in lowered.as_text().splitlines() if "stablehlo.convolution" in line]
        assert len(convolutions) > 10
        assert all(f"precision {precision}" in line for line in convolutions)
        placed = np.zeros((1, 63, 63, 3), np.uint8), *np.zeros((2, 1, 2), np.float32), np.full((1, 2), 63, np.float32)
        assert isinstance(predictor.procedure, WholeImage)
        found = jax.eval_shape(predictor.procedure.find, *predictor.weights, *placed)
        assert [of_view.boxes.shape[0] for of_view in found] == [1] * batch


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test": {"flips": True}}, "there is no option test.flips; there are: batch, scales, flip, "),
        ({"test": {"scale": (1.0,)}}, "there is no option test.scale; there are: "),
        ({"compute": {"prec": "highest"}}, "there is no option compute.prec; there are: dtype, precision, "),
        ({"test": {"flip": "yes"}}, "test.flip is 'yes'; accepted is True or False"),
        ({"test": {"batch": 0}}, "test.batch is 0; accepted is 1 to 131072"),
        ({"compute": {"precision": "high"}}, "compute.precision is 'high'; accepted are default, highest"),
        ({"test": {"saccade": {"max_crops": 2}}}, "there is no option test.saccade; there are: "),
    ],
)
def test_an_option_that_there_is_not_is_refused_by_name(workdir, options, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        load(workdir, **options)


def test_a_run_that_was_computed_with_a_kernel_for_another_device_predicts_here(tmp_path, workdir):
    assert "pallas_triton" not in ops.runnable()
    config = dataclasses.replace(NARROW, compute=Compute(pooling_implementation="pallas_triton"))
    elsewhere = load(write_run(tmp_path / "run", config))
    image = np.random.default_rng(0).integers(0, 256, (60, 50, 3), np.uint8)
    found, expected = elsewhere(image), load(workdir)(image)
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(found.scores, expected.scores)
    with pytest.raises(InputError, match=r"^compute\.pooling_implementation is pallas_triton; pallas_triton runs on"):
        load(workdir, compute={"pooling_implementation": "pallas_triton"})  # asked for here, it is not replaced


def test_forward_refuses_what_the_network_does_not_take(workdir):
    predictor = load(workdir)
    with pytest.raises(ValueError, match=r"images of 50x61 pixels give 13x16 cells; .* multiples of 2 cells"):
        predictor.forward(np.zeros((1, 61, 50, 3), np.float32))
    with pytest.raises(ValueError, match=r"shape \(b, H, W, 3\) and type float32, got \(60, 50, 3\), uint8"):
        predictor.forward(np.zeros((60, 50, 3), np.uint8))


def test_a_folder_without_a_run_is_refused(tmp_path, workdir, monkeypatch):
    with pytest.raises(InputError, match="does not exist"):
        load(tmp_path / "gone")
    monkeypatch.chdir(workdir)
    with pytest.raises(InputError, match=r"^the work directory is an empty path; expected a folder that cornerjax"):
        load("")


def test_the_package_imports_fast_and_without_tensorflow():
    code = (
        "import sys, cornerjax; assert not {'jax', 'flax', 'cv2'} & set(sys.modules)\n"
        "sys.modules['tensorflow'] = None\n"
        "for name in cornerjax.__all__: getattr(cornerjax, name)\n"
        "assert callable(cornerjax.ops.top_pool)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
