"""Pictures: sizes, colours, what is where."""

import numpy as np
import pytest

from cornerjax.drawing import (
    class_colour,
    draw_attention,
    draw_boxes,
    draw_corners,
    draw_crops,
    draw_heat,
    draw_tags,
    sheet,
)

NONE = np.zeros((0, 4), np.float32), np.zeros(0, np.int32)


@pytest.mark.parametrize(("side", "factor"), [(8, 60), (127, 4), (640, 1), (4000, 1)])
def test_small_images_are_enlarged(side, factor):
    image = np.full((side, side // 2, 3), 7, np.uint8)
    picture = draw_boxes(image, *NONE, class_names=["a"])
    assert picture.shape == (side * factor, side // 2 * factor, 3)
    assert (picture == 7).all()


def test_a_box_has_the_colour_of_its_class_and_the_given_image_stays():
    image = np.zeros((600, 600, 3), np.uint8)
    boxes = np.array([[100, 200, 400, 500]], np.float32)
    picture = draw_boxes(image, boxes, np.array([3]), class_names=list("abcd"), scores=np.array([0.5]))
    assert not image.any()
    for y, x in [(300, 100), (300, 400), (200, 390), (500, 200)]:
        assert tuple(picture[y, x]) == class_colour(3)
    assert not picture[300, 250].any()


@pytest.mark.parametrize("box", [[0, 0, 20, 20], [590, 590, 600, 600], [-50, -50, 700, 700], [1, 1, 1, 1]])
def test_text_stays_inside_the_picture(box):
    image = np.zeros((600, 600, 3), np.uint8)
    plain = draw_boxes(image, np.array([box], np.float32), np.array([0]), class_names=["a"])
    named = draw_boxes(image, np.array([box], np.float32), np.array([0]), class_names=["a rather long name"])
    assert (named != plain).any()


def test_names_that_the_font_lacks_are_replaced():
    draw_boxes(np.zeros((9, 9, 3), np.uint8), np.ones((1, 4), np.float32), np.array([0]), class_names=["猫"])


def test_colours_of_classes_differ():
    colours = np.array([class_colour(i) for i in range(80)], int)
    apart = np.abs(colours[:, None] - colours).max(-1)
    assert apart[~np.eye(80, dtype=bool)].min() > 3
    assert (apart[:8, :8][~np.eye(8, dtype=bool)] > 60).all()


def test_a_sheet_holds_every_image_whole():
    images = [np.full((10 + i, 20 - i, 3), 10 * i + 1, np.uint8) for i in range(5)]
    picture = sheet(images, gap_px=4)  # three columns
    assert picture.shape == (12 + 4 + 14, 20 + 19 + 18 + 8, 3)
    for i, image in enumerate(images):
        assert (picture == 10 * i + 1).all(-1).sum() == image.shape[0] * image.shape[1]
    assert sheet(images[:2], columns=9).shape == (11, 43 + 4, 3)
    with pytest.raises(ValueError, match="at least one image"):
        sheet([])


def test_a_picture_may_keep_the_size_of_the_image():
    image = np.full((40, 60, 3), 7, np.uint8)
    picture = draw_boxes(image, np.array([[8, 8, 40, 30]], np.float32), np.array([0]), class_names=["a"], enlarge=False)
    assert picture.shape == image.shape
    assert (picture != image).any()
    assert (image == 7).all()


def test_attention_is_a_colour_a_map_over_a_darker_image():
    image, maps = np.full((20, 30, 3), 100, np.uint8), np.zeros((3, 20, 30), np.float32)
    maps[2, 4:8, 5:9] = 1
    picture = draw_attention(image, maps)
    assert (picture[0, 0] == 50).all()
    assert tuple(picture[5, 6]) == (5, 5, 234)  # nine tenths red


def test_heat_is_stretched_over_the_image_in_squares():
    image, heat = np.full((40, 60, 3), 200, np.uint8), np.array([[0, 0.5], [1, 0]], np.float32)
    picture = draw_heat(image, [heat], [(0, 0, 200)])
    assert (picture[:20, :30] == 100).all()
    assert (picture[:20, 30:] == (55, 55, 145)).all()
    assert (picture[20:, :30] == (10, 10, 190)).all()
    assert (draw_heat(image, [], []) == 100).all()
    assert (image == 200).all()


def test_crops_are_seen_on_any_ground_and_may_reach_beyond_the_image():
    for level in (0, 128, 255):
        image = np.full((200, 300, 3), level, np.uint8)
        picture = draw_crops(image, np.array([[50, 60, 150, 400]], np.float32))
        assert np.ptp(picture[120, 46:55].astype(int)) > 100
        assert (picture[120, 60:140] == level).all()


@pytest.mark.parametrize("bottom_right", [False, True])
def test_a_corners_strokes_lie_along_its_box(bottom_right):
    image = np.zeros((200, 300, 3), np.uint8)
    options = {"bottom_right": bottom_right}
    point, sign = np.array([[150, 100]], np.float32), -1 if bottom_right else 1
    picture = draw_corners(image, point, np.array([0.9], np.float32), np.array([2]), **options)
    colour = class_colour(2)
    assert tuple(picture[100, 150 + sign * 12]) == tuple(picture[100 + sign * 12, 150]) == colour
    assert not (picture[100, 150 - sign * 12] == colour).all()
    faint = draw_corners(image, point, np.array([0.1], np.float32), np.array([2]), **options)
    assert (faint == colour).all(-1).sum() < (picture == colour).all(-1).sum()


def test_similar_tags_have_similar_colours_and_pairs_a_line():
    image = np.zeros((300, 300, 3), np.uint8)
    first = np.array([[20, 20], [20, 200]], np.float32), np.array([-1.0, 2.0], np.float32)
    second = np.array([[220, 90], [220, 280]], np.float32), np.array([-0.9, 2.1], np.float32)
    picture = draw_tags(image, first, second, [(0, 0)]).astype(int)
    dots = [[picture[y, x] for x, y in points.astype(int)] for points in (first[0], second[0])]
    for i in range(2):
        assert np.abs(dots[0][i] - dots[1][i]).max() < 60
        assert np.abs(dots[0][i] - dots[1][1 - i]).max() > 100
    assert picture[37, 70].any()  # on the line of the pair
    assert not picture[220, 70].any()  # the other two are none
    none = np.zeros((0, 2), np.float32), np.zeros(0, np.float32)
    assert not draw_tags(image, none, none, []).any()
