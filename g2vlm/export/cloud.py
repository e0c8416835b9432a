"""The points of a reconstruction that are worth writing, as one coloured cloud."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8

from g2vlm.records import Reconstruction


@dataclass(frozen=True)
class Selection:
    """Which predicted pixels become points.

    max_points: beyond it a random subset is kept, drawn by `seed`; None keeps all.
    min_confidence: in [0, 1].
    keep_edges: also keep pixels at depth edges, which tend to hang between two surfaces.
    """

    max_points: int | None = None
    min_confidence: float = 0.0
    keep_edges: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_points is not None and self.max_points < 1:
            raise ValueError(f"max_points is {self.max_points}; give at least 1")
        if not 0 <= self.min_confidence <= 1:
            raise ValueError(f"min_confidence is {self.min_confidence}; confidences lie between 0 and 1")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; give 0 or more")


@dataclass(frozen=True)
class Cloud:
    """Points and unit normals in the world frame, colours, and confidence in [0, 1]."""

    positions: Float[np.ndarray, "points 3"]
    normals: Float[np.ndarray, "points 3"]
    colours: UInt8[np.ndarray, "points 3"]
    confidence: Float[np.ndarray, " points"]

    def __len__(self) -> int:
        return len(self.positions)


Pixels = list[Bool[np.ndarray, "_height _width"]]
"""Per view, which pixels were chosen."""


def finite_pixels(reconstruction: Reconstruction, view: int) -> Bool[np.ndarray, "height width"]:
    """Where a depth and a point were predicted, depth edges included."""
    depth, points = reconstruction.depth[view], reconstruction.points[view]
    return np.isfinite(depth) & (depth > 0) & np.isfinite(points).all(-1)


def confident_pixels(reconstruction: Reconstruction, selection: Selection) -> Pixels:
    """All that are certain enough, however many; ValueError if there is none."""
    views = range(len(reconstruction.names))
    valid = [
        finite_pixels(reconstruction, view) if selection.keep_edges else reconstruction.mask[view] for view in views
    ]
    chosen = [v & (c >= selection.min_confidence) for v, c in zip(valid, reconstruction.confidence, strict=True)]
    _require_points(reconstruction, valid, chosen, selection.min_confidence)
    return chosen


def selected_pixels(reconstruction: Reconstruction, selection: Selection) -> Pixels:
    """As `confident_pixels`, but no more than the selection wants."""
    chosen = confident_pixels(reconstruction, selection)
    total = sum(int(pixels.sum()) for pixels in chosen)
    if selection.max_points is None or total <= selection.max_points:
        return chosen
    is_kept = np.zeros(total, bool)
    is_kept[np.random.default_rng(selection.seed).choice(total, selection.max_points, replace=False)] = True
    starts = np.cumsum([int(pixels.sum()) for pixels in chosen])[:-1]
    for pixels, kept in zip(chosen, np.split(is_kept, starts), strict=True):
        pixels[pixels] = kept
    return chosen


def _require_points(reconstruction: Reconstruction, valid: Pixels, chosen: Pixels, min_confidence: float) -> None:
    if any(pixels.any() for pixels in chosen):
        return
    if not any(pixels.any() for pixels in valid):
        raise ValueError(
            "every predicted point is not finite or at a depth edge; keep edges, or leave formats of points out"
        )
    highest = max(c[v].max() for c, v in zip(reconstruction.confidence, valid, strict=True) if v.any())
    raise ValueError(f"no point reaches min_confidence {min_confidence}; the highest is {highest:.3f}, so ask for less")


def cloud_of(reconstruction: Reconstruction, pixels: Pixels) -> Cloud:
    """The chosen points in order of view and pixel."""
    return Cloud(
        positions=_chosen(reconstruction.points, pixels),
        normals=world_normals(reconstruction, pixels),
        colours=_chosen(reconstruction.images, pixels),
        confidence=_chosen(reconstruction.confidence, pixels),
    )


def world_normals(reconstruction: Reconstruction, pixels: Pixels) -> Float[np.ndarray, "points 3"]:
    """Of the chosen points, in the world frame, in order of view and pixel."""
    turned = [
        normals[chosen] @ pose[:3, :3].T
        for normals, pose, chosen in zip(reconstruction.normals, reconstruction.poses, pixels, strict=True)
    ]
    return np.concatenate(turned)


def _chosen(maps: tuple[np.ndarray, ...], pixels: Pixels) -> np.ndarray:
    return np.concatenate([values[chosen] for values, chosen in zip(maps, pixels, strict=True)])
