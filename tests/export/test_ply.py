"""The point cloud opens in other readers, keeps what it promises, and leaves out what was asked."""

import io
from dataclasses import replace

import numpy as np
import pytest
import trimesh
from plyfile import PlyData

from g2vlm.export.ply import PROPERTIES, Selection, ply, point_cloud


def positions(cloud):
    return np.stack([cloud[axis] for axis in "xyz"], -1)


def test_the_file_reads_back_in_two_other_readers(reconstruction):
    cloud = point_cloud(reconstruction, Selection())
    content = ply(cloud, ("scale: scale_free",))
    vertices = PlyData.read(io.BytesIO(content))
    assert vertices.comments == ["scale: scale_free"]
    assert not vertices.text
    assert vertices.byte_order == "<"
    for name in PROPERTIES:
        np.testing.assert_array_equal(vertices["vertex"][name], cloud[name])
    mesh = trimesh.load(io.BytesIO(content), file_type="ply")
    assert isinstance(mesh, trimesh.PointCloud)
    np.testing.assert_allclose(mesh.vertices, positions(cloud), atol=1e-6)
    np.testing.assert_array_equal(mesh.colors[:, 0], cloud["red"])


def test_points_colours_and_confidence_belong_together(reconstruction):
    cloud = point_cloud(reconstruction, Selection())
    valid = reconstruction.mask
    first = int(valid[0].sum())
    np.testing.assert_array_equal(positions(cloud)[:first], reconstruction.points[0][valid[0]])
    np.testing.assert_array_equal(cloud["green"][:first], reconstruction.images[0][valid[0]][:, 1])
    np.testing.assert_array_equal(cloud["confidence"][:first], reconstruction.confidence[0][valid[0]])


def test_normals_are_in_the_world_frame(reconstruction):
    """The wall of view 1, whose camera is turned by 90 degrees: its points lie in one plane with that normal."""
    valid = reconstruction.mask
    start, stop = int(valid[0].sum()), int(valid[0].sum() + valid[1].sum())
    cloud = point_cloud(reconstruction, Selection())[start:stop]
    normals = np.stack([cloud["nx"], cloud["ny"], cloud["nz"]], -1)
    offsets = ((positions(cloud) - positions(cloud)[0]) * normals).sum(-1)
    np.testing.assert_allclose(offsets, 0, atol=1e-5)
    towards_camera = reconstruction.poses[1, :3, 3] - positions(cloud)
    assert ((normals * towards_camera).sum(-1) > 0).all()


def test_invalid_pixels_and_depth_edges_are_left_out(reconstruction):
    total = sum(depth.size for depth in reconstruction.depth)
    assert len(point_cloud(reconstruction, Selection())) == total - 2 * 28 - 28
    with_edges = point_cloud(reconstruction, Selection(keep_edges=True))
    assert len(with_edges) == total - 28
    assert np.isfinite(positions(with_edges)).all()


def test_only_confident_points_are_kept(reconstruction):
    cloud = point_cloud(reconstruction, Selection(min_confidence=0.75))
    assert 0 < len(cloud) < 3000
    assert cloud["confidence"].min() >= 0.75


def test_a_random_subset_is_drawn_by_its_seed(reconstruction):
    def draw(seed):
        return point_cloud(reconstruction, Selection(max_points=100, seed=seed))

    assert len(draw(0)) == 100
    np.testing.assert_array_equal(draw(0), draw(0))
    assert (draw(0) != draw(1)).any()
    everything = {record.tobytes() for record in point_cloud(reconstruction, Selection())}
    assert len({record.tobytes() for record in draw(0)} & everything) == 100


def test_an_empty_cloud_is_refused_with_the_highest_confidence(reconstruction):
    timid = replace(reconstruction, confidence=tuple(c * 0.5 for c in reconstruction.confidence))
    with pytest.raises(ValueError, match=r"min_confidence 0\.9; the highest is 0\.500"):
        point_cloud(timid, Selection(min_confidence=0.9))
    blind = replace(reconstruction, mask=tuple(np.zeros_like(m) for m in reconstruction.mask))
    with pytest.raises(ValueError, match="keep edges, or leave ply out"):
        point_cloud(blind, Selection())


@pytest.mark.parametrize(
    "wrong", [{"max_points": 0}, {"min_confidence": 1.5}, {"min_confidence": float("nan")}, {"seed": -1}]
)
def test_a_wrong_selection_names_its_value(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        Selection(**wrong)
