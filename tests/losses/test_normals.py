import math
from itertools import product

import pytest
import roma
import torch

from g2vlm.geometry.points import depth_edges
from g2vlm.losses.normals import angle_between, cell_corners, normal_loss, point_map_normal_loss

HALF_SMOOTH = math.radians(3) / 2
LEAST = math.radians(1) ** 2 / (4 * HALF_SMOOTH)
"""What an angle of one degree or less costs."""


def wavy(*, seed=0, dtype=torch.float64, height=6, width=7):
    """Two surfaces per scene, [2, 2, h, w, 3], with neighbours about 0.1 apart."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(height) / 10, torch.arange(width) / 10, indexing="ij")
    flat = torch.stack([x, y, torch.ones_like(x)], dim=-1).to(dtype)
    return flat + 0.02 * torch.randn(2, 2, height, width, 3, generator=generator, dtype=dtype)


def everywhere(points):
    return torch.ones(points.shape[:-1], dtype=torch.bool)


def test_the_loss_and_its_gradient_are_those_of_the_reference(recorded):
    tensors, meta = recorded("unit/loss_parts")
    points, truth = tensors["normal.points"].requires_grad_(), tensors["normal.gt"]
    edges = depth_edges(truth[..., 2])
    assert torch.equal(edges, tensors["normal.depth_edge"])
    loss = point_map_normal_loss(points, truth, tensors["normal.mask"] & ~edges, sine_offset=1e-12)
    loss.backward()
    assert loss.item() == pytest.approx(meta["normal.loss"], rel=1e-5)  # equal
    torch.testing.assert_close(points.grad, tensors["normal.grad"], atol=1e-7, rtol=1e-4)  # 1.4e-7 of the largest
    without = point_map_normal_loss(points, truth, tensors["normal.mask"] & ~edges)
    assert without.item() == pytest.approx(meta["normal.loss"], rel=2e-5)  # off by 1.5e-5


def a_plane():
    y, x = torch.meshgrid(torch.arange(5.0), torch.arange(9.0), indexing="ij")
    return torch.stack([x, y, torch.full_like(x, 10)], dim=-1).double().expand(1, 1, 5, 9, 3)


def test_a_tilted_plane_costs_its_tilt():
    plane = a_plane()
    tilt = roma.rotvec_to_rotmat(torch.tensor([0.0, math.radians(20), 0.0], dtype=torch.float64))
    loss = point_map_normal_loss(plane @ tilt.T, plane, everywhere(plane))
    assert loss.item() == pytest.approx((math.radians(20) - HALF_SMOOTH) / 9)


def test_angles_end_at_one_and_ninety_degrees():
    points = wavy()
    perfect = point_map_normal_loss(points, points, everywhere(points))
    assert perfect.item() == pytest.approx(LEAST / 7)
    plane = a_plane()
    mirrored = point_map_normal_loss(plane[..., [1, 0, 2]], plane, everywhere(plane))
    assert mirrored.item() == pytest.approx((math.pi / 2 - HALF_SMOOTH) / 9)


def naive_loss(points, target, mask):
    """Cell by cell and corner by corner."""
    scenes, views, height, width = mask.shape
    total, num_cells = 0.0, 0
    for s, v, r, c in product(range(scenes), range(views), range(height - 1), range(width - 1)):
        num_cells += 1
        for dr, dc in product((0, 1), (0, 1)):
            here, beside, below = (s, v, r + dr, c + dc), (s, v, r + dr, c + 1 - dc), (s, v, r + 1 - dr, c + dc)
            if not (mask[here] and mask[beside] and mask[below]):
                continue
            ours, theirs = (torch.linalg.cross(p[beside] - p[here], p[below] - p[here]) for p in (points, target))
            cosine = (ours @ theirs) / (ours.norm() * theirs.norm())
            angle = min(max(math.acos(min(cosine.item(), 1.0)), math.radians(1)), math.pi / 2)
            total += angle - HALF_SMOOTH if angle > 2 * HALF_SMOOTH else angle**2 / (4 * HALF_SMOOTH)
    return total / num_cells / (4 * max(height, width))


def test_it_equals_a_loop_over_corners():
    points, target = wavy(seed=0), wavy(seed=1)
    mask = torch.rand(points.shape[:-1], generator=torch.Generator().manual_seed(2)) > 0.2
    loss = point_map_normal_loss(points, target, mask)
    assert loss.item() == pytest.approx(naive_loss(points, target, mask))


def test_only_eligible_scenes_count():
    points, target = wavy(seed=0), wavy(seed=1)
    mask = everywhere(points)
    second = point_map_normal_loss(points, target, mask, eligible=torch.tensor([False, True]))
    torch.testing.assert_close(second, point_map_normal_loss(points[1:], target[1:], mask[1:]))
    points.requires_grad_()
    none = point_map_normal_loss(points, target, mask, eligible=torch.tensor([False, False]))
    none.backward()
    assert none.item() == 0
    assert points.grad is not None
    assert not points.grad.any()


def test_groups_of_cells_average_to_the_whole():
    points, target = wavy(seed=0), wavy(seed=1)
    mask = everywhere(points)
    mask[0, 0, 2] = False
    shuffled = torch.randperm(5 * 6, generator=torch.Generator().manual_seed(0))
    parts = [point_map_normal_loss(points, target, mask, cells=cells) for cells in shuffled.split(6)]
    torch.testing.assert_close(torch.stack(parts).mean(), point_map_normal_loss(points, target, mask))


def test_cells_are_numbered_row_by_row_and_walked_around():
    pixels = torch.arange(2 * 12).view(1, 2, 3, 4)
    corners = cell_corners(pixels, torch.tensor([4]))
    assert corners[:, 0, :, 0].tolist() == [[5, 17], [6, 18], [10, 22], [9, 21]]


def test_the_scale_of_a_point_map_does_not_matter():
    points, target = wavy(seed=0), wavy(seed=1)
    loss = point_map_normal_loss(points, target, everywhere(points))
    torch.testing.assert_close(point_map_normal_loss(100 * points, target, everywhere(points)), loss)


def test_the_offset_of_the_released_code_swamps_fine_maps():
    points, target = wavy(seed=0), wavy(seed=1)
    coarse, fine = (
        point_map_normal_loss(size * points, size * target, everywhere(points), sine_offset=1e-12)
        for size in (1.0, 0.003)
    )
    exact = point_map_normal_loss(points, target, everywhere(points))
    assert coarse.item() == pytest.approx(exact.item(), rel=1e-4)
    assert fine.item() > 1.2 * exact.item()


@pytest.mark.parametrize("collapse", ["one point", "one line"])
def test_a_collapsed_point_map_has_no_normals_to_learn_from(collapse):
    target = wavy(dtype=torch.float32)
    points = torch.ones_like(target)
    if collapse == "one line":
        points = points * torch.arange(7.0)[:, None]
    loss = point_map_normal_loss(points.requires_grad_(), target, everywhere(target))
    loss.backward()
    assert loss.item() == 0
    assert points.grad is not None
    assert not points.grad.any()


def test_an_empty_mask_gives_zero():
    points = wavy(dtype=torch.float32).requires_grad_()
    loss = point_map_normal_loss(points, torch.zeros_like(points), torch.zeros(points.shape[:-1], dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert points.grad is not None
    assert not points.grad.any()


def test_the_gradient_is_right():
    points, target = wavy(seed=0, height=3, width=3).requires_grad_(), wavy(seed=1, height=3, width=3)
    assert torch.autograd.gradcheck(lambda p: point_map_normal_loss(p, target, everywhere(target)), points)


def test_the_angle_keeps_its_digits_near_zero_and_pi():
    angles = torch.tensor([1e-6, 1e-3, 1.0, math.pi - 1e-3])
    directions = torch.stack([angles.cos(), angles.sin(), torch.zeros(4)])
    measured, is_measured = angle_between(torch.eye(3)[:, :1].expand(3, 4), 5 * directions)
    torch.testing.assert_close(measured, angles, rtol=1e-5, atol=0)
    assert is_measured.all()


def test_a_vector_of_length_zero_has_no_angle():
    angle, is_measured = angle_between(torch.zeros(3, 1), torch.ones(3, 1))
    assert (angle.item() < 1e-6, is_measured.item()) == (True, False)


def test_predicted_normals_cost_one_minus_cosine():
    truth = torch.tensor([[[[0.0, 0.0, -1.0]] * 3]])
    sixty = [0.0, math.sin(math.pi / 3), -math.cos(math.pi / 3)]
    normals = torch.tensor([[[sixty, [0.0, 0.0, -5.0], [1.0, 0.0, 0.0]]]])
    mask = torch.tensor([[[True, True, False]]])
    assert normal_loss(normals, truth, mask).item() == pytest.approx(0.5 / 2)
    assert normal_loss(normals, truth, ~mask).item() == pytest.approx(1)
    assert normal_loss(normals, truth, torch.zeros_like(mask)).item() == 0


def test_a_predicted_normal_of_length_zero_has_a_finite_gradient():
    normals = torch.zeros(1, 1, 2, 3, requires_grad=True)
    normal_loss(normals, torch.ones(1, 1, 2, 3), torch.ones(1, 1, 2, dtype=torch.bool)).backward()
    assert normals.grad is not None
    assert normals.grad.isfinite().all()


def test_the_gradient_of_predicted_normals_is_right():
    normals, truth = wavy(seed=0).flatten(2, 3)[:, :, :4].requires_grad_(), wavy(seed=1).flatten(2, 3)[:, :, :4]
    assert torch.autograd.gradcheck(lambda n: normal_loss(n, truth, everywhere(truth)), normals)
