"""Correspondence supervision: patches that show the same point must find each other among all patches of a view.

Axes: s scenes, v views (i looks for its patches in j), t patches.
"""

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor

from g2vlm.geometry.camera import project, unproject
from g2vlm.geometry.pose import relative_poses, transform
from g2vlm.records import Views

UNSEEN = -1
"""The match of a patch whose point the other view does not show."""

DEPTH_TOLERANCE = 0.05
"""A point is hidden where the other view's depth differs by more than this fraction of it."""


@torch.no_grad()
def patch_matches(truth: Views, patch: int) -> Int[Tensor, "s v v t"]:
    """Entry (s, i, j, t): the patch of view j that shows the centre of patch t of view i, or UNSEEN; itself where i = j.

    Needs depth, mask, poses and intrinsics. Patches are numbered row by row.
    """
    views, height, width = truth.depth.shape[-3:]
    centre = slice(patch // 2, None, patch)
    points = unproject(truth.depth, truth.intrinsics)[..., centre, centre, :]
    known = rearrange(truth.mask[..., centre, centre], "s i r c -> s i 1 (r c)")
    to_other = relative_poses(truth.poses).transpose(1, 2)  # (i, j): from the camera of i to that of j
    seen = transform(to_other, repeat(points, "s i r c xyz -> s i j (r c) xyz", j=views))
    pixels = project(seen, truth.intrinsics[:, None])
    inside = known & (seen[..., 2] > 0) & (pixels >= 0).all(-1)
    inside &= (pixels[..., 0] < width) & (pixels[..., 1] < height)
    column, row = pixels.where(inside[..., None], 0).long().unbind(-1)
    scene, other = (torch.arange(n, device=row.device).view(shape) for n, shape in _axes(row))
    depth, is_known = truth.depth[scene, other, row, column], truth.mask[scene, other, row, column]
    visible = inside & is_known & ((depth - seen[..., 2]).abs() < DEPTH_TOLERANCE * depth)
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
