import pytest
import torch

from g2vlm.geometry.align import robust_scale
from g2vlm.geometry.camera import (
    intrinsics_from_points,
    intrinsics_matrix,
    pixel_centres,
    project,
    rescale_intrinsics,
    unproject,
)

HEIGHT, WIDTH = 20, 32


def camera(fx=40.0, fy=30.0, cx=WIDTH / 2, cy=HEIGHT / 2, dtype=torch.float64):
    return intrinsics_matrix(*(torch.tensor(value, dtype=dtype) for value in (fx, fy, cx, cy)))


def depth_map(*batch, height=HEIGHT, width=WIDTH, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*batch, height, width, generator=generator, dtype=torch.float64) * 4 + 1


def test_the_first_pixel_has_its_centre_at_one_half():
    centres = pixel_centres(2, 3)
    assert centres.shape == (2, 3, 2)
    assert centres[0, 0].tolist() == [0.5, 0.5]
    assert centres[1, 2].tolist() == [2.5, 1.5]


def test_intrinsics_stand_where_a_pinhole_matrix_has_them():
    assert camera(1.0, 2.0, 3.0, 4.0).tolist() == [[1, 0, 3], [0, 2, 4], [0, 0, 1]]
    assert intrinsics_matrix(torch.ones(2, 1), torch.ones(5), torch.tensor(3.0), torch.tensor(4.0)).shape == (
        2,
        5,
        3,
        3,
    )


def test_the_principal_ray_is_the_axis_and_depth_is_z():
    points = unproject(torch.full((3, 5), 2.0), camera(10.0, 10.0, 2.5, 1.5, torch.float32))
    assert points[1, 2].tolist() == [0, 0, 2]
    torch.testing.assert_close(points[0, 4], torch.tensor([2 * 2 / 10, -1 * 2 / 10, 2]))


def test_unprojected_pixels_project_onto_themselves():
    depth = depth_map(2, 3)
    intrinsics = torch.stack([camera(40.0 + i, 30.0 - i, 15.0 + i, 9.0) for i in range(6)]).view(2, 3, 3, 3)
    pixels = project(unproject(depth, intrinsics), intrinsics)
    torch.testing.assert_close(pixels, pixel_centres(HEIGHT, WIDTH, dtype=depth.dtype).expand_as(pixels))


def test_each_camera_projects_its_own_points():
    intrinsics = torch.stack([camera(10.0), camera(20.0)])
    points = torch.tensor([1.0, 0.0, 2.0]).double().expand(2, 4, 3)
    assert project(points, intrinsics)[:, :, 0].tolist() == [[21.0] * 4, [26.0] * 4]


def test_a_resized_picture_keeps_its_rays():
    """The field of view and the corners (0, 0) and (width, height) stay; pixel centres make this a plain scaling."""
    small = rescale_intrinsics(camera(), (HEIGHT, WIDTH), (10, 8))
    points = torch.tensor([[0.3, -0.2, 2.0]]).double()
    expected = project(points, camera()) * torch.tensor([8 / WIDTH, 10 / HEIGHT])
    torch.testing.assert_close(project(points, small), expected)


def test_half_precision_depth_does_not_blur_the_pixel_grid():
    depth = torch.ones(2, 600, dtype=torch.bfloat16)
    x = unproject(depth, camera(600.0, 600.0, 0.0, 0.0, torch.float32))[..., 0]
    exact = (torch.arange(600) + 0.5) / 600
    assert x.dtype == torch.bfloat16
    assert torch.equal(x[0], exact.bfloat16())


def test_the_gradient_of_unproject_and_project_is_the_true_one():
    depth, intrinsics = depth_map(height=3, width=4).requires_grad_(), camera().requires_grad_()
    assert torch.autograd.gradcheck(unproject, (depth, intrinsics))
    assert torch.autograd.gradcheck(project, (unproject(depth, intrinsics).detach().requires_grad_(), intrinsics))


@pytest.mark.parametrize("size", [(20, 32), (21, 33), (2, 2), (1, 1), (7, 1)])
def test_the_focal_lengths_of_a_pinhole_point_map_are_found_exactly(size):
    height, width = size
    truth = camera(40.0, 30.0, width / 2, height / 2)
    fit = intrinsics_from_points(unproject(depth_map(height=height, width=width), truth))
    for axis, extent in enumerate((width, height)):
        focal = fit.intrinsics[axis, axis]
        assert focal.isnan() if extent == 1 else focal.item() == pytest.approx(truth[axis, axis].item())
    assert fit.intrinsics[:2, 2].tolist() == [width / 2, height / 2]
    assert fit.relative_error.isnan() if 1 in size else fit.relative_error.item() == pytest.approx(0, abs=1e-12)


def spoiled_points(noise=0.0, outliers=0.0, masked=0.0, seed=0, height=56, width=70):
    """A point map with relative noise on every coordinate, random points in places, and holes of weight zero."""
    generator = torch.Generator().manual_seed(seed)
    truth = camera(80.0, 75.0, width / 2, height / 2)
    points = unproject(depth_map(height=height, width=width, seed=seed), truth)
    points = points * (1 + noise * torch.randn(points.shape, generator=generator, dtype=torch.float64))
    is_outlier, is_masked = (
        torch.rand(2, height, width, generator=generator) < torch.tensor([outliers, masked])[:, None, None]
    )
    points[is_outlier] = torch.randn(int(is_outlier.sum()), 3, generator=generator, dtype=torch.float64).abs() * 3
    points[is_masked] = torch.nan
    return points, (~is_masked).double(), truth


@pytest.mark.parametrize(
    ("spoil", "tolerance"),
    [
        ({"noise": 0.05}, 0.01),  # worst of 5 seeds: 0.0024
        ({"outliers": 0.2}, 1e-9),  # every ray but the outliers' is exact
        ({"masked": 0.5}, 1e-9),
        ({"noise": 0.05, "outliers": 0.2, "masked": 0.5}, 0.02),  # worst: 0.0072
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_the_focal_lengths_survive_noise_outliers_and_holes(spoil, tolerance, seed):
    points, weights, truth = spoiled_points(**spoil, seed=seed)
    for fit in (intrinsics_from_points(points), intrinsics_from_points(points, weights)):
        for axis in range(2):
            assert fit.intrinsics[axis, axis].item() == pytest.approx(truth[axis, axis].item(), rel=tolerance)


def test_weights_turn_the_fit_to_the_minority_that_is_right():
    points, weights, truth = spoiled_points()
    points[:, 20:, :2] *= 2
    weights[:, 20:] = 1e-3
    assert intrinsics_from_points(points).intrinsics[0, 0].item() == pytest.approx(80 / 2)
    torch.testing.assert_close(intrinsics_from_points(points, weights).intrinsics, truth)


def test_a_point_that_is_not_finite_in_one_coordinate_does_not_count():
    points, _, truth = spoiled_points()
    points[:, :50, 2], points[::2, :, 0] = torch.inf, torch.nan
    torch.testing.assert_close(intrinsics_from_points(points).intrinsics, truth)


def test_the_relative_error_heeds_pixels_by_their_distance_from_the_centre():
    """Near the centre a ray says little about the focal length; here it is wrong there, for most of the pixels."""
    points = unproject(torch.ones(6, 6).double(), camera(10.0, 10.0, 3.0, 3.0))
    points[:, 1:5, 0] *= 1.3
    points[1:5, :, 1] *= 1.3
    assert intrinsics_from_points(points).relative_error.item() == pytest.approx(0, abs=1e-12)


def test_noise_of_the_points_does_not_make_the_focal_length_shorter():
    """Fitting focal * slope = offset would: the noise attenuates the focal length, as of any regression on noisy values."""
    points, weights, _ = spoiled_points()
    points[..., :2] += 0.2 * points[..., 2:] * torch.randn(56, 70, 2, generator=torch.Generator().manual_seed(0))
    assert intrinsics_from_points(points).intrinsics[0, 0].item() == pytest.approx(80, rel=0.02)
    offset = pixel_centres(56, 70, dtype=torch.float64)[..., 0].flatten() - 35
    slope = (points[..., 0] / points[..., 2]).flatten()
    assert robust_scale(slope, offset, weights.flatten()) < 70


def test_the_relative_error_measures_the_noise():
    errors = [intrinsics_from_points(spoiled_points(noise=noise)[0]).relative_error.item() for noise in (0.01, 0.04)]
    assert errors[0] == pytest.approx(0.01, rel=0.3)
    assert errors[1] == pytest.approx(0.04, rel=0.3)


def test_focal_lengths_do_not_know_the_scale_of_the_points():
    points, _, _ = spoiled_points(noise=0.05)
    torch.testing.assert_close(intrinsics_from_points(7 * points).intrinsics, intrinsics_from_points(points).intrinsics)


def test_a_batch_of_point_maps_equals_the_single_ones():
    points, weights, _ = (
        torch.stack(parts) for parts in zip(*(spoiled_points(0.05, seed=s) for s in range(4)), strict=True)
    )
    fit = intrinsics_from_points(points.unflatten(0, (2, 2)), weights.unflatten(0, (2, 2)))
    for i in range(4):
        single = intrinsics_from_points(points[i], weights[i])
        assert torch.equal(fit.intrinsics[i // 2, i % 2], single.intrinsics)
        assert torch.equal(fit.relative_error[i // 2, i % 2], single.relative_error)


def test_a_point_map_without_a_seen_point_has_no_focal_length():
    points, _, _ = spoiled_points()
    for nothing in (points * torch.nan, -points):
        fit = intrinsics_from_points(nothing)
        assert fit.intrinsics.diagonal()[:2].isnan().all()
        assert fit.intrinsics[:2, 2].tolist() == [35, 28]
        assert fit.relative_error.isnan()


def test_a_mirrored_point_map_has_no_focal_length():
    points, _, _ = spoiled_points()
    fit = intrinsics_from_points(points * torch.tensor([-1.0, 1.0, 1.0]))
    assert fit.intrinsics[0, 0].isnan()
    assert fit.intrinsics[1, 1].item() == pytest.approx(75)
    assert fit.relative_error.isnan()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_focal_lengths_have_the_dtype_of_the_points(dtype):
    fit = intrinsics_from_points(spoiled_points()[0].to(dtype))
    assert fit.intrinsics.dtype == fit.relative_error.dtype == dtype
    exact = intrinsics_from_points(spoiled_points()[0].to(dtype).double())
    assert torch.equal(fit.intrinsics, exact.intrinsics.to(dtype))
    assert torch.equal(fit.relative_error, exact.relative_error.to(dtype))
