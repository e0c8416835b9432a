"""A reconstruction fitted to cameras that are known."""

import dataclasses

import numpy as np
import pytest
from builders import true_reconstruction
from scipy.spatial.transform import Rotation

from g2vlm.geometry.pose import FLIP
from g2vlm.known import KnownCameras, agreement, fit_to_known, on_rays, pose_difference
from g2vlm.records import Reconstruction
from g2vlm.worlds import moved, scaled


def known(
    scene: Reconstruction, *, intrinsics: bool = False, poses: bool = False, is_metric: bool = True
) -> KnownCameras:
    return KnownCameras(
        scene.intrinsics if intrinsics else None, scene.poses if poses else None, is_metric, source="cameras.json"
    )


def with_cameras_off(scene: Reconstruction, degrees: float, seed: int = 0) -> Reconstruction:
    """As a model would have it that sees every view rightly, but the cameras turned by a few degrees."""
    draw = np.random.default_rng(seed)
    poses, points = scene.poses.copy(), []
    for view, pose in enumerate(scene.poses):
        axis = draw.normal(size=3)
        turn = Rotation.from_rotvec(np.radians(degrees) * axis / np.linalg.norm(axis)).as_matrix()
        local = (scene.points[view] - pose[:3, 3]) @ pose[:3, :3]
        poses[view, :3, :3] = pose[:3, :3] @ turn
        points.append((local @ poses[view, :3, :3].T + pose[:3, 3]).astype(np.float32))
    return dataclasses.replace(scene, poses=poses, points=tuple(points))


def test_a_true_scene_fits_its_own_cameras_in_any_unit_and_world():
    truth = true_reconstruction()
    transform = np.eye(4)
    transform[:3, :3] = Rotation.from_euler("xyz", [10, 20, 30], degrees=True).as_matrix()
    fitted, report = fit_to_known(moved(scaled(truth, 4.0), transform), known(truth, intrinsics=True, poses=True))
    assert report.scale == pytest.approx(0.25, rel=3e-3)
    assert report.rotation_deg < 0.1
    assert report.translation_deg < 0.1
    np.testing.assert_allclose(report.focal_error, 0, atol=1e-5)
    np.testing.assert_allclose(fitted.poses, truth.poses, atol=1e-6)
    for view in range(3):
        np.testing.assert_allclose(fitted.points[view], truth.points[view], rtol=4e-3, atol=5e-3)
    assert fitted.scale == "metric"
    assert fitted.world == "known"


def test_two_views_are_enough_for_scale():
    truth = true_reconstruction(num_views=2)
    _, report = fit_to_known(scaled(truth, 3.0), known(truth, poses=True))
    assert report.scale == pytest.approx(1 / 3, rel=3e-3)


def test_known_poses_make_views_agree_better():
    truth = true_reconstruction()
    off = with_cameras_off(truth, degrees=3)
    fitted, report = fit_to_known(off, known(truth, poses=True, is_metric=False))
    assert report.rotation_deg > 2
    assert report.after.median < 0.3 * report.before.median
    assert report.before.num_matches > 100
    assert fitted.scale == "scale_free"
    assert agreement(fitted) == report.after


def test_known_intrinsics_put_points_on_their_rays_and_keep_what_lay_there():
    truth = true_reconstruction()
    same = on_rays(truth, truth.intrinsics)
    np.testing.assert_allclose(same.points[1], truth.points[1], atol=1e-4)
    longer = truth.intrinsics.copy()
    longer[:, [0, 1], [0, 1]] *= 1.3
    fitted, report = fit_to_known(truth, KnownCameras(longer, None, False, "cameras.json"))
    np.testing.assert_allclose(report.focal_error, 1 / 1.3 - 1, rtol=1e-4)
    local = (fitted.points[0] - fitted.poses[0, :3, 3]) @ fitted.poses[0, :3, :3]
    pixels = local @ longer[0].T
    rows, columns = np.indices(fitted.depth[0].shape)
    np.testing.assert_allclose(pixels[..., 0] / pixels[..., 2], columns + 0.5, atol=1e-2)
    np.testing.assert_allclose(pixels[..., 1] / pixels[..., 2], rows + 0.5, atol=1e-2)
    assert fitted.world == "view_0"


@pytest.mark.parametrize(
    ("convert", "name"),
    [
        (np.linalg.inv, "world-to-camera in OpenCV"),
        (lambda poses: poses @ FLIP, "camera-to-world in OpenGL"),
        (lambda poses: FLIP @ np.linalg.inv(poses), "world-to-camera in OpenGL"),
    ],
)
def test_poses_in_another_convention_are_refused_by_its_name(convert: object, name: str):
    truth = true_reconstruction(seed=8, num_views=4)
    assert callable(convert)
    wrong = KnownCameras(None, convert(truth.poses), True, "cameras.json")
    with pytest.raises(
        ValueError, match=f"cameras.json do not fit the photos as camera-to-world in OpenCV axes .* as {name}"
    ):
        fit_to_known(truth, wrong)


def test_cameras_that_never_move_say_nothing_of_scale():
    truth = true_reconstruction()
    still = truth.poses.copy()
    still[:, :3, 3] = 0
    with pytest.raises(ValueError, match="all stand in one place"):
        fit_to_known(truth, KnownCameras(None, still, True, "cameras.json"))


def test_cameras_of_other_views_are_refused():
    truth = true_reconstruction()
    with pytest.raises(ValueError, match=r"cameras\.json has poses of 2 views, but there are 3"):
        fit_to_known(truth, KnownCameras(None, truth.poses[:2], True, "cameras.json"))


def test_the_difference_of_poses_is_free_of_world_and_unit():
    truth = true_reconstruction(num_views=4)
    rotation, translation = pose_difference(moved(scaled(truth, 7), truth.poses[2]).poses, truth.poses)
    assert rotation < 0.05
    assert translation < 0.05
