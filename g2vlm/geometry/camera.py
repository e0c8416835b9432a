"""Pinhole cameras without skew: depth and points to pixels and back; pixel centres lie at +0.5.

Intrinsics are 3x3 in the pixel frame of their image: the left upper corner of the image is (0, 0), the centre of the
first pixel (0.5, 0.5), x right and y down.
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from g2vlm.geometry.align import robust_scale
from g2vlm.geometry.pose import over_points


def pixel_centres(
    height: int, width: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
) -> Float[Tensor, "height width 2"]:
    """The (x, y) of every pixel's centre."""
    y, x = (
        torch.arange(size, device=device, dtype=dtype or torch.get_default_dtype()) + 0.5 for size in (height, width)
    )
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


def intrinsics_matrix(
    fx: Float[Tensor, "*#batch"],
    fy: Float[Tensor, "*#batch"],
    cx: Float[Tensor, "*#batch"],
    cy: Float[Tensor, "*#batch"],
) -> Float[Tensor, "*batch 3 3"]:
    """Focal lengths and principal point, in pixels, as a 3x3 matrix."""
    fx, fy, cx, cy = torch.broadcast_tensors(fx, fy, cx, cy)
    zero, one = torch.zeros_like(fx), torch.ones_like(fx)
    return torch.stack([fx, zero, cx, zero, fy, cy, zero, zero, one], dim=-1).unflatten(-1, (3, 3))


def rescale_intrinsics(
    intrinsics: Float[Tensor, "*batch 3 3"], from_size: tuple[int, int], to_size: tuple[int, int]
) -> Float[Tensor, "*batch 3 3"]:
    """Intrinsics of the same picture resized from one (height, width) to another."""
    (from_height, from_width), (to_height, to_width) = from_size, to_size
    return intrinsics * intrinsics.new_tensor([[to_width / from_width], [to_height / from_height], [1.0]])


def unproject(
    depth: Float[Tensor, "*#batch height width"], intrinsics: Float[Tensor, "*#batch 3 3"]
) -> Float[Tensor, "*batch height width 3"]:
    """Points in the camera's frame at the pixel centres of a z-depth map (depth along the axis, not along the ray)."""
    at_least_float = torch.promote_types(depth.dtype, torch.float32)  # a half cannot tell pixel 300.5 from 300
    pixels = pixel_centres(*depth.shape[-2:], device=depth.device, dtype=at_least_float)
    focal, centre = _focal_and_centre(intrinsics[..., None, None, :, :])
    rays = ((pixels - centre) / focal).to(depth)
    return torch.cat([rays * depth[..., None], depth[..., None]], dim=-1)


def project(points: Float[Tensor, "*more 3"], intrinsics: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*more 2"]:
    """Pixels (x, y) of points in the camera's frame; a point with z <= 0 is not in the picture, which the caller checks.

    Leading dimensions are matched from the left, as in `transform`.
    """
    focal, centre = _focal_and_centre(over_points(intrinsics, points))
    return points[..., :2] / points[..., 2:] * focal + centre


def _focal_and_centre(intrinsics: Float[Tensor, "*batch 3 3"]) -> tuple[Tensor, Tensor]:
    return intrinsics.diagonal(dim1=-2, dim2=-1)[..., :2], intrinsics[..., :2, 2]


@dataclass(frozen=True)
class IntrinsicsFit:
    """intrinsics: principal point in the centre of the image; NaN focal length where the points determine none.

    relative_error: how far the focal length asked for by a single pixel is off the fitted one, as a fraction; the
    weighted median over pixels and both axes. 0 for the point map of a true pinhole camera; NaN without a focal length.
    """

    intrinsics: Float[Tensor, "*batch 3 3"]
    relative_error: Float[Tensor, "*batch"]


@torch.no_grad()
def intrinsics_from_points(
    points: Float[Tensor, "*batch height width 3"], weights: Float[Tensor, "*batch height width"] | None = None
) -> IntrinsicsFit:
    """The pinhole camera whose rays fit a point map best, with a focal length per axis.

    Each axis minimises the weighted L1 distance between the slopes x / z of the points and those of the pixels' rays,
    offset / focal: a weighted median, in closed form, so up to half of the weight may be wrong. The noise of a point map
    is in its points and the pixels are exact, so 1 / focal is fitted; fitting focal itself would be biased by the noise.
    Points that are not finite or have z <= 0 do not count. No gradient flows.
    """
    height, width = points.shape[-3:-1]
    xyz = points.double()
    is_seen = xyz.isfinite().all(-1) & (xyz[..., 2] > 0)
    weight = is_seen.to(xyz) if weights is None else torch.where(is_seen, weights, 0).to(xyz)
    size = xyz.new_tensor([width, height])
    offsets = pixel_centres(height, width, device=xyz.device, dtype=xyz.dtype) - size / 2
    slopes, offsets, weight = (
        rearrange(values, "... height width xy -> ... xy (height width)")
        for values in torch.broadcast_tensors(xyz[..., :2] / xyz[..., 2:], offsets, weight[..., None])
    )
    inverse = robust_scale(offsets, slopes, weight)
    is_found = ((weight > 0) & (offsets != 0)).any(-1) & (inverse > 0)
    inverse = torch.where(is_found, inverse, torch.nan)
    deviation = (slopes / (offsets * inverse[..., None]) - 1).abs().flatten(-2)
    error = robust_scale(torch.ones_like(deviation), deviation, (weight * offsets.abs()).flatten(-2))
    error = torch.where(is_found.all(-1), error, torch.nan)
    (fx, fy), (cx, cy) = (1 / inverse).unbind(-1), (size / 2).unbind()
    return IntrinsicsFit(intrinsics_matrix(fx, fy, cx, cy).to(points), error.to(points))
