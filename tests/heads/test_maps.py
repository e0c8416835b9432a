import pytest
import torch

from g2vlm.config import HeadsConfig
from g2vlm.heads.maps import MapHead, normals_from_raw, points_from_raw

CONFIG = HeadsConfig(depth=1, num_heads=2, mlp_ratio=2, point_width=12)


def test_the_pixel_shuffle_orders_numbers_by_channel_then_row_then_column_of_the_patch():
    """Four patches of 2 x 2 pixels and 3 channels: each token's 12 numbers are channel, sub-row, sub-column."""
    head = MapHead(16, 3, 2, CONFIG)
    with torch.no_grad():
        for weight in head.parameters():
            weight.zero_()
        head.proj.bias.copy_(torch.arange(12.0))
    pixels = head(torch.zeros(1, 4, 16), (2, 2))[0]
    assert pixels.shape == (4, 4, 3)
    patch = torch.arange(12.0).view(3, 2, 2).permute(1, 2, 0)
    assert patch[0, 1].tolist() == [1, 5, 9]
    for r in (0, 2):
        for c in (0, 2):
            assert pixels[r : r + 2, c : c + 2].equal(patch)


def test_patches_lie_in_row_major_order():
    head = MapHead(16, 1, 2, CONFIG)
    with torch.no_grad():
        for weight in head.parameters():
            weight.zero_()
        head.decoder.linear_out.weight[0, 0] = 1  # the first number of a token passes through
        head.proj.weight[:, 0] = 1
        tokens = torch.zeros(1, 6, 16)
        tokens[0, :, 0] = torch.arange(6.0)
        pixels = head(tokens, (2, 3))[0, ..., 0]
    assert pixels[::2, ::2].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert pixels[1::2, 1::2].equal(pixels[::2, ::2])


def test_points_lie_in_front_of_the_camera_and_scale_with_their_depth():
    raw = torch.tensor([[[1.0, -2.0, 0.0], [1.0, -2.0, -30.0], [0.5, 0.25, torch.log(torch.tensor(4.0))]]])
    points = points_from_raw(raw)
    assert (points[..., 2] > 0).all()
    torch.testing.assert_close(points[..., :2] / points[..., 2:], raw[..., :2])
    torch.testing.assert_close(points[0, 0], torch.tensor([1.0, -2.0, 1.0]))
    torch.testing.assert_close(points[0, 2], torch.tensor([2.0, 1.0, 4.0]))


def test_normals_are_unit_vectors():
    normals = normals_from_raw(torch.tensor([[3.0, 0.0, -4.0], [0.0, 1e-3, 0.0]]))
    torch.testing.assert_close(normals, torch.tensor([[0.6, 0.0, -0.8], [0.0, 1.0, 0.0]]))


@pytest.mark.parametrize("raw", [points_from_raw, normals_from_raw])
def test_gradients_stay_finite(raw):
    x = torch.tensor([[0.0, 0.0, 0.0], [1.0, -1.0, 20.0]], requires_grad=True)
    raw(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
