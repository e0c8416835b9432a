"""A COLMAP model as pycolmap and our own reader see it; tracks join the views that see a point."""

from dataclasses import replace

import numpy as np
import pytest

from g2vlm.data.readers.colmap import pose_of, read_model
from g2vlm.export.cloud import Selection, selected_pixels
from g2vlm.export.colmap import BLOCK, model_of
from g2vlm.export.save import save

pycolmap = pytest.importorskip("pycolmap")


@pytest.fixture
def pair(reconstruction):
    """Views 0 and 2 made to stand at one place and see one wall, in intrinsics that fit the points."""
    focal = 40 * 640 / 42, 40 * 480 / 28
    intrinsics = np.array([[focal[0], 0, 320], [0, focal[1], 240], [0, 0, 1]], np.float32)
    return replace(
        reconstruction,
        poses=reconstruction.poses[[0, 1, 0]],
        points=(reconstruction.points[0], reconstruction.points[1], reconstruction.points[0]),
        depth=(reconstruction.depth[0], reconstruction.depth[1], reconstruction.depth[0]),
        intrinsics=np.stack([intrinsics, reconstruction.intrinsics[1], intrinsics]),
    )


def opened(folder):
    return pycolmap.Reconstruction(str(folder / "colmap/sparse/0"))


def points_of(model):
    """In the order in which they were written; pycolmap keeps none."""
    return [point for _, point in sorted(model.points3D.items())]


@pytest.mark.parametrize("text", [False, True])
def test_a_point_is_tracked_into_every_view_that_agrees(pair, tmp_path, text):
    save(pair, tmp_path, ["colmap"], text=text)
    model = opened(tmp_path)
    tracks = [{e.image_id for e in point.track.elements} for point in points_of(model)]
    first = int(pair.mask[0].sum())
    assert all({1, 3} <= track for track in tracks[:first])
    for image in model.images.values():
        for index, point in enumerate(image.points2D):
            track = model.points3D[point.point3D_id].track.elements
            assert any((e.image_id, e.point2D_idx) == (image.image_id, index) for e in track)
    written = [point.error for point in points_of(model)[:first]]
    model.update_point_3d_errors()
    errors = [point.error for point in points_of(model)[:first]]
    np.testing.assert_allclose(written, errors, atol=1e-4)
    assert max(errors) < 1e-3  # 640 pixels wide; measured 1e-4


def test_a_point_behind_another_surface_is_not_seen(pair, tmp_path):
    nearer = pair.depth[2] / 2
    save(replace(pair, depth=(*pair.depth[:2], nearer)), tmp_path, ["colmap"])
    tracks = [{e.image_id for e in point.track.elements} for point in points_of(opened(tmp_path))]
    assert all(3 not in track for track in tracks[: int(pair.mask[0].sum())])


def test_a_model_of_many_blocks_is_read_whole(reconstruction, tmp_path, monkeypatch):
    monkeypatch.setattr("g2vlm.export.colmap.BLOCK", 1000)
    assert BLOCK > 1000
    save(reconstruction, tmp_path, ["colmap"])
    model, wanted = opened(tmp_path), model_of(reconstruction, selected_pixels(reconstruction, Selection()))
    assert model.num_points3D() == len(wanted.cloud)
    np.testing.assert_array_equal([p.xyz for p in points_of(model)], wanted.cloud.positions)
    assert model.compute_num_observations() == len(wanted.seen.point)


@pytest.mark.parametrize("text", [False, True])
def test_our_own_reader_reads_it(reconstruction, tmp_path, text):
    named = replace(reconstruction, names=("a b$.jpg", "b.jpg", "ü.jpg"))
    save(named, tmp_path, ["colmap"], text=text)
    cameras, images = read_model(tmp_path / "colmap/sparse/0")
    by_camera = sorted(images, key=lambda image: image.camera)
    assert [image.name for image in by_camera] == ["00_a_b_.jpg", "b.jpg", "ü.jpg"]
    np.testing.assert_allclose([pose_of(image) for image in by_camera], reconstruction.poses, atol=1e-6)
    assert cameras[2].parameters == (600, 600, 320, 240)
    assert [i.name for _, i in sorted(opened(tmp_path).images.items())] == [image.name for image in by_camera]


def test_text_says_axes_and_scale(reconstruction, tmp_path):
    save(reconstruction, tmp_path, ["colmap"], text=True)
    for name in ("cameras", "images", "points3D"):
        head = (tmp_path / f"colmap/sparse/0/{name}.txt").read_text()
        assert "# axes: OpenCV" in head
        assert "# scale: scale_free" in head
        assert "# poses: world-to-camera" in head


@pytest.mark.parametrize("format", ["colmap", "nerfstudio"])
def test_a_view_without_intrinsics_is_refused_by_name(reconstruction, tmp_path, format):
    intrinsics = reconstruction.intrinsics.copy()
    intrinsics[1, 0, 0] = np.nan
    with pytest.raises(ValueError, match=f"b.jpg: no camera fits .* or {format}"):
        save(replace(reconstruction, intrinsics=intrinsics), tmp_path / "out", [format])
    assert not (tmp_path / "out").exists()
