"""Points as small tiles that lie on the surfaces they were seen on: closed walls from afar, and nothing from behind."""

import numpy as np

from g2vlm.export.cloud import Cloud
from g2vlm.export.mesh import Mesh

CORNERS = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2
TRIANGLES = np.array([[0, 1, 2], [0, 2, 3]])


def surfels(cloud: Cloud, side: float) -> Mesh:
    """A square for each point, across its normal, in its colour; side: in units of the scene."""
    normals = cloud.normals.astype(np.float64)
    least = np.eye(3)[np.abs(normals).argmin(1)]  # the axis that is farthest from the normal
    along = np.cross(normals, least)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    across = np.cross(normals, along)  # along, across, normal are right-handed: the front is where the normal points
    tiles = cloud.positions[:, None] + side * (
        CORNERS[None, :, :1] * along[:, None] + CORNERS[None, :, 1:] * across[:, None]
    )
    corners = Cloud(
        tiles.reshape(-1, 3).astype(np.float32),
        *(np.repeat(x, 4, axis=0) for x in (cloud.normals, cloud.colours, cloud.confidence)),
    )
    return Mesh(corners, (4 * np.arange(len(cloud))[:, None, None] + TRIANGLES).reshape(-1, 3))
