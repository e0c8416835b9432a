"""Surfaces from depth grids: two triangles between four neighbouring pixels, none across a depth edge."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from g2vlm.export.cloud import Cloud, Pixels, cloud_of
from g2vlm.records import Reconstruction

LARGEST_STEP = 0.06
"""Of the nearer depth: a triangle at a depth edge that spans more is left out."""


@dataclass(frozen=True)
class Mesh:
    """Triangles of a cloud's points, numbered; seen from the camera their corners go round anticlockwise."""

    vertices: Cloud
    faces: Int[np.ndarray, "faces 3"]


def mesh_of(reconstruction: Reconstruction, pixels: Pixels) -> Mesh:
    """One sheet per view, of the chosen pixels that are in a triangle; sheets are not joined."""
    faces, corners, num_vertices = [], [], 0
    for chosen, mask, depth in zip(pixels, reconstruction.mask, reconstruction.depth, strict=True):
        sheet = _faces(chosen, mask, depth)
        is_corner = np.zeros(depth.size, bool)
        is_corner[sheet] = True
        numbers = num_vertices - 1 + np.cumsum(is_corner)
        faces.append(numbers[sheet])
        corners.append(is_corner.reshape(depth.shape))
        num_vertices += int(is_corner.sum())
    if num_vertices == 0:
        raise ValueError(
            "no four neighbouring pixels are certain enough for a surface; lower min_confidence, or no mesh"
        )
    return Mesh(cloud_of(reconstruction, corners), np.concatenate(faces))


def _faces(
    chosen: Bool[np.ndarray, "height width"],
    mask: Bool[np.ndarray, "height width"],
    depth: Float[np.ndarray, "height width"],
) -> Int[np.ndarray, "faces 3"]:
    """Corners as places in the flattened map."""
    places = np.arange(depth.size).reshape(depth.shape)
    here, right = places[:-1, :-1], places[:-1, 1:]
    down, across = places[1:, :-1], places[1:, 1:]
    triangles = np.stack([np.stack([here, down, right], -1), np.stack([right, down, across], -1)], 2).reshape(-1, 3)
    triangles = triangles[chosen.ravel()[triangles].all(1)]
    depths = depth.ravel()[triangles]
    is_whole = mask.ravel()[triangles].all(1) | (depths.max(1) <= (1 + LARGEST_STEP) * depths.min(1))
    return triangles[is_whole]
