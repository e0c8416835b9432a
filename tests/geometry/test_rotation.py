import math

import pytest
import roma
import torch
from safetensors.torch import load_file

from g2vlm.geometry.rotation import geodesic_angle, nearest_rotation, rotation_from_nine


def rotations(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(*shape, 3, generator=generator, dtype=torch.float64)
    return roma.rotvec_to_rotmat(vectors).to(dtype)


def rotation_by_svd(matrix):
    """The naive twin: flip the smallest singular direction where the product would be a reflection."""
    u, _, vt = torch.linalg.svd(matrix)
    signs = torch.ones(3, dtype=matrix.dtype)
    signs[2] = torch.linalg.det(u @ vt).sign()
    return u @ torch.diag(signs) @ vt


def test_the_nearest_rotation_equals_its_naive_twin_reflections_included():
    matrices = torch.randn(50, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert (torch.linalg.det(matrices) < 0).any()
    expected = torch.stack([rotation_by_svd(matrix) for matrix in matrices])
    torch.testing.assert_close(nearest_rotation(matrices), expected)


def test_a_rotation_is_its_own_nearest_rotation():
    turn = rotations(2, 5)
    torch.testing.assert_close(nearest_rotation(turn), turn)


def test_nine_numbers_are_rows_whose_length_does_not_matter():
    turn = rotations(4)
    lengths = torch.tensor([0.01, 3.0, 200.0], dtype=turn.dtype)[:, None]
    torch.testing.assert_close(rotation_from_nine((lengths * turn).flatten(-2)), turn)


def test_nine_numbers_match_the_recorded_rotations(shared):
    recorded = load_file(shared / "goldens" / "unit" / "svd.safetensors")
    torch.testing.assert_close(rotation_from_nine(recorded["in"]), recorded["out"], atol=1e-5, rtol=0)  # worst 9.5e-7


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_any_float_dtype_comes_back_as_a_proper_rotation(dtype):
    result = rotation_from_nine(torch.randn(2, 3, 9, generator=torch.Generator().manual_seed(2)).to(dtype))
    assert result.dtype == dtype
    tolerance = 8 * torch.finfo(dtype).eps
    torch.testing.assert_close(
        result.double() @ result.double().mT, torch.eye(3).expand(2, 3, 3, 3).double(), atol=tolerance, rtol=0
    )
    assert (torch.linalg.det(result.double()) > 0).all()


HARD = {
    "zero": torch.zeros(3, 3),
    "identity": torch.eye(3),
    "nearly the identity": torch.eye(3) + 1e-6 * torch.randn(3, 3, generator=torch.Generator().manual_seed(3)),
    "rank one": torch.ones(3, 3),
    "one row": torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]),
    "a reflection": torch.diag(torch.tensor([1.0, 1.0, -1.0])),
    "minus the identity": -torch.eye(3),
}


@pytest.mark.parametrize("name", HARD)
def test_the_gradient_of_nine_numbers_is_finite_and_bounded(name):
    numbers = HARD[name].flatten().clone().requires_grad_()
    result = rotation_from_nine(numbers)
    (result * torch.arange(9.0).view(3, 3)).sum().backward()
    assert result.isfinite().all()
    assert numbers.grad is not None
    assert numbers.grad.abs().max() < 1e12


def test_near_a_rotation_the_gradient_is_the_true_one():
    """Equal singular values are where the derivative of an SVD explodes; the nearest rotation is smooth there."""
    matrix = (rotations(1, seed=4)[0] + 1e-3 * torch.eye(3, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda m: nearest_rotation(m), matrix)


@pytest.mark.parametrize("angle", [0.0, 1e-7, 1e-3, 1.0, math.pi / 2, 3.0, math.pi - 1e-3, math.pi - 1e-7, math.pi])
def test_an_angle_keeps_its_digits_from_zero_to_pi(angle):
    axes = torch.nn.functional.normalize(
        torch.randn(20, 3, generator=torch.Generator().manual_seed(5)).double(), dim=-1
    )
    start = rotations(20, seed=6)
    measured = geodesic_angle(start, start @ roma.rotvec_to_rotmat(angle * axes))
    torch.testing.assert_close(measured, torch.full((20,), angle, dtype=torch.float64), atol=1e-14, rtol=0)


def test_an_angle_does_not_depend_on_order_or_on_a_common_rotation():
    a, b, common = rotations(3, 7)
    torch.testing.assert_close(geodesic_angle(a, b), geodesic_angle(b, a))
    torch.testing.assert_close(geodesic_angle(common @ a, common @ b), geodesic_angle(a, b))


def test_the_gradient_of_an_angle_is_finite_even_between_equal_rotations():
    a = rotations(2, seed=7).requires_grad_()
    geodesic_angle(a, a.detach()).sum().backward()
    assert a.grad is not None
    assert a.grad.isfinite().all()
