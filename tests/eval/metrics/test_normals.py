import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from g2vlm.eval.metrics.normals import normal_angles, normal_errors


def unit(degrees):
    """Normals that many degrees from the x axis, towards y."""
    angles = np.radians(np.asarray(degrees, dtype=float))
    return np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=-1)


def all_of(normals):
    return np.ones(normals.shape[:-1], dtype=bool)


@pytest.mark.parametrize("degrees", [0, 1e-7, 0.5, 5, 11.25, 45, 90, 120, 179.9999999, 180])
def test_the_angle_between_normals_is_known_and_keeps_its_digits(degrees):
    truth = unit([0.0])
    angles = normal_angles(unit([degrees]), truth, all_of(truth))
    assert angles.degrees.item() == pytest.approx(degrees, abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_angles_equal_those_of_the_dot_product(seed):
    prediction, truth = np.random.default_rng(seed).normal(size=(2, 4, 5, 3))
    cosine = (prediction * truth).sum(-1) / np.linalg.norm(prediction, axis=-1) / np.linalg.norm(truth, axis=-1)
    angles = normal_angles(prediction, truth, all_of(truth)).degrees
    np.testing.assert_allclose(angles, np.degrees(np.arccos(cosine)).ravel(), atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_a_turn_of_the_camera_and_the_length_of_normals_do_not_matter(seed):
    rng = np.random.default_rng(seed)
    prediction, truth = rng.normal(size=(2, 7, 3))
    turn = Rotation.from_rotvec(rng.normal(size=3)).as_matrix()
    expected = normal_angles(prediction, truth, all_of(truth)).degrees
    turned = normal_angles(3 * prediction @ turn.T, 0.1 * truth @ turn.T, all_of(truth)).degrees
    np.testing.assert_allclose(turned, expected, atol=1e-9)


def test_the_published_numbers_of_a_row_of_angles():
    errors = normal_errors(np.array([1.0, 6.0, 8.0, 20.0, 25.0, 60.0]))
    assert (errors.mean, errors.median) == (20, 14)
    assert errors.rmse == pytest.approx(np.sqrt((1 + 36 + 64 + 400 + 625 + 3600) / 6))
    within = (errors.within_5, errors.within_7_5, errors.within_11_25, errors.within_22_5, errors.within_30)
    assert within == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6])
    assert errors.num_pixels == 6


@pytest.mark.parametrize(
    ("bound", "name"),
    [(5, "within_5"), (7.5, "within_7_5"), (11.25, "within_11_25"), (22.5, "within_22_5"), (30, "within_30")],
)
def test_an_angle_equal_to_the_bound_is_not_within_it(bound, name):
    assert getattr(normal_errors(np.array([bound, np.nextafter(bound, 0)])), name) == 0.5


def test_opposite_normals_are_half_a_turn_apart():
    truth = unit([30.0])
    assert normal_angles(-truth, truth, all_of(truth)).degrees.item() == pytest.approx(180)


def test_a_missing_prediction_counts_as_ninety_degrees_and_is_counted():
    truth = unit([0.0, 0, 0])
    prediction = unit([0.0, 10, 0])
    prediction[2] = 0
    angles = normal_angles(prediction, truth, all_of(truth))
    np.testing.assert_allclose(angles.degrees, [0, 10, 90], atol=1e-9)
    assert (angles.num_missing, angles.num_left_out) == (1, 0)


def test_pixels_without_a_true_normal_are_left_out_and_counted():
    truth, prediction = unit([0.0, 0, 0, 0]), unit([5.0, 10, 20, 40])
    truth[0], truth[1] = 0, np.nan
    mask = np.array([True, True, True, False])
    prediction[[0, 1, 3]] = np.nan
    angles = normal_angles(prediction, truth, mask)
    np.testing.assert_allclose(angles.degrees, [20], atol=1e-9)
    assert angles.num_left_out == 3


def test_a_prediction_that_is_not_finite_is_an_error():
    truth, prediction = unit([0.0, 0, 0]), unit([0.0, 0, 0])
    prediction[1, 2] = np.nan
    with pytest.raises(ValueError, match="predicted normal is not finite in 1 of 3 pixels"):
        normal_angles(prediction, truth, all_of(truth))


def test_nothing_to_compare_is_an_error():
    truth = unit([0.0, 0])
    with pytest.raises(ValueError, match="no normal to compare: of 2, 0 are in the mask"):
        normal_angles(truth, truth, ~all_of(truth))
    with pytest.raises(ValueError, match="no normal to compare: of 2, 2 are in the mask"):
        normal_angles(truth, 0 * truth, all_of(truth))
    with pytest.raises(ValueError, match="no angles"):
        normal_errors(np.zeros(0))


def test_a_median_of_all_pixels_is_not_a_mean_of_medians():
    few, many = np.array([80.0]), np.array([1.0, 2.0, 3.0])
    assert normal_errors(np.concatenate([few, many])).median == 2.5
    assert np.mean([normal_errors(few).median, normal_errors(many).median]) == 41


def test_single_precision_normals_are_compared_in_double():
    prediction, truth = np.random.default_rng(0).normal(size=(2, 9, 3)).astype(np.float32)
    exact = normal_angles(prediction.astype(np.float64), truth.astype(np.float64), all_of(truth))
    np.testing.assert_array_equal(normal_angles(prediction, truth, all_of(truth)).degrees, exact.degrees)
