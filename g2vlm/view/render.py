"""Coloured points as a picture, without a graphics card: each covers a small square, and the nearest one shows."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8

NEAREST = 1e-3
"""Depth, as a part of the points' mean depth, before which nothing is drawn."""

WIDEST = 6
"""Pixels along the side of a square, at most."""


@dataclass(frozen=True)
class Lens:
    """A camera that looks along its middle. focal: in pixels. size: (height, width)."""

    focal: float
    size: tuple[int, int]


def render_points(
    positions: Float[np.ndarray, "points 3"],
    colours: UInt8[np.ndarray, "points 3"],
    pose: Float[np.ndarray, "4 4"],
    lens: Lens,
    *,
    sides: Float[np.ndarray, " points"],
) -> UInt8[np.ndarray, "height width 3"]:
    """RGB of points on white, seen from a camera-to-world pose (OpenCV axes).

    sides: of the points' squares, in units of the scene; they are drawn at least one pixel wide, and never wider than 6.
    """
    height, width = lens.size
    local = (positions - pose[:3, 3]) @ pose[:3, :3]
    depth = local[:, 2].astype(np.float32)
    ahead = depth > NEAREST * np.abs(depth).mean() if len(depth) else depth > 0
    local, depth, colours, sides = local[ahead], depth[ahead], colours[ahead], sides[ahead]
    centres = lens.focal * local[:, :2] / local[:, 2:] + (width / 2, height / 2)
    widths = np.clip((lens.focal * sides / depth).round(), 1, WIDEST).astype(np.int64)
    corners = np.floor(centres - (widths[:, None] - 1) / 2).astype(np.int64)
    nearest = np.full(height * width, EMPTY)
    keys = _keys(depth)
    for down in range(WIDEST):
        for along in range(WIDEST):
            x, y = corners[:, 0] + along, corners[:, 1] + down
            drawn = (widths > max(down, along)) & _inside(x, y, lens.size)
            np.minimum.at(nearest, y[drawn] * width + x[drawn], keys[drawn])
    picture = np.full((height * width, 3), 255, np.uint8)
    is_covered = nearest != EMPTY
    picture[is_covered] = colours[(nearest[is_covered] & POINT).astype(np.int64)]
    return picture.reshape(height, width, 3)


EMPTY, POINT = np.uint64(2**64 - 1), np.uint64(2**32 - 1)


def _keys(depth: Float[np.ndarray, " points"]) -> np.ndarray:
    """Depth and number of each point in one integer: positive floats are in the order of their bits."""
    return depth.view(np.uint32).astype(np.uint64) << np.uint64(32) | np.arange(len(depth), dtype=np.uint64)


def _inside(x: np.ndarray, y: np.ndarray, size: tuple[int, int]) -> Bool[np.ndarray, " points"]:
    return (x >= 0) & (x < size[1]) & (y >= 0) & (y < size[0])
