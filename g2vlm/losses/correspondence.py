"""Correspondence supervision: patches that show the same point must find each other among all patches of a view.

Axes: s scenes, v views (i looks for its patches in j), t patches.
"""

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor

from g2vlm.geometry.camera import project, unproject
from g2vlm.geometry.pose import relative_poses, transform

UNSEEN = -1
"""The match of a patch whose point the other view does not show."""

DEPTH_TOLERANCE = 0.05
"""A point is hidden where the other view's depth differs by more than this fraction of it."""


@torch.no_grad()
def patch_matches(
    depth: Float[Tensor, "s v h w"],
    mask: Bool[Tensor, "s v h w"],
    intrinsics: Float[Tensor, "s v 3 3"],
    poses: Float[Tensor, "s v 4 4"],
    patch: int,
) -> Int[Tensor, "s v v t"]:
    """Entry (s, i, j, t): the patch of view j that shows the centre of patch t of view i, or UNSEEN; itself where i = j.

    depth: z-depth, known where mask is True. poses: camera-to-world. Patches are numbered row by row.
    """
    views, height, width = depth.shape[-3:]
    centre = slice(patch // 2, None, patch)
    points = unproject(depth, intrinsics)[..., centre, centre, :]
    known = rearrange(mask[..., centre, centre], "s i r c -> s i 1 (r c)")
    to_other = relative_poses(poses).transpose(1, 2)  # (i, j): from the camera of i to that of j
    seen = transform(to_other, repeat(points, "s i r c xyz -> s i j (r c) xyz", j=views))
    pixels = project(seen, intrinsics[:, None])
    inside = known & (seen[..., 2] > 0) & (pixels >= 0).all(-1)
    inside &= (pixels[..., 0] < width) & (pixels[..., 1] < height)
    column, row = pixels.where(inside[..., None], 0).long().unbind(-1)
    scene, other = (torch.arange(n, device=row.device).view(shape) for n, shape in _axes(row))
    other_depth, is_known = depth[scene, other, row, column], mask[scene, other, row, column]
    visible = inside & is_known & ((other_depth - seen[..., 2]).abs() < DEPTH_TOLERANCE * other_depth)
    return torch.where(visible, row // patch * (width // patch) + column // patch, UNSEEN)


def _axes(matches: Tensor) -> tuple[tuple[int, tuple[int, ...]], tuple[int, tuple[int, ...]]]:
    """Sizes of the axes s and j of [s, i, j, t], with the shapes that broadcast them."""
    scenes, _, views, _ = matches.shape
    return (scenes, (-1, 1, 1, 1)), (views, (1, 1, -1, 1))


def correspondence_loss(
    embeddings: Float[Tensor, "s v t width"], matches: Int[Tensor, "s v v t"], temperature: float = 0.07
) -> Float[Tensor, ""]:
    """InfoNCE: cross-entropy of finding each patch's match among the patches of the other view; zero without a match.

    embeddings: of unit length. matches: as `patch_matches` gives them; pairs i = j are left out.
    """
    views = matches.shape[1]
    similarity = torch.einsum("s i t w, s j u w -> s i j t u", embeddings, embeddings) / temperature
    other = ~torch.eye(views, dtype=torch.bool, device=matches.device)
    targets = matches[:, other].flatten()
    total = F.cross_entropy(similarity[:, other].flatten(0, -2), targets, ignore_index=UNSEEN, reduction="sum")
    return total / (targets != UNSEEN).sum().clamp_min(1)
