import numpy as np
import pytest
from scipy.optimize import minimize

from g2vlm.eval.metrics.intrinsics import field_of_view, focal_and_shift, focal_errors


def matrix(fx, fy=None, cx=320.0, cy=240.0):
    return np.array([[fx, 0, cx], [0, fx if fy is None else fy, cy], [0, 0, 1.0]])


@pytest.mark.parametrize(
    ("focal", "side", "degrees"),
    [(50, 100, 90), (50 * 3**0.5, 100, 60), (50 / 3**0.5, 100, 120), (320, 640, 90), (1e9, 100, 0)],
)
def test_the_field_of_view_of_a_focal_length_is_known(focal, side, degrees):
    assert field_of_view(matrix(focal)[None], (side, 2 * side))[0, 1] == pytest.approx(degrees, abs=1e-4)
    assert field_of_view(matrix(focal)[None], (2 * side, side))[0, 0] == pytest.approx(degrees, abs=1e-4)


@pytest.mark.parametrize(
    ("predicted", "true", "relative", "pixels"),
    [(500, 500, 0, 0), (550, 500, 0.1, 50), (450, 500, 0.1, 50), (1000, 500, 1, 500), (250, 500, 0.5, 250)],
)
def test_errors_of_a_focal_length_are_relative_to_the_truth(predicted, true, relative, pixels):
    errors = focal_errors(matrix(predicted)[None], matrix(true)[None], (480, 640))
    np.testing.assert_allclose(errors.relative, [[relative] * 2])
    np.testing.assert_allclose(errors.pixels, [[pixels] * 2])


def test_the_error_of_the_field_of_view_is_in_degrees_of_each_axis():
    errors = focal_errors(matrix(320, 240)[None], matrix(320 / 3**0.5, 240 * 3**0.5)[None], (480, 640))
    np.testing.assert_allclose(errors.fov_degrees, [[30, 30]])
    np.testing.assert_allclose(errors.pixels, [[320 - 320 / 3**0.5, 240 * 3**0.5 - 240]])


def test_every_view_and_axis_has_its_own_error():
    prediction = np.stack([matrix(100, 200), matrix(300, 400)])
    truth = np.stack([matrix(100, 100), matrix(200, 400)])
    np.testing.assert_allclose(focal_errors(prediction, truth, (480, 640)).relative, [[0, 1], [0.5, 0]])


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0, -100])
def test_a_focal_length_that_is_no_positive_number_is_an_error(bad):
    prediction = np.stack([matrix(100), matrix(bad)])
    with pytest.raises(ValueError, match="1 of 2 views have a predicted focal length that is not a positive number"):
        focal_errors(prediction, np.stack([matrix(100)] * 2), (480, 640))


def test_no_views_are_an_error():
    with pytest.raises(ValueError, match="no views"):
        focal_errors(np.zeros((0, 3, 3)), np.zeros((0, 3, 3)), (480, 640))


def point_map(focal, shift=0.0, size=(48, 64), seed=0, noise=0.0):
    """Points of a pinhole camera with rough depth, whose z is `shift` too small."""
    rng = np.random.default_rng(seed)
    height, width = size
    x, y = np.meshgrid(np.arange(width) + 0.5 - width / 2, np.arange(height) + 0.5 - height / 2)
    z = rng.uniform(2, 6, size)
    points = np.stack([x * z / focal, y * z / focal, z - shift], axis=-1)
    return points + noise * rng.normal(size=points.shape)


@pytest.mark.parametrize("shift", [0.0, 0.5, -1.0, 1.9])
@pytest.mark.parametrize("focal", [20.0, 60.0, 300.0])
def test_the_focal_length_and_the_shift_of_a_pinhole_camera_are_found_again(focal, shift):
    found = focal_and_shift(point_map(focal, shift))
    assert found.focal == pytest.approx(focal, rel=1e-6)
    assert found.shift == pytest.approx(shift, abs=1e-6)
    assert found.num_pixels == 48 * 64


@pytest.mark.parametrize("seed", range(3))
def test_no_search_finds_points_that_project_closer(seed):
    points = point_map(60.0, 0.5, seed=seed, noise=0.05)
    found = focal_and_shift(points)
    y, x = np.mgrid[:48, :64] + 0.5
    pixels = np.stack([x - 32, y - 24], axis=-1)

    def objective(fit):
        return np.square(fit[0] * points[..., :2] / (points[..., 2:] + fit[1]) - pixels).sum()

    searched = minimize(objective, (60, 0.5), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-9})
    assert (found.focal, found.shift) == pytest.approx(tuple(searched.x), rel=1e-5)


@pytest.mark.parametrize("focal", [60.0, 80.0])
def test_a_known_focal_length_is_kept_and_only_the_shift_is_found(focal):
    found = focal_and_shift(point_map(60.0, 0.5), focal=focal)
    assert found.focal == focal
    assert found.shift == pytest.approx(0.5, abs=1e-6) if focal == 60 else found.shift > 0.6


def test_pixels_outside_the_mask_and_points_that_are_not_finite_do_not_count():
    points = point_map(60.0, 0.5)
    mask = np.ones((48, 64), dtype=bool)
    mask[10:20] = False
    points[10:20] = 7
    points[0, 0] = np.nan
    found = focal_and_shift(points, mask)
    assert (found.focal, found.shift) == (pytest.approx(60), pytest.approx(0.5))
    assert found.num_pixels == 38 * 64 - 1


@pytest.mark.parametrize("size", [(48, 64), (100, 130), (37, 91)])
def test_a_grid_takes_the_nearest_pixels_as_torch_does(size):
    torch = pytest.importorskip("torch")
    points = point_map(60.0, 0.5, size=size, noise=0.05)
    mask = np.zeros(size, dtype=bool)
    index = torch.arange(size[0] * size[1]).reshape(1, 1, *size).double()
    chosen = torch.nn.functional.interpolate(index, (64, 64), mode="nearest").long().unique()
    mask.reshape(-1)[chosen.numpy()] = True
    found = focal_and_shift(points, grid=(64, 64))
    assert found.num_pixels == 64 * 64
    if size[0] >= 64:  # no pixel is taken twice then
        expected = focal_and_shift(points, mask)
        assert (found.focal, found.shift) == pytest.approx((expected.focal, expected.shift))


def test_a_loose_tolerance_stops_before_the_minimum():
    points = point_map(60.0, 1.9, noise=0.02)
    exact, loose = focal_and_shift(points), focal_and_shift(points, tolerance=0.1)
    assert loose.shift != pytest.approx(exact.shift, rel=1e-9)


def test_too_few_pixels_are_an_error():
    mask = np.zeros((48, 64), dtype=bool)
    mask[3, 4] = True
    with pytest.raises(ValueError, match="at least 2 pixels with a point, but 1 of 3072 have one"):
        focal_and_shift(point_map(60.0), mask)


def test_the_settings_of_moge_work_in_single_precision():
    points = point_map(60.0, 0.5, size=(100, 130), noise=0.02).astype(np.float32)
    single, double = (focal_and_shift(points, grid=(64, 64), tolerance=1e-3, dtype=d) for d in (np.float32, np.float64))
    assert single.shift == float(np.float32(single.shift))
    assert double.shift != float(np.float32(double.shift))
    assert (single.focal, single.shift) == pytest.approx((double.focal, double.shift), rel=1e-3)
