"""A procedural room as a perfect model would reconstruct it."""

import numpy as np
import torch

from g2vlm.data.scenes import TEST_SEEDS, rooms
from g2vlm.geometry.camera import unproject
from g2vlm.geometry.points import depth_jumps, normals_from_points
from g2vlm.geometry.pose import in_first_frame, transform
from g2vlm.records import Provenance, Reconstruction, Scale


def true_reconstruction(
    num_views: int = 3, height: int = 42, width: int = 56, scale: Scale = "metric"
) -> Reconstruction:
    """Three views of a room in metres; confidence falls from 1 at the left of each view to 0.2 at its right."""
    views = rooms([TEST_SEEDS[0]], num_views=num_views, height=height, width=width).views
    depth, mask, poses = views.depth[0], views.mask[0], in_first_frame(views.poses[0])
    local = unproject(torch.where(mask, depth, 1), views.intrinsics[0])
    confidence = np.broadcast_to(np.linspace(1, 0.2, width, dtype=np.float32), (height, width))
    return Reconstruction(
        names=tuple(f"{view}.png" for view in range(num_views)),
        images=tuple((255 * views.images[0].permute(0, 2, 3, 1)).round().byte().numpy()),
        depth=tuple(depth.numpy()),
        points=tuple(transform(poses, local).numpy()),
        normals=tuple(normals_from_points(local, mask).numpy()),
        confidence=(confidence,) * num_views,
        mask=tuple((mask & ~depth_jumps(depth, mask)).numpy()),
        poses=poses.numpy(),
        intrinsics=views.intrinsics[0].numpy(),
        intrinsics_error=np.zeros(num_views, np.float32),
        original_sizes=((height, width),) * num_views,
        scale=scale,
        provenance=Provenance("truth", "0" * 64),
    )
