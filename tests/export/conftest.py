"""A small reconstruction with everything a writer can trip over: views of two sizes, turned cameras, invalid pixels."""

import numpy as np
import pytest

from g2vlm.records import Provenance, Reconstruction


@pytest.fixture
def reconstruction() -> Reconstruction:
    sizes = [(28, 42), (42, 28), (28, 42)]
    views = [_slope(*size) for size in sizes]
    poses = np.stack([_turned(degrees) for degrees in (0, 90, 180)])
    depth, local, normals = ([view[i] for view in views] for i in range(3))
    mask = [np.ones(size, bool) for size in sizes]
    mask[0][:, :2] = False  # depth edges: finite
    mask[1][0] = False  # nothing finite
    depth[1][0] = local[1][0] = normals[1][0] = np.nan
    random = np.random.default_rng(0)
    return Reconstruction(
        names=("a.jpg", "b.jpg", "a.jpg"),
        images=tuple(random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes),
        depth=tuple(depth),
        points=tuple(
            (points @ pose[:3, :3].T + pose[:3, 3]).astype(np.float32)
            for points, pose in zip(local, poses, strict=True)
        ),
        normals=tuple(normals),
        confidence=tuple(np.linspace(0, 1, h * w, dtype=np.float32).reshape(h, w) for h, w in sizes),
        mask=tuple(mask),
        poses=poses,
        intrinsics=np.tile(np.array([[600, 0, 320], [0, 600, 240], [0, 0, 1]], np.float32), (3, 1, 1)),
        intrinsics_error=np.full(3, 0.01, np.float32),
        original_sizes=((480, 640), (640, 480), (480, 640)),
        scale="scale_free",
        provenance=Provenance(
            "tiny", "ab" * 32, versions={"g2vlm": "0"}, settings={"seed": 0}, seconds={"reconstruct": 0.5}
        ),
    )


def _slope(height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A wall that recedes to the right, seen with a focal length of 40 pixels."""
    rows, columns = np.mgrid[0:height, 0:width] + 0.5
    x, y = (columns - width / 2) / 40, (rows - height / 2) / 40
    depth = 2 / (1 - 0.8 * x)
    normal = np.array([0.8, 0, -1]) / np.hypot(0.8, 1)
    points = np.stack([x * depth, y * depth, depth], -1)
    normals = np.broadcast_to(normal, points.shape).copy()
    return depth.astype(np.float32), points.astype(np.float32), normals.astype(np.float32)


def _turned(degrees: float) -> np.ndarray:
    """Camera-to-world pose turned about the vertical and moved."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, 0, s, degrees / 100], [0, 1, 0, 0.1], [-s, 0, c, 0.3], [0, 0, 0, 1]], np.float32)
