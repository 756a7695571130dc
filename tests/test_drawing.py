"""Pictures: sizes, colours, what is where."""

import numpy as np
import pytest

from cornerjax.drawing import (
    TINT,
    class_colour,
    draw_boxes,
    draw_crops,
    draw_groups,
    draw_heat,
    draw_keypoints,
    draw_layers,
    draw_polygons,
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


def test_every_layer_has_a_colour_over_a_darker_image():
    image, maps = np.full((20, 30, 3), 100, np.uint8), np.zeros((4, 20, 30), np.float32)
    maps[2, 4:8, 5:9] = maps[3, 12:16, 5:9] = 1
    picture = draw_layers(image, maps)
    assert (picture[0, 0] == 50).all()
    assert tuple(picture[5, 6]) == (5, 5, 234)  # nine tenths red
    assert tuple(picture[13, 6]) == (234, 149, 5)  # the first colour again
    assert (image == 100).all()


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


CORNER, CROSS = ((1, 0), (0, 1)), ((1, 0), (-1, 0), (0, 1), (0, -1))


@pytest.mark.parametrize("strokes", [CORNER, tuple((-x, -y) for x, y in CORNER), CROSS])
def test_a_keypoint_has_its_strokes_as_long_as_it_is_sure(strokes):
    image = np.zeros((200, 300, 3), np.uint8)
    points = np.array([[150, 100]], np.float32)

    def drawn(score):
        return draw_keypoints(image, points, np.array([score], np.float32), np.array([2]), strokes)

    picture, colour = drawn(0.9), class_colour(2)
    for x, y in CROSS:
        assert (tuple(picture[100 + 12 * y, 150 + 12 * x]) == colour) == ((x, y) in strokes)
    assert (drawn(0.1) == colour).all(-1).sum() < (picture == colour).all(-1).sum()
    assert not image.any()


@pytest.mark.parametrize("sign", [1, -1])
def test_the_score_of_a_corner_stands_outside_of_its_box(sign):
    picture = draw_keypoints(
        np.full((200, 300, 3), 255, np.uint8),
        np.array([[150, 100]], np.float32),
        np.array([0.9], np.float32),
        np.array([2]),
        [(sign * x, sign * y) for x, y in CORNER],
    )
    columns = np.nonzero((picture == 40).all(-1).any(0))[0]  # of the plate that the text stands on
    assert len(columns) > 10
    assert (columns < 150).all() if sign == 1 else (columns > 150).all()


def test_similar_values_have_similar_colours_and_groups_lines():
    image = np.zeros((300, 300, 3), np.uint8)
    points = np.array([[20, 20], [20, 200], [220, 90], [220, 280]], np.float32)
    values = np.array([-1.0, 2.0, -0.9, 2.1], np.float32)
    picture = draw_groups(image, points, values, [(0, 2)]).astype(int)
    first, second, like_first, like_second = (picture[y, x] for x, y in points.astype(int))
    for one, alike, other in ((first, like_first, like_second), (second, like_second, like_first)):
        assert np.abs(one - alike).max() < 60
        assert np.abs(one - other).max() > 100
    assert picture[37, 70].any()  # on the line of the group
    assert not picture[220, 70].any()  # the other two are none
    assert draw_groups(image, points, values, [(1, 0, 3)])[110, 20].any()  # from the first of a group to all others
    assert not draw_groups(image, np.zeros((0, 2), np.float32), np.zeros(0, np.float32), []).any()


def test_polygons_are_tinted_inside_wherever_they_lie():
    image = np.full((40, 60, 3), 100, np.uint8)
    outlines = np.array([[[5, 5], [25, 5], [25, 25], [5, 25]], [[50, -9], [70, -9], [70, 9], [50, 9]]], np.float32)
    beyond = outlines[:1] + 100
    picture = draw_polygons(image, np.concatenate([outlines, beyond]), np.array([0, 1, 2]))
    for label, (rows, columns) in enumerate(((slice(10, 20), slice(10, 20)), (slice(0, 6), slice(54, 60)))):
        tinted = (1 - TINT) * 100 + TINT * np.array(class_colour(label))
        np.testing.assert_allclose(
            picture[rows, columns], np.broadcast_to(tinted, picture[rows, columns].shape), atol=1
        )
    assert (picture[30:] == 100).all()
    assert (picture[:, 30:45] == 100).all()
    assert (image == 100).all()
