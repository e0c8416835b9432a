"""Points and boxes that a question is about: checked, said in words, and drawn on the pictures of the vision tower."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

from g2vlm.pictures import Photo
from g2vlm.records import Box, Mark

COLOURS = {
    "red": (255, 0, 0),
    "blue": (0, 0, 255),
    "green": (0, 255, 0),
    "yellow": (255, 255, 0),
    "magenta": (255, 0, 255),
    "cyan": (0, 255, 255),
}
"""Of points and then boxes, in their order."""

RADIUS, LEAST_RADIUS = 0.025, 3.0
"""Of a disc: part of the photo's longer side, and least in pixels, so that it is seen after the photo is made small."""

LINE, LEAST_LINE = 0.01, 2.0
"""Width of an outline, likewise."""


def check_marks(
    marks: Sequence[Mark], boxes: Sequence[Box], sizes: Sequence[tuple[int, int]], names: Sequence[str]
) -> None:
    """Raises ValueError for a view that is not there, a place outside its photo, names that do not tell apart, too many.

    sizes, names: (height, width) and name of each photo.
    """
    labels = [mark.name for mark in (*marks, *boxes)]
    if len(labels) > len(COLOURS):
        raise ValueError(f"{len(labels)} points and boxes; there are colours for {len(COLOURS)}: leave some out")
    for label, count in Counter(labels).items():
        if not label.strip():
            raise ValueError("a point or box has no name; give one, as in A")
        if count > 1:
            raise ValueError(f"{count} points or boxes are named {label}; give each a name of its own")
    for mark in marks:
        place, height, width = _place_of(mark, "point", sizes, names)
        if not (0 <= mark.x < width and 0 <= mark.y < height):
            raise ValueError(f"{place} lies at x {mark.x:g}, y {mark.y:g}, outside its {width} x {height} pixels")
    for box in boxes:
        place, height, width = _place_of(box, "box", sizes, names)
        sides = f"{place} goes from x {box.left:g}, y {box.top:g} to x {box.right:g}, y {box.bottom:g}"
        if not (box.left < box.right and box.top < box.bottom):
            raise ValueError(f"{sides}; give left < right and top < bottom")
        if min(box.left, box.top) < 0 or box.right > width or box.bottom > height:
            raise ValueError(f"{sides}, outside its {width} x {height} pixels")


def _place_of(
    mark: Mark | Box, kind: str, sizes: Sequence[tuple[int, int]], names: Sequence[str]
) -> tuple[str, int, int]:
    """What an error begins with, and the height and width of the mark's photo."""
    if not 0 <= mark.view < len(sizes):
        there = f"there are {len(sizes)} views, 0 to {len(sizes) - 1}" if len(sizes) > 1 else "there is only view 0"
        raise ValueError(f"view {mark.view} of {kind} {mark.name}: {there if sizes else 'there is no view'}")
    return f"{kind} {mark.name} in view {mark.view} ({names[mark.view]})", *sizes[mark.view]


def words_of_marks(marks: Sequence[Mark], boxes: Sequence[Box], sizes: Sequence[tuple[int, int]]) -> str:
    """What stands before the question: `"A (red) in view 2 at 37 81. "`, `"B (blue) in view 0 from 10 20 to 30 45. "`.

    Whole percent of the width and of the height, 0 to 99; sizes: (height, width) of each photo.
    """
    colours = iter(COLOURS)
    said = []
    for mark in marks:
        x, y = _percent(mark.x, mark.y, sizes[mark.view])
        said.append(f"{mark.name} ({next(colours)}) in view {mark.view} at {x} {y}. ")
    for box in boxes:
        left, top = _percent(box.left, box.top, sizes[box.view])
        right, bottom = _percent(box.right, box.bottom, sizes[box.view])
        said.append(f"{box.name} ({next(colours)}) in view {box.view} from {left} {top} to {right} {bottom}. ")
    return "".join(said)


def _percent(x: float, y: float, size: tuple[int, int]) -> tuple[int, int]:
    """The far side of a box that touches the photo's edge would be 100 percent: it counts as the last one."""
    height, width = size
    return min(math.floor(100 * x / width), 99), min(math.floor(100 * y / height), 99)


def draw_marks(photos: Sequence[Photo], marks: Sequence[Mark], boxes: Sequence[Box]) -> list[Photo]:
    """Copies of the photos with discs and outlines; photos without marks are handed back as they are."""
    colours = iter(COLOURS.values())
    drawn: dict[int, UInt8[np.ndarray, "_height _width 3"]] = {}
    for mark in (*marks, *boxes):
        pixels = drawn.setdefault(mark.view, photos[mark.view].rgb.copy())
        longer = max(photos[mark.view].size)
        if isinstance(mark, Mark):
            draw_disc(pixels, mark.x, mark.y, next(colours), radius=max(RADIUS * longer, LEAST_RADIUS))
        else:
            sides = (mark.left, mark.top, mark.right, mark.bottom)
            draw_outline(pixels, sides, next(colours), line=max(LINE * longer, LEAST_LINE))
    return [Photo(photo.name, drawn[view]) if view in drawn else photo for view, photo in enumerate(photos)]


def draw_disc(
    pixels: UInt8[np.ndarray, "height width 3"], x: float, y: float, colour: tuple[int, int, int], *, radius: float
) -> None:
    """A filled disc, drawn into `pixels`; what reaches over the edge is cut off."""
    rows, columns, window = _window(pixels, (x - radius, y - radius, x + radius, y + radius))
    _lay_over(window, colour, np.hypot(columns - x, rows - y) - radius)


def draw_outline(
    pixels: UInt8[np.ndarray, "height width 3"],
    sides: tuple[float, float, float, float],
    colour: tuple[int, int, int],
    *,
    line: float,
) -> None:
    """A rectangle's outline, drawn into `pixels`; sides: left, top, right, bottom, in the middle of the line."""
    left, top, right, bottom = sides
    half = line / 2
    rows, columns, window = _window(pixels, (left - half, top - half, right + half, bottom + half))
    beside, beyond = np.maximum(left - columns, columns - right), np.maximum(top - rows, rows - bottom)
    _lay_over(window, colour, np.abs(np.maximum(beside, beyond)) - half)


def _window(
    pixels: UInt8[np.ndarray, "height width 3"], sides: tuple[float, float, float, float]
) -> tuple[Float[np.ndarray, "_rows 1"], Float[np.ndarray, "1 _columns"], UInt8[np.ndarray, "_rows _columns 3"]]:
    """The pixels that a shape may touch, and where the centres of their rows and columns lie."""
    height, width = pixels.shape[:2]
    left, top = (max(math.floor(side) - 1, 0) for side in sides[:2])
    right, bottom = (max(math.ceil(side) + 1, 0) for side in sides[2:])
    rows, columns = np.arange(height)[top:bottom, None] + 0.5, np.arange(width)[None, left:right] + 0.5
    return rows, columns, pixels[top:bottom, left:right]


def _lay_over(
    window: UInt8[np.ndarray, "rows columns 3"],
    colour: tuple[int, int, int],
    distance: Float[np.ndarray, "rows columns"],
) -> None:
    """Colour where the distance to a shape is negative, mixed within half a pixel of its edge."""
    cover = np.clip(0.5 - distance, 0, 1)[..., None]
    window[:] = (window * (1 - cover) + np.array(colour) * cover).round().astype(np.uint8)
