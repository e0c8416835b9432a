import pytest
import torch
from safetensors.torch import load_file

from g2vlm.geometry.camera import intrinsics_matrix, pixel_centres, unproject
from g2vlm.geometry.points import depth_edges, depth_jumps, normals_from_points

HEIGHT, WIDTH = 24, 30
INTRINSICS = intrinsics_matrix(*torch.tensor([25.0, 25.0, WIDTH / 2, HEIGHT / 2], dtype=torch.float64))


def rays():
    return unproject(torch.ones(HEIGHT, WIDTH, dtype=torch.float64), INTRINSICS)


def plane(normal, distance=3.0):
    """Points of the plane normal . p = -distance, seen from the origin."""
    normal = torch.nn.functional.normalize(torch.tensor(normal, dtype=torch.float64), dim=0)
    return rays() * (-distance / (rays() @ normal))[..., None], normal


def sphere(centre=(0.0, 0.0, 4.0), radius=3.0):
    centre, ray = torch.tensor(centre, dtype=torch.float64), rays()
    a, b, c = (ray * ray).sum(-1), ray @ centre, centre @ centre - radius**2
    points = ray * ((b - (b * b - a * c).sqrt()) / a)[..., None]
    return points, (points - centre) / radius


@pytest.mark.parametrize("normal", [(0.0, 0.0, -1.0), (0.5, 0.0, -1.0), (0.0, -0.7, -1.0), (0.3, 0.4, -1.0)])
def test_every_normal_of_a_plane_is_the_planes_borders_included(normal):
    points, expected = plane(normal)
    torch.testing.assert_close(normals_from_points(points), expected.expand_as(points))


def test_the_normals_of_a_sphere_point_out_of_it():
    points, expected = sphere()
    cosine = (normals_from_points(points) * expected).sum(-1)
    assert cosine[1:-1, 1:-1].min() > 0.999
    assert cosine.min() > 0.98


def test_normals_have_unit_length_and_look_at_the_camera_even_on_noise():
    points = rays() + 0.1 * torch.randn(2, HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(0)).double()
    normals = normals_from_points(points)
    torch.testing.assert_close(normals.norm(dim=-1), torch.ones(2, HEIGHT, WIDTH).double())
    assert ((normals * points).sum(-1) < 0).all()


def normals_one_by_one(points, mask):
    """The naive twin: four triangles per pixel, in loops."""
    height, width = mask.shape
    normals = torch.zeros_like(points)
    steps = [((1, 0), (0, 1)), ((0, 1), (-1, 0)), ((-1, 0), (0, -1)), ((0, -1), (1, 0))]
    for row in range(height):
        for column in range(width):
            for (r1, c1), (r2, c2) in steps:
                corners = [(row, column), (row + r1, column + c1), (row + r2, column + c2)]
                if all(0 <= r < height and 0 <= c < width and mask[r, c] for r, c in corners):
                    p, a, b = (points[corner] for corner in corners)
                    cross = torch.linalg.cross(a - p, b - p)
                    normals[row, column] += cross / cross.norm()
            length = normals[row, column].norm()
            if length > 0:
                normals[row, column] /= length
            if normals[row, column] @ points[row, column] > 0:
                normals[row, column] *= -1
    return normals


def test_masked_normals_equal_their_naive_twin_and_never_touch_a_hole():
    generator = torch.Generator().manual_seed(1)
    points = 2 * rays() + 0.1 * torch.randn(HEIGHT, WIDTH, 3, generator=generator).double()
    mask = torch.rand(HEIGHT, WIDTH, generator=generator) > 0.4
    expected = normals_one_by_one(points, mask)
    points[~mask] = torch.nan
    normals = normals_from_points(points, mask)
    torch.testing.assert_close(normals, expected)
    assert (normals[~mask] == 0).all()
    assert (normals[mask] == 0).all(-1).any(), "the example should hold a pixel without any triangle"


def test_normals_do_not_know_the_scale_and_a_batch_equals_the_single_ones():
    points = torch.stack([plane((0.3, 0.4, -1.0))[0], sphere()[0]])
    torch.testing.assert_close(normals_from_points(1e-4 * points), normals_from_points(points))
    assert torch.equal(normals_from_points(points[None])[0, 1], normals_from_points(points[1]))


@pytest.mark.parametrize("spoil", ["nothing", "all points equal", "a hole of nan"])
def test_the_gradient_of_normals_is_finite(spoil):
    points = sphere()[0].clone()
    mask = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
    if spoil == "all points equal":
        points[:] = 1
    if spoil == "a hole of nan":
        points[3:6, 4:9], mask[3:6, 4:9] = torch.nan, False
    points.requires_grad_()
    (normals_from_points(points, mask) * torch.arange(3)).sum().backward()
    assert points.grad is not None
    assert points.grad.isfinite().all()


def test_a_step_in_depth_is_an_edge_on_both_sides_and_nowhere_else():
    depth = torch.full((5, 6), 2.0)
    depth[:, 3:] = 2.2
    assert depth_edges(depth).tolist() == [[False, False, True, True, False, False]] * 5


def test_the_step_is_measured_against_the_pixels_own_depth():
    depth = torch.full((1, 4), 100.0)
    depth[:, 2:] = 103.05
    assert depth_edges(depth).tolist() == [[False, True, False, False]]
    assert not depth_edges(depth, rtol=0.04).any()
    assert depth_edges(depth, rtol=0.02).tolist() == [[False, True, True, False]]


@pytest.mark.parametrize("hole", [0.0, 100.0, torch.nan])
def test_pixels_outside_the_mask_make_no_edge(hole):
    depth, mask = torch.full((5, 5), 2.0), torch.ones(5, 5, dtype=torch.bool)
    depth[2, 2], mask[2, 2] = hole, False
    assert not depth_edges(depth, mask).any()


def test_pixels_outside_the_mask_are_no_edge():
    depth, mask = torch.full((5, 6), 2.0), torch.ones(5, 6, dtype=torch.bool)
    depth[:, 3:] = 2.2
    mask[2] = False
    assert depth_edges(depth, mask).any(1).tolist() == [True, True, False, True, True]
    assert not depth_edges(depth, torch.zeros_like(mask)).any()


def test_edges_match_the_recorded_ones(shared):
    recorded = load_file(shared / "goldens" / "unit" / "loss_parts.safetensors")
    assert torch.equal(depth_edges(recorded["normal.gt"][..., 2]), recorded["normal.depth_edge"])


def test_a_slanted_plane_has_no_edges_where_its_slope_is_gentle():
    depth = 3 + 0.01 * pixel_centres(HEIGHT, WIDTH).sum(-1)
    assert not depth_edges(depth).any()


def test_a_slanted_plane_has_no_jump_however_coarse_the_map():
    intrinsics = torch.tensor([[8.0, 0, 8], [0, 8, 8], [0, 0, 1]])
    rays = unproject(torch.ones(16, 16), intrinsics)
    depth = 2 / (rays @ torch.tensor([0.3, -0.4, 1.0]))  # the plane n . p = 2
    assert depth_edges(depth).float().mean() > 0.5
    assert not depth_jumps(depth).any()


def test_a_box_before_a_wall_jumps_on_both_sides_of_its_outline():
    depth = torch.full((9, 9), 3.0)
    depth[3:6, 3:6] = 2.0
    jumps = depth_jumps(depth)
    assert jumps[4, 2:4].all()
    assert jumps[4, 5:7].all()
    assert not jumps[4, 4]
    assert not jumps[0].any()


def test_unknown_pixels_are_no_jump_and_hide_none_beside_them_only():
    depth = torch.full((5, 9), 2.0)
    depth[:, 6:] = 3.0
    mask = torch.ones(5, 9, dtype=torch.bool)
    mask[:, 1] = False
    depth[:, 1] = 0
    jumps = depth_jumps(depth, mask)
    assert not jumps[:, :5].any()
    assert jumps[:, 5:7].all()
