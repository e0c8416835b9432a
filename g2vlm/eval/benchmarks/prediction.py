"""What a system says of the pictures of one scene, and its maps at the pixels where the truth is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float

from g2vlm.data.recon import check_intrinsics, check_pose, sample_nearest
from g2vlm.records import Reconstruction

Maps = Literal["depth", "points", "normals"]

Sampling = Literal["nearest", "bilinear", "bicubic"]
"""How a map is brought to another size: each pixel takes what was predicted at its place (nearest), or a mixture of
what was predicted around it (bilinear, averaging where the map shrinks; bicubic)."""

PATCH = 14
"""Pixels by which a working size may miss the shape of its photo: models round each side to whole patches."""


@dataclass(frozen=True)
class Prediction:
    """Depth, points and cameras of the pictures of an item, in their order; None for what the system does not say.

    Maps may have any size that has the shape of their photo. depth: z-depth. points: one world frame for all
    pictures. normals: unit, camera frame, towards the camera. poses: camera-to-world, OpenCV axes. intrinsics: in
    pixels of the original photos, pixel centres at +0.5.
    """

    depth: Sequence[Float[np.ndarray, "_height _width"]] | None = None
    points: Sequence[Float[np.ndarray, "_height _width 3"]] | None = None
    normals: Sequence[Float[np.ndarray, "_height _width 3"]] | None = None
    poses: Float[np.ndarray, "_views 4 4"] | None = None
    intrinsics: Float[np.ndarray, "_views 3 3"] | None = None


def prediction_of(reconstruction: Reconstruction) -> Prediction:
    """All of it: what a model doubts about itself (`mask`, `confidence`) is scored like the rest."""
    r = reconstruction
    return Prediction(r.depth, r.points, r.normals, r.poses, r.intrinsics)


def maps_of(
    prediction: Prediction, name: Maps, sizes: Sequence[tuple[int, int]], *, are_stretched: bool = False
) -> Sequence[np.ndarray]:
    """The maps of that name, one for each photo; `sizes` are (height, width) of the photos.

    are_stretched: all photos were given the size of the first one, whatever their shape. ValueError for maps that are
    not there, are too few or too many, or have not the shape of their photo.
    """
    maps: Sequence[np.ndarray] | None = {
        "depth": prediction.depth,
        "points": prediction.points,
        "normals": prediction.normals,
    }[name]
    if maps is None:
        raise ValueError(f"no {name} was predicted")
    if len(maps) != len(sizes):
        raise ValueError(f"{name} was predicted for {len(maps)} pictures, of which there are {len(sizes)}")
    channels = () if name == "depth" else (3,)
    for view, (values, size) in enumerate(zip(maps, sizes, strict=True)):
        if values.ndim != 2 + len(channels) or values.shape[2:] != channels:
            wanted = " x ".join(("height", "width", *map(str, channels)))
            raise ValueError(f"{name} of picture {view} has the shape {values.shape}, not {wanted}")
        shape = sizes[0] if are_stretched else size
        if not _is_resized(values.shape[:2], shape):
            raise ValueError(
                f"{name} of picture {view} has {values.shape[1]} x {values.shape[0]} pixels, "
                f"its photo {shape[1]} x {shape[0]}: that is not the photo at another size"
            )
    return [values if np.issubdtype(values.dtype, np.floating) else values.astype(np.float64) for values in maps]


def poses_of(prediction: Prediction, num_views: int) -> Float[np.ndarray, "views 4 4"]:
    """Predicted poses in float64; ValueError for what is no pose."""
    poses = _cameras("poses", prediction.poses, (num_views, 4, 4))
    for view, pose in enumerate(poses):
        check_pose(f"picture {view}", pose)
    return poses


def intrinsics_of(prediction: Prediction, num_views: int) -> Float[np.ndarray, "views 3 3"]:
    """Predicted intrinsics in float64; ValueError for what is none."""
    intrinsics = _cameras("intrinsics", prediction.intrinsics, (num_views, 3, 3))
    for view, camera in enumerate(intrinsics):
        check_intrinsics(f"picture {view}", camera)
    return intrinsics


def resampled(values: np.ndarray, size: tuple[int, int], sampling: Sampling) -> np.ndarray:
    """A map [height, width] or [height, width, channels] at another size (height, width).

    bilinear and bicubic are those of torch, which agree with OpenCV's; bilinear averages where the map shrinks.
    """
    if values.shape[:2] == size:
        return values
    if sampling == "nearest":
        return sample_nearest(values, size)
    stacked = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).reshape(*values.shape[:2], -1)
    resized = F.interpolate(
        stacked.permute(2, 0, 1)[None], size, mode=sampling, align_corners=False, antialias=sampling == "bilinear"
    )
    return resized[0].permute(1, 2, 0).reshape(*size, *values.shape[2:]).numpy()


def _cameras(name: str, values: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    if values is None:
        raise ValueError(f"no {name} were predicted")
    if values.shape != shape:
        raise ValueError(f"{name} have the shape {values.shape}, not {shape}")
    return values.astype(np.float64)


def _is_resized(size: tuple[int, ...], photo: tuple[int, int]) -> bool:
    (height, width), (photo_height, photo_width) = size, photo
    return abs(height - photo_height * width / photo_width) <= PATCH or (
        abs(width - photo_width * height / photo_height) <= PATCH
    )
