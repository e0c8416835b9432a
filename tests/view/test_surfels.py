"""Tiles on surfaces: square, across the normal, and turned to where it points."""

import numpy as np
import pytest

from g2vlm.export.cloud import Cloud
from g2vlm.view.surfels import surfels


@pytest.fixture
def cloud() -> Cloud:
    random = np.random.default_rng(0)
    normals = random.normal(size=(5, 3)).astype(np.float32)
    normals[0] = 0, 0, 1
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    positions, confidence = random.normal(size=(5, 3)).astype(np.float32), random.random(5).astype(np.float32)
    return Cloud(positions, normals, random.integers(0, 256, (5, 3), dtype=np.uint8), confidence)


def test_every_point_is_a_square_of_two_triangles_in_its_colour(cloud):
    mesh = surfels(cloud, 0.5)
    assert (len(mesh.vertices), mesh.faces.shape) == (20, (10, 3))
    tiles = mesh.vertices.positions.reshape(5, 4, 3)
    np.testing.assert_allclose(tiles.mean(1), cloud.positions, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(np.roll(tiles, -1, 1) - tiles, axis=-1), 0.5, atol=1e-6)
    np.testing.assert_array_equal(mesh.vertices.colours.reshape(5, 4, 3)[:, 3], cloud.colours)


def test_triangles_face_where_the_normal_points(cloud):
    mesh = surfels(cloud, 1.0)
    a, b, c = np.moveaxis(mesh.vertices.positions[mesh.faces], 1, 0)
    across = np.cross(b - a, c - a)
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    np.testing.assert_allclose(across, np.repeat(cloud.normals, 2, axis=0), atol=1e-5)


def test_a_point_without_a_normal_is_no_tile_but_no_error(cloud):
    nowhere = Cloud(cloud.positions, np.zeros_like(cloud.normals), cloud.colours, cloud.confidence)
    assert np.isfinite(surfels(nowhere, 1.0).vertices.positions).all()
