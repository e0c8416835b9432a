"""Surfaces face the camera, and end where depth jumps."""

from dataclasses import replace

import numpy as np
import pytest

from g2vlm.export.cloud import Selection, confident_pixels
from g2vlm.export.mesh import mesh_of


def mesh(reconstruction, **selection):
    return mesh_of(reconstruction, confident_pixels(reconstruction, Selection(**selection)))


def test_two_triangles_stand_between_four_neighbours(reconstruction):
    found = mesh(reconstruction)
    pixels = [(28, 40), (41, 28), (28, 42)]  # without two columns of edges and a row of nothing
    assert len(found.faces) == sum(2 * (h - 1) * (w - 1) for h, w in pixels)
    assert len(found.vertices) == sum(h * w for h, w in pixels)
    assert set(found.faces.ravel().tolist()) == set(range(len(found.vertices)))


def test_faces_look_where_normals_do(reconstruction):
    found = mesh(reconstruction)
    a, b, c = (found.vertices.positions[found.faces[:, i]] for i in range(3))
    across = np.cross(b - a, c - a)
    assert ((across * found.vertices.normals[found.faces[:, 0]]).sum(-1) > 0).all()


def test_no_triangle_spans_a_depth_edge(reconstruction):
    """The right half of view 0 is moved back to twice its depth; with keep_edges its rim stays, the gap stays open."""
    depth, points = reconstruction.depth[0].copy(), reconstruction.points[0].copy()
    depth[:, 21:] *= 2
    points[:, 21:] = 2 * (points[:, 21:] - reconstruction.poses[0, :3, 3]) + reconstruction.poses[0, :3, 3]
    mask = reconstruction.mask[0].copy()
    mask[:, 20:22] = False
    stepped = replace(
        reconstruction,
        depth=(depth, *reconstruction.depth[1:]),
        points=(points, *reconstruction.points[1:]),
        mask=(mask, *reconstruction.mask[1:]),
    )
    for keep_edges, num_vertices in ((False, 28 * 38), (True, 28 * 42)):
        found = mesh(stepped, keep_edges=keep_edges)
        of_view = found.vertices.positions[found.faces[(found.faces < num_vertices).all(1)]]
        length = np.linalg.norm(of_view - np.roll(of_view, 1, axis=1), axis=-1).max()
        assert length < 1, keep_edges  # the step is 2 and more, neighbours are 0.3 apart at most


def test_too_few_pixels_for_a_surface_are_refused(reconstruction):
    lonely = [np.zeros_like(m) for m in reconstruction.mask]
    lonely[0][5, 5] = True
    with pytest.raises(ValueError, match="lower min_confidence, or no mesh"):
        mesh(replace(reconstruction, mask=tuple(lonely)))
