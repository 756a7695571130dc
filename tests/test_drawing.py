"""Pictures: sizes, colours, what is where."""

import numpy as np
import pytest

from cornerjax.drawing import class_colour, draw_boxes, sheet

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
