"""Points of a scene followed through its views by reprojection, and the visual tokens that show the same point (GASP).

Works on procedural rooms and on any posed views with depth alike. Published (arXiv 2605.30231): points of a coarse and a fine
grid, a depth check, a border that is left out, the best half by visibility, wrong places within half a picture.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from g2vlm.geometry.camera import project, unproject
from g2vlm.geometry.pose import relative_poses, transform
from g2vlm.layout import Grid
from g2vlm.records import Matches, Views

COARSE_AND_FINE: tuple[Grid, ...] = ((8, 8), (24, 24))
"""Rows and columns of the points that are followed."""

DEPTH_TOLERANCE = 0.05
"""A point is hidden where its depth and the one that a view shows there differ by this part of the smaller one, or more."""

MARGIN = 4.0
"""Pixels along the border of a picture in which no point counts as seen."""

BEST_PART = 0.5
"""Part of the tracks that is kept, those that most views show."""

DECOY_REACH = 0.5
"""How far a wrong place may lie from the right one along each side, as a part of the picture."""


@dataclass(frozen=True)
class Tracks:
    """Points of a scene in all of its views.

    source: the view that each was taken from. pixels: (x, y) in each view. depth: z-depth in each camera's frame.
    visible: False where a view does not show the point; `pixels` and `depth` may then be anything.
    """

    source: Int[Tensor, " points"]
    pixels: Float[Tensor, "points views 2"]
    depth: Float[Tensor, "points views"]
    visible: Bool[Tensor, "points views"]


def has_matches(views: Views) -> bool:
    """Whether it can be said which of several views show the same point."""
    known = (views.depth, views.mask, views.intrinsics, views.poses)
    return len(views.images) > 1 and all(x is not None for x in known)


@torch.no_grad()
def tracks(
    views: Views,
    grids: Sequence[Grid] = COARSE_AND_FINE,
    *,
    sources: Sequence[int] | None = None,
    margin: float = MARGIN,
) -> Tracks:
    """Points of one scene (views [views, 3, height, width] that `has_matches`), from the grids in each of the source views.

    A point is the centre of the pixel nearest to its place on the grid. A place whose depth is unknown, or which lies in
    the margin, gives none. sources: all views, unless given.
    """
    depth, mask, intrinsics, poses = views.depth, views.mask, views.intrinsics, views.poses
    assert depth is not None
    assert mask is not None
    assert intrinsics is not None
    assert poses is not None
    num_views, height, width = depth.shape
    source = torch.arange(num_views) if sources is None else torch.tensor(sources)
    source = source.to(depth.device)
    row, column = (x.to(depth.device) for x in grid_pixels(grids, height, width))
    points = unproject(depth[source], intrinsics[source])[:, row, column]
    to_other = relative_poses(poses).transpose(0, 1)[source]  # (i, j): from the camera of source i to that of view j
    seen = transform(to_other, points[:, None].expand(-1, num_views, -1, -1))
    pixels = project(seen, intrinsics[None])
    end = pixels.new_tensor([width, height]) - margin
    inside = (seen[..., 2] > 0) & (pixels >= margin).all(-1) & (pixels < end).all(-1)
    x, y = pixels.where(inside[..., None], 0).long().unbind(-1)
    view = torch.arange(num_views, device=depth.device)[:, None]
    shown, z = depth[view, y, x], seen[..., 2]
    is_near = (shown - z).abs() < DEPTH_TOLERANCE * torch.minimum(shown, z)
    known = mask[source][:, row, column][:, None]
    visible = known & inside & mask[view, y, x] & is_near
    starts = visible[torch.arange(len(source)), source]
    return Tracks(
        source[:, None].expand_as(starts)[starts],
        pixels.transpose(1, 2)[starts],
        z.transpose(1, 2)[starts],
        visible.transpose(1, 2)[starts],
    )


def grid_pixels(
    grids: Sequence[Grid], height: int, width: int
) -> tuple[Int[Tensor, " points"], Int[Tensor, " points"]]:
    """Row and column of the pixels that contain the points of some grids, each spread evenly over the picture."""
    places = []
    for rows, columns in grids:
        y, x = (
            ((torch.arange(count) + 0.5) * side / count).long() for count, side in ((rows, height), (columns, width))
        )
        places.append(torch.cartesian_prod(y, x))
    row, column = torch.cat(places).unbind(1)
    return row, column


def most_visible(tracks: Tracks, part: float = BEST_PART, generator: torch.Generator | None = None) -> Tracks:
    """The part of the tracks that most views show, at least one if there is any; the generator (on the CPU) decides ties."""
    shuffled = torch.randperm(len(tracks.source), generator=generator).to(tracks.source.device)
    best = tracks.visible.sum(1)[shuffled].argsort(descending=True, stable=True)
    kept = shuffled[best[: math.ceil(part * len(best))]].sort().values
    return Tracks(tracks.source[kept], tracks.pixels[kept], tracks.depth[kept], tracks.visible[kept])


@torch.no_grad()
def matches_of(
    tracks: Tracks, views: Views, grid: Grid, *, decoys: int = 0, generator: torch.Generator | None = None
) -> Matches:
    """The tokens that show each track: one pair for the source view and each other view in which it is visible.

    grid: tokens of each view. decoys: wrong tokens for each pair, drawn (on the CPU) around the right place.
    """
    assert views.depth is not None
    assert views.mask is not None
    size = (views.depth.shape[1], views.depth.shape[2])
    num_tokens = grid[0] * grid[1]
    view = torch.arange(tracks.visible.shape[1], device=tracks.source.device)
    point, other = (tracks.visible & (view != tracks.source[:, None])).nonzero(as_tuple=True)
    own = tracks.source[point]
    right = tracks.pixels[point, other]
    return Matches(
        anchor=own * num_tokens + tokens_at(tracks.pixels[point, own], size, grid),
        target=other * num_tokens + tokens_at(right, size, grid),
        depth=tracks.depth[point, other],
        decoys=other[:, None] * num_tokens + tokens_at(wrong_places(right, size, decoys, generator), size, grid),
        token_depth=token_depth(views.depth, views.mask, grid),
        lengths=(num_tokens,) * len(views.depth),
    )


def tokens_at(pixels: Float[Tensor, "*batch 2"], size: tuple[int, int], grid: Grid) -> Int[Tensor, "*batch"]:
    """The token, counted row by row, of the part of a picture of this size (height, width) in which each (x, y) lies."""
    (height, width), (rows, columns) = size, grid
    x, y = pixels.unbind(-1)
    return (y * rows / height).long() * columns + (x * columns / width).long()


def wrong_places(
    pixels: Float[Tensor, "points 2"], size: tuple[int, int], count: int, generator: torch.Generator | None = None
) -> Float[Tensor, "points {count} 2"]:
    """Places around each (x, y), at most `DECOY_REACH` of the picture (height, width) away along each side, and inside it."""
    sides = pixels.new_tensor([size[1], size[0]])
    drawn = torch.rand(len(pixels), count, 2, generator=generator).to(pixels)
    low, high = (pixels[:, None] + sign * DECOY_REACH * sides for sign in (-1, 1))
    low, high = low.clamp_min(0), torch.minimum(high, sides)
    return torch.minimum(low + drawn * (high - low), sides * (1 - torch.finfo(pixels.dtype).eps))


def token_depth(
    depth: Float[Tensor, "views height width"], mask: Bool[Tensor, "views height width"], grid: Grid
) -> Float[Tensor, " tokens"]:
    """Mean of the known depth of each token's part of its view; 0 where none is known."""
    known = mask.to(depth.dtype)
    total, part = (adaptive_avg_pool2d(x[:, None], grid).flatten() for x in (torch.where(mask, depth, 0), known))
    return total / part.where(part > 0, 1)
