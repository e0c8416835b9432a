"""Similarities compose, invert and move points and cameras alike; a fit heeds the majority and favours neither side."""

import pytest
import roma
import torch

from g2vlm.geometry.pose import pose_from, transform
from g2vlm.geometry.similarity import Similarity, camera_marks, identity, numbers_of, robust_similarity, small, stacked


def random_similarity(seed: int, *batch: int) -> Similarity:
    g = torch.Generator().manual_seed(seed)
    return small(torch.randn(*batch, 7, generator=g, dtype=torch.float64))


def points(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def poses(count: int, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return pose_from(roma.random_rotmat(count).double(), points(count, seed))


def test_a_product_does_one_after_the_other():
    a, b, x = random_similarity(0), random_similarity(1), points(5)
    torch.testing.assert_close((a @ b).points(x), a.points(b.points(x)))


def test_the_inverse_undoes():
    a, x = random_similarity(0, 4), points(4)[:, None]
    torch.testing.assert_close(a.inverse.points(a.points(x)), x)
    torch.testing.assert_close(numbers_of(a @ a.inverse), torch.zeros(4, 7).double(), atol=1e-12, rtol=0)


def test_seven_numbers_say_it_all():
    a = random_similarity(3, 6)
    again = small(numbers_of(a))
    torch.testing.assert_close(again.rotation, a.rotation)
    torch.testing.assert_close(again.scale, a.scale)
    torch.testing.assert_close(numbers_of(identity(2)), torch.zeros(2, 7).double())


def test_points_that_cameras_see_stay_where_their_cameras_see_them():
    """A point in a camera's frame, scaled with the world, is found at the moved point from the moved camera."""
    a, cameras, local = random_similarity(0), poses(3), points(3)
    moved = transform(a.poses(cameras), a.scale * local)
    torch.testing.assert_close(moved, a.points(transform(cameras, local)))


def test_a_batch_gives_its_parts():
    parts = [random_similarity(i) for i in range(3)]
    torch.testing.assert_close(stacked(parts)[1].translation, parts[1].translation)


def test_an_exact_similarity_is_found_though_a_third_is_wrong():
    truth, x = random_similarity(0), points(300)
    y = truth.points(x)
    y[::3] += 5 * points(100, seed=1)
    fit = robust_similarity(x, y, torch.ones(300), torch.ones(300))
    torch.testing.assert_close(numbers_of(fit.similarity), numbers_of(truth), atol=1e-6, rtol=0)
    assert fit.share_within(1e-4, torch.ones(300)) == pytest.approx(2 / 3, abs=0.01)


def test_entries_without_weight_may_hold_anything():
    truth, x = random_similarity(0), points(20)
    y, weight = truth.points(x), torch.ones(20)
    y[3], weight[3] = torch.nan, 0
    fit = robust_similarity(x, y, weight, torch.ones(20))
    torch.testing.assert_close(numbers_of(fit.similarity), numbers_of(truth), atol=1e-6, rtol=0)
    assert fit.residual[3] == torch.inf


def test_errors_on_both_sides_do_not_shrink_the_scale():
    clean = points(20_000)
    x, y = clean + 0.5 * points(20_000, seed=1), clean + 0.5 * points(20_000, seed=2)
    assert float(robust_similarity(x, y, *torch.ones(2, 20_000)).similarity.scale) == pytest.approx(1, abs=0.02)


def test_the_fit_of_exchanged_sides_is_the_inverse():
    x, y = points(50), random_similarity(0).points(points(50)) + 0.1 * points(50, seed=4)
    there, back = (robust_similarity(*sides, *torch.ones(2, 50), num_steps=0) for sides in ((x, y), (y, x)))
    torch.testing.assert_close(
        numbers_of(there.similarity @ back.similarity), torch.zeros(7).double(), atol=1e-9, rtol=0
    )


def test_two_points_are_refused():
    with pytest.raises(ValueError, match="needs at least 3 points with weight, but got 2"):
        robust_similarity(points(2), points(2), torch.ones(2), torch.ones(2))


def test_cameras_join_frames_by_their_marks():
    truth, cameras, reach = random_similarity(0), poses(1), torch.tensor([2.0], dtype=torch.float64)
    here, there = camera_marks(cameras, reach)[0], camera_marks(truth.poses(cameras), truth.scale * reach)[0]
    fit = robust_similarity(here, there, torch.ones(4), torch.ones(4))
    torch.testing.assert_close(numbers_of(fit.similarity), numbers_of(truth), atol=1e-6, rtol=0)
