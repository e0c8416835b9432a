"""A scene as GLB (binary glTF), which browsers, Blender and phones open: points or surfaces, and the cameras."""

from typing import Any, cast

import numpy as np
from jaxtyping import Float

from g2vlm.data.readers.cameras import resized
from g2vlm.export.cloud import Cloud
from g2vlm.export.conventions import y_up
from g2vlm.export.mesh import Mesh
from g2vlm.export.names import stem
from g2vlm.records import Reconstruction

FRUSTUM_DEPTH = 0.15
"""Of the median depth of all views."""

EDGES = ((0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (2, 3), (3, 4), (4, 1), (1, 5), (5, 2))
"""Lines of a frustum, by corner (see `frustum`)."""

COLOUR = (230, 90, 40, 255)


def glb(reconstruction: Reconstruction, shape: Cloud | Mesh, said: dict[str, str]) -> bytes:
    """Shape and frusta with glTF's axes (y up); a camera that could not be fitted has no frustum and is named in the extras."""
    import trimesh

    scene = trimesh.Scene()
    if isinstance(shape, Mesh):
        vertices, kind = shape.vertices, "surfaces"
        geometry = trimesh.Trimesh(
            y_up(vertices.positions),
            shape.faces,
            vertex_normals=y_up(vertices.normals),
            vertex_colors=vertices.colours,
            process=False,
        )
    else:
        geometry, kind = trimesh.PointCloud(y_up(shape.positions), shape.colours), "points"
    scene.add_geometry(geometry, node_name=kind, geom_name=kind)
    depth = frustum_depth(reconstruction)
    unknown = []
    for view, pose in enumerate(reconstruction.poses):
        name = f"camera {stem(reconstruction, view)}"
        if np.isfinite(reconstruction.intrinsics[view]).all():
            corners = frustum(reconstruction.intrinsics[view], reconstruction.original_sizes[view], pose, depth)
            scene.add_geometry(_lines(y_up(corners)), node_name=name, geom_name=name)
        else:
            unknown.append(name)
    scene.metadata.update(said)
    if unknown:
        scene.metadata["without_intrinsics"] = unknown
    return cast(bytes, scene.export(file_type="glb"))


def frustum_depth(reconstruction: Reconstruction) -> float:
    """How far frusta are drawn, in units of the scene."""
    known = [depth[mask] for depth, mask in zip(reconstruction.depth, reconstruction.mask, strict=True)]
    depths = np.concatenate(known)
    return FRUSTUM_DEPTH * float(np.median(depths)) if depths.size else FRUSTUM_DEPTH


def frustum(
    intrinsics: Float[np.ndarray, "3 3"], size: tuple[int, int], pose: Float[np.ndarray, "4 4"], depth: float
) -> Float[np.ndarray, "6 3"]:
    """In the world: the camera, the left upper, right upper, right lower and left lower corner of its picture at this depth,
    and a tip above the picture that says which way is up."""
    unit = resized(intrinsics, size, (1, 1))  # of a picture one pixel wide and high
    pixels = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0.5, -0.3]])
    rays = (pixels - unit[:2, 2]) / unit.diagonal()[:2]
    local = np.concatenate([np.zeros((1, 3)), depth * np.concatenate([rays, np.ones((5, 1))], axis=1)])
    return local @ pose[:3, :3].T + pose[:3, 3]


def _lines(corners: Float[np.ndarray, "6 3"]) -> Any:
    from trimesh.path import Path3D
    from trimesh.path.entities import Line

    entities = [Line(edge) for edge in EDGES]
    return Path3D(entities, corners, colors=np.tile(np.array(COLOUR, np.uint8), (len(EDGES), 1)), process=False)
