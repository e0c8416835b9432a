"""A coloured point cloud as binary PLY, which MeshLab, CloudCompare, Blender and Open3D open."""

from dataclasses import dataclass

import numpy as np

from g2vlm.export.arrays import finite_pixels
from g2vlm.records import Reconstruction

PLY_TYPES = {"float": "<f4", "uchar": "u1"}
PROPERTIES = {
    **dict.fromkeys(("x", "y", "z", "nx", "ny", "nz"), "float"),
    **dict.fromkeys(("red", "green", "blue"), "uchar"),
    "confidence": "float",
}
POINT = np.dtype([(name, PLY_TYPES[kind]) for name, kind in PROPERTIES.items()])


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


def point_cloud(reconstruction: Reconstruction, selection: Selection) -> np.ndarray:
    """The selected points in order of view and pixel: POINT records, positions and normals in the world frame."""
    valid = finite_pixels(reconstruction) if selection.keep_edges else list(reconstruction.mask)
    kept = [v & (c >= selection.min_confidence) for v, c in zip(valid, reconstruction.confidence, strict=True)]
    _require_points(reconstruction, valid, kept, selection.min_confidence)
    cloud = np.concatenate([_points_of_view(reconstruction, i, pixels) for i, pixels in enumerate(kept)])
    if selection.max_points is None or len(cloud) <= selection.max_points:
        return cloud
    chosen = np.random.default_rng(selection.seed).choice(len(cloud), selection.max_points, replace=False)
    return cloud[np.sort(chosen)]


def _require_points(reconstruction: Reconstruction, valid: list, kept: list, min_confidence: float) -> None:
    if any(pixels.any() for pixels in kept):
        return
    if not any(pixels.any() for pixels in valid):
        raise ValueError(
            "every predicted point is not finite or at a depth edge; keep edges, or leave ply out of the formats"
        )
    highest = max(c[v].max() for c, v in zip(reconstruction.confidence, valid, strict=True) if v.any())
    raise ValueError(f"no point reaches min_confidence {min_confidence}; the highest is {highest:.3f}, so ask for less")


def _points_of_view(reconstruction: Reconstruction, view: int, pixels: np.ndarray) -> np.ndarray:
    rotation = reconstruction.poses[view, :3, :3]
    cloud = np.empty(int(pixels.sum()), POINT)
    cloud["x"], cloud["y"], cloud["z"] = reconstruction.points[view][pixels].T
    cloud["nx"], cloud["ny"], cloud["nz"] = rotation @ reconstruction.normals[view][pixels].T
    cloud["red"], cloud["green"], cloud["blue"] = reconstruction.images[view][pixels].T
    cloud["confidence"] = reconstruction.confidence[view][pixels]
    return cloud


def ply(cloud: np.ndarray, comments: tuple[str, ...] = ()) -> bytes:
    """Little-endian PLY of POINT records; comments are single lines of ASCII."""
    header = [
        "ply",
        "format binary_little_endian 1.0",
        *(f"comment {line}" for line in comments),
        f"element vertex {len(cloud)}",
        *(f"property {kind} {name}" for name, kind in PROPERTIES.items()),
        "end_header",
    ]
    return "\n".join([*header, ""]).encode("ascii") + cloud.tobytes()
