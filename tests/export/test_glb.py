"""A GLB stands upright in a viewer, its frusta look where the cameras looked, and it says what its numbers mean."""

import json
import struct
from dataclasses import replace

import numpy as np
import trimesh

from g2vlm.export.conventions import y_up
from g2vlm.export.glb import frustum
from g2vlm.export.save import save
from g2vlm.geometry.camera import unproject


def structure(path):
    content = path.read_bytes()
    (length,) = struct.unpack_from("<I", content, 12)
    return json.loads(content[20 : 20 + length])


def test_the_first_camera_looks_along_minus_z_with_up_upwards(reconstruction, tmp_path):
    save(reconstruction, tmp_path, ["glb"])
    corners = trimesh.load(tmp_path / "scene.glb").geometry["camera 00_a"].vertices
    start = y_up(reconstruction.poses[0, :3, 3])
    assert (corners[:, 2] <= start[2] + 1e-6).all()
    tip = corners[corners[:, 1].argmax()]
    assert tip[1] > start[1]
    np.testing.assert_allclose(tip[0], start[0], atol=1e-6)


def test_a_frustum_holds_the_picture_of_its_camera(reconstruction):
    """Its corners are where the corners of the picture are at that depth: half a pixel outside of the outer centres."""
    import torch

    height, width = reconstruction.original_sizes[1]
    intrinsics = torch.from_numpy(reconstruction.intrinsics[1]).double()
    centres = unproject(torch.full((height, width), 2.0).double(), intrinsics).numpy()
    half = np.array([0.5 * 2 / 600, 0.5 * 2 / 600, 0])
    corners = frustum(reconstruction.intrinsics[1], (height, width), np.eye(4), 2.0)
    np.testing.assert_allclose(corners[1], centres[0, 0] - half, atol=1e-12)
    np.testing.assert_allclose(corners[3], centres[-1, -1] + half, atol=1e-12)


def test_the_scene_says_axes_and_scale(reconstruction, tmp_path):
    save(reconstruction, tmp_path, ["glb"])
    extras = structure(tmp_path / "scene.glb")["scenes"][0]["extras"]
    assert "y up" in extras["axes"]
    assert "scale_free" in extras["scale"]
    assert "without_intrinsics" not in extras


def test_a_view_without_intrinsics_has_no_frustum_and_is_named(reconstruction, tmp_path):
    intrinsics = reconstruction.intrinsics.copy()
    intrinsics[1, 0, 0] = np.nan
    save(replace(reconstruction, intrinsics=intrinsics), tmp_path, ["glb"])
    file = structure(tmp_path / "scene.glb")
    assert {mesh["name"] for mesh in file["meshes"]} == {"points", "camera 00_a", "camera 02_a"}
    assert file["scenes"][0]["extras"]["without_intrinsics"] == ["camera 01_b"]


def test_surfaces_stand_in_the_place_of_points(reconstruction, tmp_path):
    save(reconstruction, tmp_path, ["glb"], mesh=True)
    scene = trimesh.load(tmp_path / "scene.glb")
    assert "points" not in scene.geometry
    surfaces = scene.geometry["surfaces"]
    assert isinstance(surfaces, trimesh.Trimesh)
    assert surfaces.visual.kind == "vertex"
    towards = y_up(reconstruction.poses[0, :3, 3]) - surfaces.triangles_center[:10]
    assert ((surfaces.face_normals[:10] * towards).sum(-1) > 0).all()
