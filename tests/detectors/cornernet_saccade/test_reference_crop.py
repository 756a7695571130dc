"""CornerNet-Saccade's training crop against the recorded one, and where the original would stop."""

import dataclasses
import functools

import numpy as np
import pytest

from cornerjax.data.crop import crop_example, draw, random_crop
from cornerjax.data.geometry import mirrored, overlap
from cornerjax.detectors.cornernet_saccade.crop import crop_around_reference, crop_middle, cut_out, reference_scale
from cornerjax.detectors.cornernet_saccade.options import SaccadeConfig, SaccadeData, SaccadeLegacy
from cornerjax.legacy import switched

RECORD = "augment/crop_and_saccade.npz"
DATA = SaccadeData(crop_px=(255, 255), crop_scales=(0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1))
CLEAN = SaccadeLegacy()
ORIGINAL = switched(CLEAN, on=True)


def objects_of(boxes):
    return {"boxes": np.array(boxes, np.float32).reshape(-1, 4), "classes": np.arange(len(boxes), dtype=np.int32)}


def uniform(value, low, high):
    """The number in [0, 1) that gives a recorded randint(low, high)."""
    return (value - low + 0.5) / (high - low)


def recorded_draws(recorded, case):
    """The draws of a recorded crop, as crop_middle takes them."""
    draws, bounds = (recorded[f"{case}_{name}_f64"].tolist() for name in ("draws", "draw_args"))
    near, *numbers = draws[0], *(uniform(v, *b) for v, b in zip(draws[1:], bounds[1:], strict=True))
    if near > 0.5 and recorded[f"{case}_ind"] >= 0:
        return np.array([near, *numbers, *[0] * (6 - len(numbers))])
    x, y = [*numbers, 0, 0][:2]
    return np.array([near, 0, 0, x, 0, 0, y])


@pytest.mark.parametrize("case", [f"ci{i}" for i in range(7)])
def test_a_cut_around_a_centre(golden, case):
    recorded = golden(RECORD)
    (y, x), size, out = (recorded[f"{case}_{name}"].tolist() for name in ("center", "size", "out_size"))
    around = functools.partial(random_crop, scale=1.0, lost_odd_side=True)
    cut, first = around(recorded["image"], centre=(x, y), crop_px=tuple(size))
    cut, second = around(cut, centre=(size[1] // 2, size[0] // 2), crop_px=tuple(out))
    np.testing.assert_array_equal(cut, recorded[f"{case}_image"])
    np.testing.assert_array_equal(-first.then(second).shift[::-1], recorded[f"{case}_offset"])


@pytest.mark.parametrize("case", [f"cid{i}" for i in range(8)])
def test_a_crop_around_a_reference(golden, case):
    recorded = golden(RECORD)
    image, boxes, i = recorded["image2"], recorded["boxes2"][:, :4], int(recorded[f"{case}_ind"])
    crop_px = (int(recorded[f"{case}_input_size"]),) * 2
    middle = crop_middle(image.shape[:2], boxes[i] if i >= 0 else None, crop_px, recorded_draws(recorded, case))
    as_original = {"lost_odd_side": True, "clip_to_last_pixel": True}
    every = {"boxes": boxes, "row": np.arange(4)}
    crop, objects, move, _ = cut_out(image, every, image.shape[:2], middle, crop_px, **as_original)
    np.testing.assert_array_equal(objects["row"], recorded[f"{case}_clip_keep"])
    np.testing.assert_array_equal(objects["boxes"], recorded[f"{case}_clipped"][:, :4])
    (x, y), (y1, y2, x1, x2) = np.rint(boxes[0, :2] - recorded[f"{case}_boxes"][0, :2]), recorded[f"{case}_border"]
    np.testing.assert_array_equal(move.shift, [-x, -y])
    want = np.zeros((*crop_px, 3), np.uint8)
    want[int(y1) : int(y2), int(x1) : int(x2)] = image[int(y1 + y) : int(y2 + y), int(x1 + x) : int(x2 + x)]
    np.testing.assert_array_equal(crop, want)
    np.testing.assert_array_equal(crop, recorded.get(f"{case}_image", want))


@pytest.mark.parametrize("case", [0, 2])
def test_a_resized_image(golden, case):
    recorded = golden(RECORD)
    image, want = recorded["image"], recorded[f"scale{case}_image"]
    draws = dataclasses.replace(draw(np.random.default_rng(0), 60, 80, DATA), scale=recorded[f"scale{case}_f64"].item())
    crop, *_ = crop_around_reference(image, objects_of([]), draws, SaccadeConfig(data=DATA, legacy=ORIGINAL))
    h, w = want.shape[:2]
    padded = np.zeros((255, 255, 3), int)
    padded[127 - h // 2 :, 127 - w // 2 :][:h, :w] = want
    assert abs(crop - padded).max() <= 1


def test_overlap(golden):
    recorded = golden(RECORD)
    part = overlap(recorded["overlap_in_a"][:, :4], recorded["boxes2"][:, :4])
    np.testing.assert_allclose(part, recorded["overlap_out"], rtol=2e-7)


def drawn(own, scale=1.0):
    return dataclasses.replace(draw(np.random.default_rng(0), 100, 100, DATA), scale=scale, own=np.array(own, float))


@pytest.mark.parametrize(
    ("side", "low", "high"),
    [(3, 16, 32), (16, 16, 32), (32, 16, 32), (32.5, 32, 96), (96, 32, 96), (96.5, 96, 254), (5000, 96, 254)],
)
def test_a_reference_gets_a_size_from_its_own_range(side, low, high):
    box = np.array([10, 10, 12, 10 + side], np.float32)
    for u, size in ((0.0, low), (np.nextafter(1, 0), high)):
        assert reference_scale(box, float(u), DATA) * side == pytest.approx(size)
    count = high - low + 1
    sizes = {round(reference_scale(box, (i + 0.5) / count, DATA) * side) for i in range(count)}
    assert sizes == set(range(low, high + 1))


@pytest.mark.parametrize(
    ("longer", "least", "size", "side", "resized"),
    [(34, 32, 35, 612, 630), (75, 32, 89, 375, 444), (142, 96, 150, 426, 450), (9, 16, 23, 333, 851)],
)
def test_float32_decides_to_how_many_pixels_an_image_is_resized(longer, least, size, side, resized):
    """The figures are those of the original's formula, size / longer and int(side * scale), with its types."""
    most = {16: 32, 32: 96, 96: 254}[least]
    box = np.array([0, 0, longer, longer / 2], np.float32)
    scale = reference_scale(box, (size - least + 0.5) / (most - least + 1), DATA)
    assert int(side * scale) == resized != int(side * (size / longer))


@pytest.mark.parametrize(
    ("ends", "size", "middle"), [((164, 205), 96, 432), ((175, 217), 57, 266), ((123, 205), 87, 174)]
)
def test_float32_decides_where_the_middle_of_a_reference_lies(ends, size, middle):
    box = np.array([ends[0], 0, ends[1], 9], np.float32)
    reference = box * (size / (box[2] - box[0]))
    assert crop_middle((2000, 2000), reference, (255, 255), np.array([0.9, *[0.0] * 6]))[1] == middle


def test_half_of_an_object_is_half_of_it():
    """A product of two ratios would make it more, and the object valid."""
    shown, whole = np.array([[0, 0, 37, 65]], np.float32), np.array([[0, 0, 65, 74]], np.float32)
    assert overlap(shown, whole).tolist() == [0.5]


@pytest.mark.parametrize(
    ("crop_px", "least", "most"), [((511, 383), 96, 256), ((255, 191), 96, 190), ((63, 63), 62, 62), ((9, 31), 8, 8)]
)
def test_a_reference_fits_into_a_crop_of_any_size(crop_px, least, most):
    data = dataclasses.replace(DATA, crop_px=crop_px)
    box = np.array([0, 0, 200, 100], np.float32)
    assert [round(reference_scale(box, u, data) * 200) for u in (0.0, 0.9999)] == [least, most]


def test_a_size_is_never_nothing():
    data = dataclasses.replace(DATA, min_object_px=0)
    assert reference_scale(np.array([0, 0, 20, 10], np.float32), 0.0, data) == np.float32(1 / 20)


def test_an_object_smaller_than_a_pixel_is_magnified_as_one_of_a_pixel():
    assert reference_scale(np.array([5, 5, 5 + 1e-6, 5], np.float32), 0.0, DATA) == 16


@pytest.mark.parametrize("near", [0.25, 0.75])
def test_the_crop_contains_its_reference(near):
    rng = np.random.default_rng(0)
    for _ in range(200):
        size = tuple(rng.integers(20, 900, 2).tolist())
        corners = np.sort(rng.uniform(0, np.array(size) - 1, (2, 2)), 0)
        corners[1] = np.minimum(corners[1], corners[0] + 200)
        box = corners[:, ::-1].ravel().astype(np.float32)
        middle = crop_middle(size, box, (255, 255), np.array([near, *rng.random(6)]))
        for axis in range(2):
            first, last = corners[:, axis] - middle[axis] + 127
            if size[axis] <= 255:
                assert middle[axis] == size[axis] // 2
            elif near < 0.5:
                assert 0 <= first <= last < 256  # whole pixels: up to one is lost
            else:
                assert abs((first + last) / 2 - 127) <= 15


def test_without_a_reference_the_crop_lies_anywhere_in_the_image():
    ends = [crop_middle((300, 400), None, (255, 255), np.array([0.9, 0, 0, u, 0, 0, u])) for u in (0.0, 0.9999)]
    assert ends == [(127, 127), (300 - 255 + 127, 400 - 255 + 127)]


def test_a_reference_in_the_last_fraction_of_a_pixel_is_no_error():
    box, draws = np.array([499.9, 10, 501.8, 30], np.float32), np.array([0.9, *[0] * 6])
    assert crop_middle((500, 500), box, (255, 255), draws) == (20, 500)


@pytest.mark.parametrize(("legacy", "end"), [(CLEAN, 400), (ORIGINAL, 398)], ids=["clean", "original"])
def test_overlap_is_the_part_of_the_whole_box(legacy, end):
    image = np.full((200, 200, 3), 9, np.uint8)
    boxes = [[40, 40, 80, 80], [180, 60, 220, 100], [300, 300, 310, 310], [0, 0, 1, 1]]
    objects = objects_of(boxes) | {"name": np.array(["whole", "half", "outside", "tiny"])}
    config = SaccadeConfig(data=dataclasses.replace(DATA, crop_px=(401, 401)), legacy=legacy)
    _, kept, move, _ = crop_around_reference(image, objects, drawn([0, (80 - 32 + 0.5) / 65, *[0.0] * 7]), config)
    assert (move.scale.tolist(), move.shift.tolist()) == ([2, 2], [0, 0])
    assert kept["name"].tolist() == ["whole", "half", "tiny"]
    assert kept["boxes"][0].tolist() == [80, 80, 160, 160]
    np.testing.assert_allclose(kept["boxes"][1], [360, 120, end, 200])
    np.testing.assert_allclose(kept["overlap"], [1, (end - 360) / 80, 1])
    assert kept["overlap"].dtype == np.float32
    assert set(kept) == {"boxes", "classes", "name", "overlap"}
    np.testing.assert_array_equal(mirrored(kept, 401)["overlap"], kept["overlap"])


@pytest.mark.parametrize("lost", [False, True])
def test_an_odd_side_is_filled_or_loses_its_last_column_as_in_the_original(lost):
    image = np.full((90, 100, 3), 200, np.uint8)
    crop, *_ = cut_out(image, objects_of([]), (90, 100), (40, 50), (31, 33), lost_odd_side=lost)
    assert crop[:-1, :-1].all()
    assert bool(crop[:, -1].any()) == bool(crop[-1].any()) == (not lost)


@pytest.mark.parametrize(("legacy", "last"), [(CLEAN, (95, 63)), (ORIGINAL, (94, 62))], ids=["clean", "original"])
@pytest.mark.parametrize("size", [(1, 1), (3, 200), (500, 40), (900, 700)])
def test_an_image_of_any_size_gives_a_crop(size, legacy, last):
    config = SaccadeConfig(data=SaccadeData(crop_px=(63, 95), crop_scales=(0.01, 1.1)), legacy=legacy)
    image = np.full((*size, 3), 200, np.uint8)
    h, w = size
    sets: tuple[list[list[float]], ...] = (
        [],
        [[0, 0, w, h]],
        [[-1.6e7, -1.6e7, 1.6e7, 1.6e7]],
        [[w - 1.5, h - 1.5, w, h], [-5, -5, 2 * w, 2 * h]],
        [[w + 5, 0, w + 9, 4]],
    )
    for i, boxes in enumerate(sets * 5):
        draws = draw(np.random.default_rng(i), h, w, config.data)
        crop, kept, *_ = crop_around_reference(image, objects_of(boxes), draws, config)
        assert crop.shape == (63, 95, 3)
        assert crop.any()
        assert (kept["boxes"] >= 0).all()
        assert (kept["boxes"] <= last * 2).all()
        assert ((kept["overlap"] >= 0) & (kept["overlap"] <= 1.0001)).all()
        assert len({len(values) for values in kept.values()}) == 1


def test_a_tiny_reference_does_not_make_the_whole_image_large():
    image = np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), dtype=np.uint8)
    box, draws = objects_of([[1000, 700, 1001, 701]]), drawn([0, 0.99, *[0.5] * 7])
    crop, kept, *_ = crop_around_reference(image, box, draws, SaccadeConfig(data=DATA))
    assert (kept["boxes"][0, 2:] - kept["boxes"][0, :2]).tolist() == [32, 32]
    centre = kept["boxes"][0].reshape(2, 2).mean(0).astype(int)
    assert abs(crop[centre[1], centre[0]].astype(int) - image[700, 1000]).max() <= 8


def test_without_random_crop_it_is_the_shared_stretch():
    config = SaccadeConfig(data=SaccadeData(crop_px=(63, 63), random_crop=False))
    image = np.random.default_rng(0).integers(0, 256, (90, 80, 3), dtype=np.uint8)
    crops = (crop_around_reference, crop_example)
    ours, shared = (crop(image, objects_of([[9, 9, 40, 50]]), drawn([0.5] * 9), config) for crop in crops)
    np.testing.assert_array_equal(ours.image, shared.image)
    np.testing.assert_array_equal(ours.objects["boxes"], shared.objects["boxes"])
    np.testing.assert_array_equal(ours.affine, shared.affine)


def test_the_draws_of_the_shared_crop_stay_as_they_were():
    rng = np.random.default_rng(5)
    draws = draw(rng, 300, 400, DATA)
    before = np.random.default_rng(5)
    before.integers(len(DATA.crop_scales))
    assert draws.centre == (int(before.integers(128, 272)), int(before.integers(128, 172)))
    before.random(), before.permutation(3), before.uniform(-1, 1, 3), before.standard_normal(3)
    np.testing.assert_array_equal(draws.own, before.random(9))
