"""One reconstruction in another unit and another world: scaled, moved, and with gravity along an axis."""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from g2vlm.geometry.camera import project, rescale_intrinsics
from g2vlm.geometry.pose import invert, transform
from g2vlm.records import Reconstruction

Vector = Float[np.ndarray, "3"]

LEVEL = math.cos(math.radians(15))
"""Least cosine between up and the normal of what may be floor."""

THICKNESS = 0.02
"""Of a floor, as a fraction of the median depth: what lies this close to its height belongs to it."""

SMALLEST_FLOOR = 0.02
"""Fraction of all pixels that a floor must hold."""


@dataclass(frozen=True)
class Floor:
    """The lowest large level plane of a scene: points x of the world with up . x = height. share: of all pixels."""

    up: Vector
    height: float
    share: float

    def above(self, points: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch"]:
        """How far points of the world lie above the floor, in the unit of the scene."""
        return np.asarray(points @ self.up - self.height)


def scaled(reconstruction: Reconstruction, factor: float) -> Reconstruction:
    """Depth, points and camera positions times a positive factor; nothing else changes, `scale` neither."""
    if not (math.isfinite(factor) and factor > 0):
        raise ValueError(f"a scale must be positive and finite, got {factor}")
    poses = reconstruction.poses.copy()
    poses[:, :3, 3] *= factor
    return replace(
        reconstruction,
        depth=tuple(depth * depth.dtype.type(factor) for depth in reconstruction.depth),
        points=tuple(points * points.dtype.type(factor) for points in reconstruction.points),
        poses=poses,
    )


def moved(reconstruction: Reconstruction, transform: Float[np.ndarray, "4 4"]) -> Reconstruction:
    """The same in another world, which a rigid `transform` brings points of this one to; normals are the cameras' own."""
    rotation, translation = transform[:3, :3], transform[:3, 3]
    return replace(
        reconstruction,
        points=tuple((x @ rotation.T + translation).astype(x.dtype) for x in reconstruction.points),
        poses=(transform @ reconstruction.poses).astype(reconstruction.poses.dtype),
    )


class Sighting(NamedTuple):
    """Points of the world in the map of a view: where they fall, how deep they lie along its axis, and whether they are in the picture;
    row and column are 0 where they are not."""

    row: Int[np.ndarray, " points"]
    column: Int[np.ndarray, " points"]
    depth: Float[np.ndarray, " points"]
    is_inside: Bool[np.ndarray, " points"]


def sighted(reconstruction: Reconstruction, points: Float[np.ndarray, "points 3"], view: int) -> Sighting:
    """Which pixels of a view's map the points of the world fall on; computed in float64."""
    height, width = reconstruction.depth[view].shape
    local = transform(invert(torch.from_numpy(reconstruction.poses[view]).double()), torch.from_numpy(points).double())
    pixels = project(local, map_intrinsics(reconstruction, view)).nan_to_num(-1).numpy()
    depth = local[:, 2].numpy()
    is_inside = (depth > 0) & (pixels >= 0).all(1) & (pixels < (width, height)).all(1)
    column, row = np.where(is_inside[:, None], pixels, 0).astype(int).T
    return Sighting(row, column, depth, is_inside)


def map_intrinsics(reconstruction: Reconstruction, view: int) -> Float[torch.Tensor, "3 3"]:
    """Intrinsics of a photo in pixels of its map, float64."""
    height, width = reconstruction.depth[view].shape
    intrinsics = torch.from_numpy(reconstruction.intrinsics[view]).double()
    return rescale_intrinsics(intrinsics, reconstruction.original_sizes[view], (height, width))


def up_direction(normals: Float[np.ndarray, "pixels 3"], poses: Float[np.ndarray, "views 4 4"]) -> Vector:
    """Unit vector against gravity: the direction of floors and ceilings.

    It begins with the cameras' mean up (-y) and goes on to the normals that are nearest to it, in a cone that narrows around its own
    mean; cameras may lean by 40 degrees.
    """
    up = unit(-poses[:, :3, 1].mean(0))
    for degrees in (40, 20, 10, 5):
        cosines = normals @ up
        near = np.abs(cosines) > math.cos(math.radians(degrees))
        if near.any():
            up = unit((normals[near] * np.sign(cosines[near, None])).sum(0))
    return up


def unit(vector: Vector) -> Vector:
    return vector / np.linalg.norm(vector)


def find_floor(reconstruction: Reconstruction) -> Floor:
    """The largest level plane below the cameras that faces up. ValueError where there is none."""
    is_seen = [
        mask & (normals != 0).any(-1) for mask, normals in zip(reconstruction.mask, reconstruction.normals, strict=True)
    ]
    flat = np.concatenate(
        [
            n[s] @ pose[:3, :3].T
            for n, s, pose in zip(reconstruction.normals, is_seen, reconstruction.poses, strict=True)
        ]
    ).astype(np.float64)
    points = np.concatenate([p[s] for p, s in zip(reconstruction.points, is_seen, strict=True)]).astype(np.float64)
    num_pixels = sum(mask.size for mask in reconstruction.mask)
    up = up_direction(flat, reconstruction.poses.astype(np.float64))
    heights = points @ up
    cameras = reconstruction.poses[:, :3, 3] @ up
    heights = heights[(flat @ up > LEVEL) & (heights < cameras.min())]
    depths = np.concatenate([d[m] for d, m in zip(reconstruction.depth, reconstruction.mask, strict=True)])
    if len(heights) < SMALLEST_FLOOR * num_pixels:
        raise ValueError(
            f"no floor is seen: {len(heights)} of {num_pixels} pixels face up below the cameras, and "
            f"{math.ceil(SMALLEST_FLOOR * num_pixels)} are needed; add photos that show it, or keep the frame of the first view"
        )
    half = THICKNESS * float(np.median(depths))
    ordered = np.sort(heights)
    members = np.searchsorted(ordered, ordered + 2 * half, side="right") - np.arange(len(ordered))
    lowest = ordered[members.argmax()]
    inside = ordered[(ordered >= lowest) & (ordered <= lowest + 2 * half)]
    return Floor(up, float(np.median(inside)), len(inside) / num_pixels)


def in_gravity_frame(reconstruction: Reconstruction) -> Reconstruction:
    """The world with y down along gravity, the floor at y = 0, and the first camera above the origin, facing along z.

    ValueError where no floor is seen, or where the first camera looks straight up or down.
    """
    floor = find_floor(reconstruction)
    first = reconstruction.poses[0].astype(np.float64)
    ahead = first[:3, 2] - (first[:3, 2] @ floor.up) * floor.up
    if np.linalg.norm(ahead) < 1e-3:
        raise ValueError("the first camera looks along gravity and has no heading; begin with another photo")
    down, ahead = -floor.up, unit(ahead)
    rotation = np.stack([np.cross(down, ahead), down, ahead])
    transform = np.eye(4)
    transform[:3, :3] = rotation
    foot = first[:3, 3] - float(floor.above(first[:3, 3])) * floor.up
    transform[:3, 3] = -rotation @ foot
    return replace(moved(reconstruction, transform), world="gravity")
