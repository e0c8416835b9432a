"""From what the heads say to what a person gets: world frame at view 0, pixels of the photos, NumPy arrays."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from g2vlm.geometry.camera import intrinsics_from_points, rescale_intrinsics
from g2vlm.geometry.points import depth_jumps, normals_from_points
from g2vlm.geometry.pose import in_first_frame, transform
from g2vlm.records import Geometry, Provenance, Reconstruction


class Original(Protocol):
    """Whatever a view was made of: a Photo, or what is left of one. size: (height, width)."""

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> tuple[int, int]: ...


def reconstruction_of(
    geometry: Geometry,
    photos: Sequence[Original],
    views: Sequence[Float[Tensor, "3 _height _width"]],
    provenance: Provenance,
) -> Reconstruction:
    """What the heads said, for a person: world frame at view 0, intrinsics in the photos' own pixels, NumPy arrays."""
    poses = in_first_frame(geometry.poses.float())
    maps = [_view_maps(geometry, index) for index in range(len(views))]
    fits = [intrinsics_from_points(m["local"][None], m["confidence"][None] * m["mask"][None]) for m in maps]
    intrinsics = [
        rescale_intrinsics(fit.intrinsics[0], (view.shape[1], view.shape[2]), photo.size)
        for fit, view, photo in zip(fits, views, photos, strict=True)
    ]
    return Reconstruction(
        names=tuple(photo.name for photo in photos),
        images=tuple((255 * view.permute(1, 2, 0)).round().byte().cpu().numpy() for view in views),
        depth=tuple(_array(m["local"][..., 2]) for m in maps),
        points=tuple(_array(transform(pose, m["local"])) for pose, m in zip(poses, maps, strict=True)),
        normals=tuple(_array(m["normals"]) for m in maps),
        confidence=tuple(_array(m["confidence"]) for m in maps),
        mask=tuple(m["mask"].cpu().numpy() for m in maps),
        poses=_array(poses),
        intrinsics=_array(torch.stack(intrinsics)),
        intrinsics_error=_array(torch.cat([fit.relative_error for fit in fits])),
        original_sizes=tuple(photo.size for photo in photos),
        scale="scale_free",
        provenance=provenance,
    )


def _view_maps(geometry: Geometry, index: int) -> dict[str, Tensor]:
    """One view's camera-frame points, normals, confidence, and which pixels are finite and off depth edges."""
    local = geometry.local_points[index].float()
    mask = _is_usable(local)
    logits = None if geometry.confidence is None else geometry.confidence[index].float()
    return {
        "local": local,
        "mask": mask,
        "confidence": torch.ones_like(local[..., 2]) if logits is None else logits.sigmoid(),
        "normals": normals_from_points(local, mask) if geometry.normals is None else geometry.normals[index].float(),
    }


def _is_usable(local: Float[Tensor, "height width 3"]) -> Bool[Tensor, "height width"]:
    finite = local.isfinite().all(-1)
    return finite & ~depth_jumps(local[..., 2], finite)


def _array(x: Tensor) -> np.ndarray:
    return x.float().cpu().numpy()
