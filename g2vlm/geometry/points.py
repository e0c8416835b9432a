"""What the shape of a depth or point map says: surface normals and depth edges."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


def normals_from_points(
    points: Float[Tensor, "*batch height width 3"], mask: Bool[Tensor, "*batch height width"] | None = None
) -> Float[Tensor, "*batch height width 3"]:
    """Unit normals of a point map in the camera's frame, towards the camera (normal . point < 0).

    The mean direction of the up to four triangles that a pixel forms with two neighbours at a right angle and whose
    corners are all in `mask`; zero where there is none. A surface is assumed to be continuous inside the mask, so take
    depth edges out of it.
    """
    if mask is None:
        mask = torch.ones_like(points[..., 0], dtype=torch.bool)
    points = torch.where(mask[..., None], points, 0)
    padded = F.pad(points, (0, 0, 1, 1, 1, 1))
    known = F.pad(mask, (1, 1, 1, 1))
    here, after, before = slice(1, -1), slice(2, None), slice(None, -2)
    down, up = (padded[..., row, here, :] - points for row in (after, before))
    right, left = (padded[..., here, column, :] - points for column in (after, before))
    has_down, has_up = (mask & known[..., row, here] for row in (after, before))
    has_right, has_left = (known[..., here, column] for column in (after, before))
    corners = [
        (down, right, has_down & has_right),
        (right, up, has_right & has_up),
        (up, left, has_up & has_left),
        (left, down, has_left & has_down),
    ]
    triangles = [torch.where(has[..., None], _unit(torch.linalg.cross(a, b)), 0) for a, b, has in corners]
    normals = _unit(torch.stack(triangles).sum(0))
    is_turned_away = (normals * points).sum(-1, keepdim=True) > 0
    return torch.where(is_turned_away, -normals, normals)


def _unit(vectors: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """Vectors at length one; a zero vector stays zero, with a finite gradient."""
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / torch.where(length > 0, length, 1)


def depth_edges(
    depth: Float[Tensor, "*batch height width"],
    mask: Bool[Tensor, "*batch height width"] | None = None,
    rtol: float = 0.03,
) -> Bool[Tensor, "*batch height width"]:
    """True where the depths of the 3x3 neighbourhood differ by more than `rtol` of the pixel's own depth.

    Only pixels in `mask` are looked at, and only they can be edges.
    """
    if mask is None:
        mask = torch.ones_like(depth, dtype=torch.bool)
    farthest = _neighbourhood_max(torch.where(mask, depth, -torch.inf))
    nearest = -_neighbourhood_max(torch.where(mask, -depth, -torch.inf))
    return mask & (farthest - nearest > rtol * depth)


def depth_jumps(
    depth: Float[Tensor, "*batch height width"],
    mask: Bool[Tensor, "*batch height width"] | None = None,
    rtol: float = 0.06,
) -> Bool[Tensor, "*batch height width"]:
    """True where a surface ends before another: where inverse depth bends by more than `rtol` of itself.

    In a pinhole picture the inverse depth of a plane is linear in the pixel, so a floor or wall has no jump however
    slanted and however coarse the map is; `depth_edges` would cut it. Beside a pixel that is not in `mask` nothing is
    looked at.
    """
    if mask is None:
        mask = torch.ones_like(depth, dtype=torch.bool)
    inverse = torch.where(mask, 1 / torch.where(mask, depth, 1), torch.nan)
    bends = []
    for axis in (-1, -2):
        middle, after, before = (inverse.narrow(axis, start, inverse.shape[axis] - 2) for start in (1, 2, 0))
        bend = (after - 2 * middle + before).abs() / middle
        bends.append(F.pad(bend, (1, 1) if axis == -1 else (0, 0, 1, 1)))
    return mask & ((bends[0] > rtol) | (bends[1] > rtol))


def _neighbourhood_max(values: Float[Tensor, "*batch height width"]) -> Float[Tensor, "*batch height width"]:
    maps = values.reshape(-1, 1, *values.shape[-2:])
    return F.max_pool2d(maps, kernel_size=3, stride=1, padding=1).reshape(values.shape)
