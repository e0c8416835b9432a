"""A folder as nerfstudio reads it: transforms.json, its pictures, and the points to start from."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from g2vlm.data.readers.cameras import resized
from g2vlm.export.arrays import as_json
from g2vlm.export.atomic import Content
from g2vlm.export.cloud import Cloud
from g2vlm.export.colmap import require_cameras
from g2vlm.export.conventions import lines, opengl_cameras
from g2vlm.export.maps import picture_png
from g2vlm.export.names import stem
from g2vlm.export.ply import ply
from g2vlm.records import Reconstruction

CAMERA_AXES = "OpenGL: x right, y up, z backward (y and z of the OpenCV camera negated); the world is as it was"


def nerfstudio(reconstruction: Reconstruction, cloud: Cloud, said: dict[str, str]) -> Iterator[tuple[str, Content]]:
    """Pictures have the size of the maps, and intrinsics are in their pixels."""
    require_cameras(reconstruction, "nerfstudio")
    poses = opengl_cameras(reconstruction.poses.astype(np.float64))
    frames = []
    for view, image in enumerate(reconstruction.images):
        file = f"images/{stem(reconstruction, view)}.png".replace(" ", "_")
        yield file, picture_png(image, said)
        frames.append({"file_path": file, **_camera(reconstruction, view), "transform_matrix": poses[view].tolist()})
    yield "points.ply", ply(cloud, lines(said))
    transforms = {
        "camera_model": "PINHOLE",
        "frames": frames,
        "ply_file_path": "points.ply",
        "applied_transform": np.eye(4)[:3].tolist(),
        **said,
        "camera_axes": CAMERA_AXES,
        "photos": list(reconstruction.names),
    }
    yield "transforms.json", as_json(transforms)


def _camera(reconstruction: Reconstruction, view: int) -> dict[str, Any]:
    height, width = reconstruction.depth[view].shape
    intrinsics = resized(
        reconstruction.intrinsics[view].astype(np.float64), reconstruction.original_sizes[view], (height, width)
    )
    (fx, _, cx), (_, fy, cy) = intrinsics[:2].tolist()
    return {"fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy, "w": width, "h": height}
