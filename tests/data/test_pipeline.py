"""Training batches: the same bytes whatever the workers, hosts and resumed steps; host and device rendering agree."""

import contextlib
import dataclasses
import itertools
import shutil
import subprocess
import sys

import cv2
import jax
import numpy as np
import pytest

from cornerjax.config import Data
from cornerjax.data.crop import DRAWS, Cropped, stretch
from cornerjax.data.device import finish_batch
from cornerjax.data.pipeline import make_batches
from cornerjax.data.shapes import write_shapes
from cornerjax.data.source import open_source
from cornerjax.detectors import get_detector
from cornerjax.detectors.cornernet import CornerConfig, CornerModel
from cornerjax.errors import InputError

DETECTOR = get_detector("cornernet")
encode, render = DETECTOR.encode, DETECTOR.render
CONFIG = CornerConfig(
    model=CornerModel(num_classes=3),
    data=Data(batch=4, crop_px=(95, 127), crop_border_px=32, max_objects=6, workers=1, worker_kind="thread"),
    seed=7,
)


def with_data(config=CONFIG, **changes):
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **changes))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("data") / "shapes", seed=0, train=18, val=2)


@pytest.fixture(scope="module")
def source(folder):
    return open_source(Data(root=str(folder)), "train")


def take(source, config, count, **options):
    with contextlib.closing(make_batches(source, config, encode=encode, render=render, **options)) as batches:
        return list(itertools.islice(batches, count))


def assert_same(ours, theirs):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        assert all(a[name].dtype == b[name].dtype and a[name].tobytes() == b[name].tobytes() for name in a)


@pytest.fixture(scope="module")
def batches(source):
    return take(source, CONFIG, 8)


def test_form(batches):
    b, H, W, h, w, n, c = 4, 95, 127, 24, 32, 6, 3
    forms = {
        "image": ((b, H, W, 3), np.float32),
        "image_id": ((b,), np.int64),
        "classes": ((b, n), np.int32),
        "radii": ((b, n), np.int32),
        "valid": ((b, n), np.bool_),
    }
    for corner in ("tl", "br"):
        forms[f"{corner}_cells"] = ((b, n, 2), np.int32)
        forms[f"{corner}_off"] = ((b, n, 2), np.float32)
        forms[f"{corner}_heat"] = ((b, h, w, c), np.float32)
    assert {name: (value.shape, value.dtype) for name, value in batches[0].items()} == forms


def test_every_image_comes_once_an_epoch(batches):
    seen = np.concatenate([batch["image_id"] for batch in batches])
    assert sorted(seen[:18]) == list(range(1, 19))
    assert len({batch["image"].tobytes() for batch in batches}) == len(batches)


def test_workers_do_not_matter(source, batches):
    assert_same(take(source, with_data(workers=4), 8), batches)


def test_a_resumed_run_goes_on_where_it_stopped(source, batches):
    assert_same(take(source, CONFIG, 4, first_step=4), batches[4:])


def test_hosts_share_the_global_batch(source, batches):
    halves = [take(source, CONFIG, 3, host=host, hosts=2) for host in range(2)]
    whole = [{name: np.concatenate([a[name], b[name]]) for name in a} for a, b in zip(*halves, strict=True)]
    assert_same(whole, batches[:3])
    assert_same(take(source, CONFIG, 2, host=1, hosts=2, first_step=1), halves[1][1:])


def test_the_seed_matters(source, batches):
    other = take(source, dataclasses.replace(CONFIG, seed=8), 1)[0]
    assert other["image_id"].tolist() != batches[0]["image_id"].tolist()


@pytest.mark.parametrize("random_crop", [True, False])
def test_device_rendering_is_host_rendering(source, random_crop):
    config = with_data(render="device", random_crop=random_crop)
    finish = jax.jit(lambda batch: finish_batch(batch, config, render))
    hosts = take(source, with_data(random_crop=random_crop), 4)
    flips = []
    for host, sent in zip(hosts, take(source, config, 4), strict=True):
        assert sent["image"].dtype == np.uint8
        assert not any("heat" in name for name in sent)
        assert set(DRAWS) <= set(sent)
        flips += sent["flip"].tolist()
        assert sent.pop("image_id").tolist() == host.pop("image_id").tolist()
        device = finish(sent)
        assert device.keys() == host.keys()
        for name, value in host.items():
            if name.endswith("heat"):
                np.testing.assert_allclose(device[name], value, atol=1e-6)
                np.testing.assert_array_equal(device[name] == 1, value == 1)
                assert (value == 1).any()
            elif name == "image":
                np.testing.assert_allclose(device[name], value, atol=1e-5)
            else:
                np.testing.assert_array_equal(device[name], value)
    assert set(flips) == {False, True}


def test_finish_batch_leaves_a_batch_of_the_host(batches):
    batch = {name: jax.numpy.asarray(batches[0][name]) for name in ("image", "tl_heat")}
    assert finish_batch(batch, CONFIG, render) is batch


def test_heat_maps_and_images_are_mirrored_alike(folder, source):
    """A picture whose only bright pixels are its box: wherever crop and flip put it, the corners are there."""
    record = source.records[0]
    path = folder / "white.png"
    picture = np.zeros((127, 127, 3), np.uint8)
    picture[40:80, 20:70] = 255
    cv2.imwrite(str(path), picture)
    box = np.array([[20, 40, 70, 80]], np.float32)
    record = dataclasses.replace(record, path=path, boxes=box, classes=np.array([1], np.int32))
    config = with_data(colour_jitter=0.0, lighting=0.0, crop_scales=(1.0,), crop_px=(127, 127))
    batches = take(dataclasses.replace(source, records=[record]), config, 6)
    checked = 0
    for batch, i in itertools.product(batches, range(4)):
        ys, xs = np.nonzero(batch["image"][i, ..., 0] > 0)
        corners = {"tl": (xs.min(), ys.min()), "br": (xs.max() + 1, ys.max() + 1)}
        for corner, point in corners.items():
            x, y = batch[f"{corner}_cells"][i, 0]
            assert (x, y) == tuple(min(int(px * 32 / 127), 31) for px in point)
            assert batch[f"{corner}_heat"][i, y, x, 1] == 1
            checked += 1
    assert checked == 48


def test_a_crop_of_the_detector_s_own(source):
    def grey(image, objects, draws, config):
        _, affine = stretch(image, config.data.crop_px)
        return Cropped(np.full((127, 127, 3), len(objects["boxes"]), np.uint8), objects, affine)

    config = with_data(render="device", crop_px=(127, 127))
    batch = take(source, config, 1, crop=grey)[0]
    counts = {record.image_id: len(record.boxes) for record in source.records}
    assert batch["image"][:, 0, 0, 0].tolist() == [counts[i] for i in batch["image_id"].tolist()]


def test_an_unreadable_image_comes_out_as_the_sentence_itself(folder, source, capfd):
    records = [dataclasses.replace(record, path=folder / f"gone{record.image_id}.png") for record in source.records]
    first = take(source, CONFIG, 1)[0]["image_id"].tolist()
    readable = [r if r.image_id in first else gone for r, gone in zip(source.records, records, strict=True)]
    for workers in (1, 3):
        batches = make_batches(
            dataclasses.replace(source, records=readable), with_data(workers=workers), encode=encode, render=render
        )
        assert next(batches)["image_id"].tolist() == first
        with pytest.raises(
            InputError, match=r"^cannot read .*gone\d+.png: No such file or directory; expected an image file$"
        ) as caught:
            next(batches)
        assert caught.value.__cause__ is None
    assert capfd.readouterr().err == ""
    with pytest.raises(InputError, match=r"^cannot read"):
        take(dataclasses.replace(source, records=records), CONFIG, 1)


def with_broken(source, folder, broken):
    """The source with these image ids cut short; they stand in a folder of their own."""
    folder.mkdir(exist_ok=True)

    def cut(record):
        path = folder / record.path.name
        path.write_bytes(record.path.read_bytes()[:100])
        return dataclasses.replace(record, path=path)

    records = [cut(record) if record.image_id in broken else record for record in source.records]
    return dataclasses.replace(source, records=records)


BROKEN = (3, 4, 18)  # two in a row, and the last, which the first takes the place of


@pytest.fixture
def broken(source, tmp_path):
    return with_broken(source, tmp_path / "broken", BROKEN)


SKIP = with_data(on_bad_image="skip")


def test_the_next_image_takes_the_place_of_a_broken_one(source, broken, batches, caplog):
    skipped: set[str] = set()
    taken = take(broken, SKIP, 8, skipped=skipped)
    instead = {3: 5, 4: 5, 18: 1}
    for ours, whole in zip(taken, batches, strict=True):
        ids = whole["image_id"].tolist()
        assert ours["image_id"].tolist() == [instead.get(i, i) for i in ids]
        for row, image_id in enumerate(ids):
            if image_id not in BROKEN:
                assert all(np.array_equal(ours[name][row], whole[name][row]) for name in ours)
    assert len(skipped) == 3
    assert len(caplog.messages) == 3  # in nearly two epochs: each is logged once
    assert [m.endswith(f"images skipped so far: {i}") for i, m in enumerate(caplog.messages, start=1)] == [True] * 3
    assert sorted(m.split(" as an image")[0] for m in caplog.messages) == sorted(
        f"cannot read {record.path}" for record in broken.records if record.image_id in BROKEN
    )


def test_an_image_in_another_s_place_has_the_draws_of_the_position(source, broken):
    config = with_data(on_bad_image="skip", render="device")
    for ours, whole in zip(take(broken, config, 8), take(source, config, 8), strict=True):
        assert all(np.array_equal(ours[name], whole[name]) for name in DRAWS)


def test_what_is_skipped_depends_on_nothing_but_the_position(broken):
    whole = take(broken, SKIP, 8)
    assert_same(take(broken, with_data(SKIP, workers=4), 8), whole)
    assert_same(take(broken, SKIP, 4, first_step=4), whole[4:])
    halves = [take(broken, SKIP, 8, host=host, hosts=2) for host in range(2)]
    assert_same([{n: np.concatenate([a[n], b[n]]) for n in a} for a, b in zip(*halves, strict=True)], whole)


def test_the_first_image_of_a_run_may_be_broken(source, tmp_path, batches, caplog):
    first = batches[0]["image_id"][0].item()
    taken = take(with_broken(source, tmp_path, [first]), SKIP, 1)[0]
    assert taken["image_id"].tolist() == [first % 18 + 1, *batches[0]["image_id"][1:].tolist()]
    assert len(caplog.messages) == 1


def test_a_broken_image_is_an_error_by_default(broken):
    with pytest.raises(InputError, match=r"^cannot read .*broken/\d+\.jpg as an image; expected an intact JPEG"):
        take(broken, CONFIG, 8)


def test_too_many_broken_images_are_no_accident(source, tmp_path, caplog):
    every = with_broken(source, tmp_path, range(1, 19))
    message = (
        rf"^none of 18 images in a row could be read, the first of them: cannot read {tmp_path}/\d+\.jpg as an image; "
    )
    with pytest.raises(InputError, match=message + rf".*; is the data directory {tmp_path} still there\?$"):
        take(every, SKIP, 1)
    assert not caplog.messages
    long = dataclasses.replace(every, records=every.records * 2)
    with pytest.raises(InputError, match=r"^none of 20 images in a row"):
        take(long, SKIP, 1)


@pytest.mark.parametrize("on_bad_image", ["error", "skip"])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_data_directory_that_vanishes_is_one_sentence(source, tmp_path, on_bad_image, workers, capfd, caplog):
    here = shutil.copytree(source.records[0].path.parent, tmp_path / "images")
    records = [dataclasses.replace(record, path=here / record.path.name) for record in source.records]
    config = with_data(on_bad_image=on_bad_image, workers=workers)
    batches = make_batches(dataclasses.replace(source, records=records), config, encode=encode, render=render)
    next(batches)
    here.rename(tmp_path / "elsewhere")
    message = rf"^cannot read {here}/\d+\.jpg: the folder {here} is gone; is the data directory still there\?$"
    with pytest.raises(InputError, match=message):
        list(itertools.islice(batches, 20))  # some are made already
    assert capfd.readouterr().err == ""
    assert not caplog.messages


def test_a_mistake_in_the_options(source):
    with pytest.raises(InputError, match="multiple of the number of hosts, 3, got 4"):
        take(source, CONFIG, 1, hosts=3)


def test_only_the_pipeline_needs_tensorflow():
    code = (
        "import sys, cornerjax.data.source, cornerjax.data.crop, cornerjax.data.device, cornerjax.data.order\n"
        "import cornerjax.data.shapes, cornerjax.targets, cornerjax.ops.pixels\n"
        "sys.exit('tensorflow' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["bccd", "coco_mini"])
def test_real_data(real_data, name):
    data = Data(root=str(real_data / "data" / name), batch=4, crop_px=(255, 255))
    source = open_source(data, "train")
    config = CornerConfig(data=data, model=CornerModel(num_classes=len(source.class_names)))
    for batch in take(source, config, 3):
        assert batch["valid"].any()
        assert np.isfinite(batch["image"]).all()
        assert (batch["tl_heat"] == 1).sum() <= batch["valid"].sum()
