"""Points and boxes are said and drawn where they are, and refused where they cannot be."""

import numpy as np
import pytest

from g2vlm.marks import COLOURS, check_marks, draw_marks, words_of_marks
from g2vlm.pictures import Photo, semantic_patches
from g2vlm.records import Box, Mark

SIZES = [(120, 160), (168, 126)]
NAMES = ["wide.png", "tall.png"]


def grey_photos() -> list[Photo]:
    return [Photo(name, np.full((*size, 3), 128, np.uint8)) for name, size in zip(NAMES, SIZES, strict=True)]


def coloured(photo: Photo, colour: str) -> np.ndarray:
    return (photo.rgb == COLOURS[colour]).all(-1)


# In words


def test_points_are_said_before_boxes_and_each_has_its_own_colour():
    marks = [Mark(1, 46.7, 137.0, "A"), Mark(0, 8.5, 72.5, "B")]
    boxes = [Box(0, 16.0, 24.0, 48.0, 54.5, "sofa")]
    assert words_of_marks(marks, boxes, SIZES) == (
        "A (red) in view 1 at 37 81. B (blue) in view 0 at 5 60. sofa (green) in view 0 from 10 20 to 30 45. "
    )


def test_no_mark_is_no_word():
    assert words_of_marks([], [], SIZES) == ""


def test_percents_never_reach_100():
    assert words_of_marks([], [Box(0, 0, 0, 160, 120, "all")], SIZES) == "all (red) in view 0 from 0 0 to 99 99. "


# Drawn


def test_a_disc_is_centred_on_its_point():
    photos = draw_marks(grey_photos(), [Mark(0, 40.0, 60.5, "A")], [])
    rows, columns = coloured(photos[0], "red").nonzero()
    assert columns.mean() + 0.5 == pytest.approx(40.0)
    assert rows.mean() + 0.5 == pytest.approx(60.5)
    assert len(rows) == pytest.approx(np.pi * 0.025**2 * 160**2, rel=0.3)
    assert (photos[0].rgb != 128).any(-1).sum() > len(rows)  # the rim is mixed


def test_only_photos_with_marks_change_and_the_given_ones_never_do():
    given = grey_photos()
    drawn = draw_marks(given, [Mark(1, 60.0, 60.0, "A")], [])
    assert drawn[0] is given[0]
    assert (given[1].rgb == 128).all()
    assert coloured(drawn[1], "red").any()
    assert [photo.name for photo in drawn] == NAMES


def test_a_box_is_an_outline_in_the_next_colour_and_its_inside_is_untouched():
    drawn = draw_marks(grey_photos(), [Mark(0, 10.0, 10.0, "A")], [Box(0, 40, 30, 100, 90, "B")])[0]
    rows, columns = coloured(drawn, "blue").nonzero()
    assert (columns.min(), columns.max() + 1, rows.min(), rows.max() + 1) == (39, 101, 29, 91)
    assert (drawn.rgb[32:88, 42:98] == 128).all()


@pytest.mark.parametrize("place", [(0.0, 0.0), (159.9, 119.9), (0.0, 119.0)])
def test_a_disc_at_the_edge_is_cut_off(place):
    drawn = draw_marks(grey_photos(), [Mark(0, *place, "A")], [])[0]
    assert 5 < coloured(drawn, "red").sum() < 30


def test_a_disc_fills_a_token_of_the_vision_tower_after_the_photo_is_made_small():
    photo = Photo("large", np.full((1200, 1680, 3), 128, np.uint8))
    marked = draw_marks([photo], [Mark(0, 840.0, 600.0, "A")], [])
    plain, seen = (semantic_patches([p], max_pixels=168 * 168)[0] for p in (photo, *marked))
    assert ((plain - seen).abs().amax(-1) > 1).any()


# Refused


@pytest.mark.parametrize(
    ("marks", "boxes", "told"),
    [
        ([Mark(7, 1, 1, "A")], [], "view 7 of point A: there are 2 views, 0 to 1"),
        ([Mark(-1, 1, 1, "A")], [], "view -1 of point A: there are 2 views"),
        ([], [Box(2, 0, 0, 1, 1, "B")], "view 2 of box B"),
        ([Mark(0, 160, 3, "A")], [], r"point A in view 0 \(wide.png\) lies at x 160, y 3, outside its 160 x 120"),
        ([Mark(1, 3, -0.5, "A")], [], r"x 3, y -0.5, outside its 126 x 168"),
        ([Mark(0, float("nan"), 3, "A")], [], "x nan"),
        ([], [Box(0, 0, 0, 161, 4, "B")], "to x 161, y 4, outside its 160 x 120"),
        ([], [Box(0, 5, 5, 5, 9, "B")], "left < right"),
        ([Mark(0, 1, 1, "A"), Mark(1, 1, 1, "A")], [], "2 points or boxes are named A"),
        ([Mark(0, 1, 1, " ")], [], "no name"),
        ([Mark(0, 1, 1, f"{i}") for i in range(7)], [], "7 points and boxes; there are colours for 6"),
    ],
)
def test_what_cannot_be_marked_is_refused_in_one_line(marks, boxes, told):
    with pytest.raises(ValueError, match=told) as refused:
        check_marks(marks, boxes, SIZES, NAMES)
    assert "\n" not in str(refused.value)


def test_marks_on_one_photo_and_on_none():
    with pytest.raises(ValueError, match="view 1 of point A: there is only view 0"):
        check_marks([Mark(1, 1, 1, "A")], [], SIZES[:1], NAMES[:1])
    with pytest.raises(ValueError, match="there is no view"):
        check_marks([Mark(0, 1, 1, "A")], [], [], [])


def test_all_that_lies_inside_is_accepted():
    marks = [Mark(0, 0, 0, "A"), Mark(1, 125.9, 167.9, "B")]
    check_marks(marks, [Box(0, 0, 0, 160, 120, "C")], SIZES, NAMES)
