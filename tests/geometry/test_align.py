import pytest
import roma
import torch
from safetensors.torch import load_file
from scipy.optimize import linprog

from g2vlm.geometry.align import (
    anchored_scale_and_shift,
    fit_scale,
    median_scale,
    resample_valid,
    robust_scale,
    robust_scale_and_shift,
    robust_scale_and_shift_points,
    robust_scale_points,
    scale_and_shift,
    similarity,
)


def truncated_sum(scale, source, target, weight, truncation):
    residual = weight * (scale * source - target).abs()
    return float((residual if truncation is None else residual.clamp(max=truncation))[source != 0].sum())


def best_scale_by_trying_all(source, target, weight, truncation=None):
    """The naive twin: the sum at every ratio, in float64; the smallest ratio among equals."""
    source, target, weight = (values.double() for values in (source, target, weight))
    ratios = sorted(float(y / x) for x, y, w in zip(source, target, weight, strict=True) if x != 0 and w > 0)
    sums = [truncated_sum(ratio, source, target, weight, truncation) for ratio in ratios]
    return ratios[sums.index(min(sums))], min(sums)


def problem(seed, n=40, dtype=torch.float32):
    """A scale of 1.7 under noise, a third outliers, some zero sources and zero weights."""
    generator = torch.Generator().manual_seed(seed)
    source, noise, outlier, weight = torch.randn(4, n, generator=generator)
    target = 1.7 * source + 0.05 * noise
    target = torch.where(torch.arange(n) % 3 == 0, 4 * outlier, target)
    source[1], weight = 0, torch.where(torch.arange(n) % 7 == 0, 0, weight.abs() + 0.1)
    return source.to(dtype), target.to(dtype), weight.to(dtype)


@pytest.mark.parametrize("truncation", [None, 10.0, 0.5, 0.05, 0.001])
@pytest.mark.parametrize("seed", range(8))
def test_the_exact_scale_equals_its_brute_force_twin(seed, truncation):
    source, target, weight = problem(seed)
    fit = fit_scale(source, target, weight, truncation)
    scale, objective = best_scale_by_trying_all(source, target, weight, truncation)
    assert fit.scale.item() == pytest.approx(scale, rel=1e-6)
    assert fit.objective.item() == pytest.approx(objective, rel=1e-6)
    assert (target / source)[fit.index].item() == pytest.approx(scale, rel=1e-6)


@pytest.mark.parametrize("truncation", [None, 0.3])
def test_no_scale_on_a_fine_grid_is_better(truncation):
    """The twin above tries ratios only; this one does not know where a minimum can lie."""
    source, target, weight = (values.double() for values in problem(3))
    grid = torch.linspace(-5, 5, 2001, dtype=torch.float64)
    best = min(truncated_sum(scale, source, target, weight, truncation) for scale in grid)
    assert fit_scale(source, target, weight, truncation).objective.item() <= best


def test_a_tight_truncation_finds_the_small_group_that_agrees_and_no_truncation_the_middle():
    source = torch.ones(5)
    target = torch.tensor([1.0, 2.0, 5.0, 5.0, 9.0])
    assert robust_scale(source, target, torch.ones(5)).item() == 5
    target = torch.tensor([1.0, 1.0, 5.0, 7.0, 9.0])
    assert robust_scale(source, target, torch.ones(5)).item() == 5
    assert robust_scale(source, target, torch.ones(5), truncation=0.1).item() == 1


def test_the_truncation_caps_the_weighted_residual():
    source, target, weight = torch.ones(3), torch.tensor([1.0, 2.0, 2.0]), torch.tensor([10.0, 1.0, 1.0])
    assert robust_scale(source, target, weight).item() == 1
    assert robust_scale(source, target, weight, truncation=0.5).item() == 2


@pytest.mark.parametrize("truncation", [None, 0.7])
def test_of_equally_good_scales_the_smallest_is_taken(truncation):
    source, target = torch.ones(4), torch.tensor([4.0, 3.0, 2.0, 1.0])
    assert robust_scale(source, target, torch.ones(4), truncation=truncation).item() == (2 if truncation is None else 1)


@pytest.mark.parametrize("truncation", [None, 0.5])
def test_a_negative_optimum_is_returned_as_such(truncation):
    source, _, weight = problem(0)
    assert robust_scale(source, -0.8 * source, weight, truncation).item() == pytest.approx(-0.8)


@pytest.mark.parametrize("truncation", [None, 0.5])
def test_entries_without_weight_do_not_matter_even_when_they_are_not_finite(truncation):
    source, target, weight = problem(1)
    expected = robust_scale(source, target, weight, truncation)
    source, target = source.clone(), target.clone()
    source[weight == 0], target[weight == 0] = torch.nan, torch.inf
    assert robust_scale(source, target, weight, truncation) == expected


@pytest.mark.parametrize("truncation", [None, 0.5])
@pytest.mark.parametrize("empty", ["source", "weight"])
def test_the_scale_is_one_where_nothing_depends_on_it(truncation, empty):
    source, target, weight = torch.randn(3, 2, 6)
    weight = weight.abs()
    (source if empty == "source" else weight)[1] = 0
    fit = fit_scale(source, target, weight, truncation)
    assert fit.scale[1] == 1
    assert fit.objective[1] == 0
    assert fit.index.tolist() == [fit_scale(source[0], target[0], weight[0], truncation).index.item(), -1]


@pytest.mark.parametrize("truncation", [None, 0.5])
@pytest.mark.parametrize("where", ["source", "target"])
def test_nan_in_an_entry_with_weight_shows_in_the_objective(where, truncation):
    source, target, weight = problem(1)
    (source if where == "source" else target)[5] = torch.nan
    assert fit_scale(source, target, weight, truncation).objective.isnan()


@pytest.mark.parametrize("truncation", [None, 0.5])
def test_a_batch_of_scales_equals_the_single_ones(truncation):
    problems = [problem(seed) for seed in range(6)]
    source, target, weight = (torch.stack(values).unflatten(0, (2, 3)) for values in zip(*problems, strict=True))
    singles = torch.stack([robust_scale(*one, truncation) for one in problems])
    assert torch.equal(robust_scale(source, target, weight, truncation).flatten(), singles)


@pytest.mark.parametrize("truncation", [None, 0.5])
@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_the_scale_follows_the_unit_of_the_target(unit, truncation):
    source, target, weight = problem(2, dtype=torch.float64)
    scaled = robust_scale(source, unit * target, weight, truncation and truncation * unit)
    torch.testing.assert_close(scaled, unit * robust_scale(source, target, weight, truncation))


def test_a_tiny_source_far_from_all_others_costs_no_digits():
    source, target, weight = problem(4)
    source[2] = 1e-30
    for truncation in (None, 0.5):
        scale, _ = best_scale_by_trying_all(source, target, weight, truncation)
        assert robust_scale(source, target, weight, truncation).item() == pytest.approx(scale, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_scale_has_the_dtype_of_the_source(dtype):
    source, target, weight = problem(5, dtype=dtype)
    scale = robust_scale(source, target, weight, 0.5)
    assert scale.dtype == dtype
    assert scale.item() == pytest.approx(1.7, abs=0.05)


def test_no_gradient_flows_through_the_robust_scale():
    source, target, weight = problem(5)
    assert not robust_scale(source.requires_grad_(), target, weight).requires_grad


@pytest.mark.parametrize(("name", "truncation"), [("notrunc", None), ("trunc0.05", 0.05), ("trunc0.5", 0.5)])
def test_scales_match_the_recorded_ones(shared, name, truncation):
    recorded = load_file(shared / "goldens" / "unit" / "roe.safetensors")
    fit = fit_scale(recorded["align.x"], recorded["align.y"], recorded["align.w"], truncation)
    assert torch.equal(fit.index, recorded[f"align.{name}.index"])
    assert torch.equal(fit.scale, recorded[f"align.{name}.a"])
    torch.testing.assert_close(fit.objective, recorded[f"align.{name}.loss"], rtol=1e-6, atol=0)


@pytest.mark.parametrize(("name", "truncation"), [("notrunc", None), ("trunc1.0", 1.0)])
def test_scales_of_points_match_the_recorded_ones(shared, name, truncation):
    recorded = load_file(shared / "goldens" / "unit" / "roe.safetensors")
    scale = robust_scale_points(recorded["points.src"], recorded["points.tgt"], recorded["points.w"], truncation)
    assert torch.equal(scale, recorded[f"points.scale_{name}"])


def test_resampled_points_match_the_recorded_ones(shared):
    recorded = load_file(shared / "goldens" / "unit" / "roe.safetensors")
    points, mask = recorded["resample.pts"].flatten(1, 3), recorded["resample.mask"].flatten(1)
    for count in (64, 500):
        assert torch.equal(resample_valid(points, mask, count), recorded[f"resample.out{count}"])


def test_resampling_takes_every_valid_entry_when_it_may_and_never_an_invalid_one():
    mask = torch.tensor([[True, False, True, True, False], [False, False, False, False, True]])
    values = torch.arange(10.0).view(2, 5, 1)
    values[~mask] = torch.nan
    assert resample_valid(values, mask, 3)[..., 0].tolist() == [[0, 2, 3], [9, 9, 9]]
    assert resample_valid(values, mask, 6)[..., 0].tolist() == [[0, 0, 2, 2, 3, 3], [9] * 6]


def test_resampling_nothing_gives_ones():
    assert (
        resample_valid(torch.full((4, 3), torch.nan), torch.zeros(4, dtype=torch.bool), 2).tolist() == [[1, 1, 1]] * 2
    )


def test_the_median_scale_is_the_ratio_of_the_medians():
    source, target = torch.tensor([[1.0, 2.0, 9.0, 4.0]]), torch.tensor([[2.0, 40.0, torch.nan, 10.0]])
    mask = torch.tensor([[True, True, False, True]])
    assert median_scale(source, target, mask).item() == 10 / 2
    mask[0, 1] = False
    assert median_scale(source, target, mask).item() == pytest.approx((2 + 10) / (1 + 4))
    assert median_scale(source, target, mask & False).item() == 1


def noisy_line(seed=0, n=60):
    generator = torch.Generator().manual_seed(seed)
    source, noise, weight = torch.randn(3, n, generator=generator, dtype=torch.float64)
    return source, 2.5 * source - 0.7 + 0.1 * noise, weight.abs()


def test_scale_and_shift_solve_the_weighted_normal_equations():
    source, target, weight = noisy_line()
    rows = torch.stack([source, torch.ones_like(source)], dim=-1) * weight.sqrt()[:, None]
    expected = torch.linalg.lstsq(rows, target * weight.sqrt()).solution
    torch.testing.assert_close(torch.stack(scale_and_shift(source, target, weight)), expected)


def test_scale_and_shift_ignore_entries_without_weight():
    source, target, weight = noisy_line()
    weight[:10] = 0
    expected = scale_and_shift(source, target, weight)
    source[:10] = torch.nan
    assert scale_and_shift(source, target, weight) == expected


def test_a_constant_source_is_shifted_and_not_scaled():
    scale, shift = scale_and_shift(torch.full((2, 5), 3.1), torch.arange(10.0).view(2, 5), torch.ones(2, 5))
    assert scale.tolist() == [1, 1]
    torch.testing.assert_close(shift, torch.tensor([2.0, 7.0]) - 3.1)
    ones = torch.ones(1, 4)
    assert [values.tolist() for values in scale_and_shift(ones, ones, 0 * ones)] == [[1], [0]]


def test_rounding_does_not_make_a_constant_source_vary():
    generator = torch.Generator().manual_seed(0)
    source = (10 * torch.rand(100, 1, generator=generator)).expand(100, 7)
    target, weight = torch.rand(2, 100, 7, generator=generator)
    assert (scale_and_shift(source, target, weight)[0] == 1).all()


def test_the_gradient_of_scale_and_shift_is_finite_for_a_constant_source():
    source = torch.full((5,), 3.1, requires_grad=True)
    torch.stack(scale_and_shift(source, torch.arange(5.0), torch.ones(5))).sum().backward()
    assert source.grad is not None
    assert source.grad.isfinite().all()


def l1_line_by_linear_program(source, target, weight):
    """The naive twin: minimise weight . bound subject to |s source + t - target| <= bound."""
    n = len(source)
    line = torch.stack([source, torch.ones_like(source)], dim=-1)
    identity = torch.eye(n, dtype=source.dtype)
    above, below = torch.cat([line, -identity], dim=1), torch.cat([-line, -identity], dim=1)
    cost = torch.cat([torch.zeros(2, dtype=source.dtype), weight])
    bounds = [(None, None)] * 2 + [(0, None)] * n
    rows, limits = torch.cat([above, below]).numpy(), torch.cat([target, -target]).numpy()
    return linprog(cost.numpy(), A_ub=rows, b_ub=limits, bounds=bounds).fun


@pytest.mark.parametrize("seed", range(5))
def test_the_robust_line_is_that_of_the_linear_program(seed):
    source, target, weight = noisy_line(seed)
    target[::4] += 20
    scale, shift = robust_scale_and_shift(source, target, weight)
    reached = (weight * (scale * source + shift - target).abs()).sum().item()
    best = l1_line_by_linear_program(source, target, weight)
    assert reached == pytest.approx(best, rel=1e-9)


def test_the_robust_line_ignores_outliers_that_drag_the_least_squares_line():
    source, target, weight = noisy_line()
    target[::4] += 20
    scale, shift = robust_scale_and_shift(source, target, weight)
    assert (scale.item(), shift.item()) == (pytest.approx(2.5, abs=0.1), pytest.approx(-0.7, abs=0.1))
    assert scale_and_shift(source, target, weight)[1] > 2


def test_a_perfect_line_is_found_exactly_by_both():
    source, _, weight = noisy_line()
    for solve in (scale_and_shift, robust_scale_and_shift):
        scale, shift = solve(source, 3 * source + 2, weight)
        assert (scale.item(), shift.item()) == (pytest.approx(3), pytest.approx(2))


@pytest.mark.parametrize("shifted", [(False, False, True), (True, True, True), (False, False, False)])
@pytest.mark.parametrize("seed", range(4))
def test_the_robust_scale_and_shift_of_points_are_those_of_the_linear_program(seed, shifted):
    """Whole numbers: many residuals are zero and many minima are flat, and points stand on one another."""
    generator = torch.Generator().manual_seed(seed)
    source, noise = torch.randn(2, 30, 3, generator=generator, dtype=torch.float64)
    target = (2 * source + torch.tensor(shifted) * 3 + 2 * noise * (torch.arange(30)[:, None] % 3 == 0)).mul(2).round()
    source, weight = source.mul(2).round(), torch.rand(30, generator=generator, dtype=torch.float64) + 0.1
    scale, shift = robust_scale_and_shift_points(source, target, weight, shifted=shifted)
    reached = (weight[:, None] * (scale * source + shift - target).abs()).sum().item()
    columns = [
        source.flatten(),
        *(torch.eye(3, dtype=torch.float64)[axis].repeat(30) for axis in range(3) if shifted[axis]),
    ]
    rows, identity = torch.stack(columns, dim=-1), torch.eye(90, dtype=torch.float64)
    above, below = torch.cat([rows, -identity], dim=1), torch.cat([-rows, -identity], dim=1)
    limits = torch.cat([target.flatten(), -target.flatten()]).numpy()
    cost = torch.cat([torch.zeros(rows.shape[1], dtype=torch.float64), weight.repeat_interleave(3)]).numpy()
    bounds = [(None, None)] * rows.shape[1] + [(0, None)] * 90
    best = linprog(cost, A_ub=torch.cat([above, below]).numpy(), b_ub=limits, bounds=bounds).fun
    assert reached == pytest.approx(best, rel=1e-9)
    assert all(amount == 0 for amount, has in zip(shift.tolist(), shifted, strict=True) if not has)


def test_robust_scales_and_shifts_of_a_batch_are_those_of_its_entries():
    source, target = torch.randn(2, 5, 40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    source[3] = source[3, 0]  # does not vary
    weight = torch.rand(5, 40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weight[4] = 0
    scales, shifts = robust_scale_and_shift_points(source, target, weight)
    for entry in range(5):
        scale, shift = robust_scale_and_shift_points(source[entry], target[entry], weight[entry])
        torch.testing.assert_close((scales[entry], shifts[entry]), (scale, shift))
    assert scales[3:].tolist() == [1, 1]
    assert shifts[4].tolist() == [0, 0, 0]


def test_the_anchored_search_is_exact_for_one_axis_and_only_then():
    source, target, weight = noisy_line()
    target[::4] += 20
    scale, shift = anchored_scale_and_shift(source[:, None], target[:, None], weight, shifted=(True,))
    assert (scale.item(), shift.item()) == pytest.approx(
        tuple(x.item() for x in robust_scale_and_shift(source, target, weight))
    )
    source, noise = torch.randn(2, 40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    target, weight = source + 1 + 0.3 * noise, torch.ones(40, dtype=torch.float64)
    sums = [
        (scale * source + shift - target).abs().sum()
        for scale, shift in (
            robust_scale_and_shift_points(source, target, weight),
            anchored_scale_and_shift(source, target, weight, shifted=(True, True, True)),
        )
    ]
    assert sums[0] * 1.001 < sums[1]


@pytest.mark.parametrize("num_at_once", [1, 7, 64])
def test_the_anchored_search_tries_every_point_however_many_at_once(num_at_once):
    """Three points lie on one line, and without a truncation of their residuals the others would win."""
    source = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0], dtype=torch.float64)
    target = torch.tensor([9.0, 1.0, 3.0, 5.0, -20.0, -40.0, 4.0], dtype=torch.float64)
    weight = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    scale, shift = anchored_scale_and_shift(
        source[:, None], target[:, None], weight, shifted=(True,), truncation=0.5, num_at_once=num_at_once
    )
    assert (scale.item(), shift.item()) == (pytest.approx(2), pytest.approx(-1))


def test_the_anchored_search_needs_a_point_with_weight():
    with pytest.raises(ValueError, match="there is none"):
        anchored_scale_and_shift(torch.ones(4, 3), torch.ones(4, 3), torch.zeros(4), shifted=(True, True, True))


def moved_cloud(n=20):
    generator = torch.Generator().manual_seed(0)
    source = torch.randn(2, n, 3, generator=generator, dtype=torch.float64)
    rotation = roma.rotvec_to_rotmat(torch.randn(2, 3, generator=generator, dtype=torch.float64))
    scale, translation = torch.tensor([0.3, 7.0]).double(), torch.tensor([[1.0, 2.0, 3.0], [-4.0, 0.0, 9.0]]).double()
    return source, scale, rotation, translation


def test_a_similarity_recovers_scale_rotation_and_translation():
    source, *truth = moved_cloud()
    scale, rotation, translation = truth
    target = scale[:, None, None] * (source @ rotation.mT) + translation[:, None]
    for found, expected in zip(similarity(source, target), truth, strict=True):
        torch.testing.assert_close(found, expected)


def test_a_similarity_without_scale_is_rigid():
    source, _, rotation, translation = moved_cloud()
    target = 3 * source @ rotation.mT + translation[:, None]
    scale, turned, _ = similarity(source, target, has_scale=False)
    assert scale.tolist() == [1, 1]
    torch.testing.assert_close(turned, rotation)


def test_a_similarity_ignores_points_without_weight():
    source, scale, rotation, translation = moved_cloud()
    target = scale[:, None, None] * (source @ rotation.mT) + translation[:, None]
    weights = torch.ones(2, 20).double()
    weights[:, :5], target[:, :5] = 0, torch.nan
    torch.testing.assert_close(similarity(source, target, weights)[0], scale)


def test_a_similarity_never_reflects():
    source = moved_cloud()[0]
    _, rotation, _ = similarity(source, source * torch.tensor([1.0, 1.0, -1.0]))
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(2).double())


def test_too_few_points_and_coincident_points_are_refused():
    source = moved_cloud()[0]
    with pytest.raises(ValueError, match="at least 3 points with weight, but got 2"):
        similarity(source[:, :2], source[:, :2])
    weights = torch.ones(2, 20).double()
    weights[1, 1:] = 0
    with pytest.raises(ValueError, match="at least 3 points with weight, but got 1"):
        similarity(source, source, weights)
    with pytest.raises(ValueError, match="all 4 coincide"):
        similarity(torch.full((4, 3), 0.1), source[0, :4])


def test_points_on_one_line_still_give_a_finite_similarity():
    source = torch.linspace(0, 1, 6)[:, None] * torch.tensor([1.0, 2.0, 3.0])
    scale, rotation, translation = similarity(source, 2 * source + 1)
    torch.testing.assert_close(scale * (source @ rotation.mT) + translation, 2 * source + 1, atol=1e-5, rtol=0)
