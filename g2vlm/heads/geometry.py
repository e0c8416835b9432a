"""All heads on the geometric tokens, and the one way to read them."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from g2vlm.config import G2VLMConfig
from g2vlm.heads.camera import CameraHead
from g2vlm.heads.maps import MapHead, normals_from_raw, points_from_raw
from g2vlm.layout import Grid
from g2vlm.records import Geometry

TOKENS_AT_ONCE = 8192
"""Of views that are read together where no gradient is kept: more would cost memory, and no longer save time."""


class GeometryHeads(nn.Module):
    """Local points and cameras always; global points, confidence and normals where the configuration has them."""

    def __init__(self, config: G2VLMConfig):
        super().__init__()
        width, patch, heads = config.text_config.hidden_size, config.patch_size, config.heads
        self.points = MapHead(width, 3, patch, heads)
        self.camera = CameraHead(width, heads)
        self.global_points = MapHead(width, 3, patch, heads, has_context=True) if heads.global_points else None
        self.confidence = MapHead(width, 1, patch, heads) if heads.confidence else None
        self.normals = MapHead(width, 3, patch, heads) if heads.normals else None

    def forward(
        self,
        views: Sequence[Float[Tensor, "_tokens width"]],
        grids: Sequence[Grid],
        *,
        first_views: Sequence[int] | None = None,
    ) -> Geometry:
        """Read every view's hidden states (patches only, row-major).

        first_views: for each view, the index of its scene's view 0; given, the global points are read too.
        """
        normals, confidence = self.normals, self.confidence
        read_points = self.points
        poses = in_batches(lambda x, grid, _: self.camera(x, grid), views, grids)
        return Geometry(
            local_points=in_batches(lambda x, grid, _: points_from_raw(read_points(x, grid)), views, grids),
            poses=torch.stack(poses),
            global_points=None if first_views is None else self._global_points(views, grids, first_views),
            confidence=None
            if confidence is None
            else in_batches(lambda x, grid, _: confidence(x, grid).squeeze(-1), views, grids),
            normals=None
            if normals is None
            else in_batches(lambda x, grid, _: normals_from_raw(normals(x, grid)), views, grids),
        )

    def _global_points(
        self, views: Sequence[Tensor], grids: Sequence[Grid], first_views: Sequence[int]
    ) -> tuple[Tensor, ...] | None:
        head = self.global_points
        if head is None:
            return None

        def read(tokens: Tensor, grid: Grid, indices: list[int]) -> Tensor:
            firsts = [first_views[i] for i in indices]
            return head(tokens, grid, (torch.stack([views[i] for i in firsts]), grids[firsts[0]]))

        keys = [(grid, grids[first]) for grid, first in zip(grids, first_views, strict=True)]
        return in_batches(read, views, grids, keys=keys)


def in_batches(
    read: Callable[[Tensor, Grid, list[int]], Tensor],
    views: Sequence[Tensor],
    grids: Sequence[Grid],
    *,
    keys: Sequence[object] | None = None,
    is_whole: bool = False,
) -> tuple[Tensor, ...]:
    """Run `read` on all views of one size (or one key) and hand the results back in the order of the views.

    Without gradients so many views at a time as have TOKENS_AT_ONCE, for only then does memory depend on it. is_whole: `read`
    lets views see each other, so all of one size go together.
    """
    groups: dict[object, list[int]] = {}
    for index, key in enumerate(keys or grids):
        groups.setdefault(key, []).append(index)
    results: dict[int, Tensor] = {}
    for group in groups.values():
        rows, columns = grids[group[0]]
        at_once = max(1, TOKENS_AT_ONCE // (rows * columns))
        if is_whole or torch.is_grad_enabled():
            at_once = len(group)
        for start in range(0, len(group), at_once):
            indices = group[start : start + at_once]
            batch = read(torch.stack([views[i] for i in indices]), (rows, columns), indices)
            results.update(zip(indices, batch, strict=True))
    return tuple(results[i] for i in range(len(views)))
