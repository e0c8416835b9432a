import torch
from torch import Tensor

from g2vlm.config import HeadsConfig
from g2vlm.heads.camera import CameraHead, ResidualMlp

CONFIG = HeadsConfig(depth=1, num_heads=2, mlp_ratio=2, camera_width=8)


def small_head() -> CameraHead:
    torch.manual_seed(0)
    return CameraHead(16, CONFIG)


def tokens(num_views: int, num_tokens: int = 6) -> Tensor:
    return torch.randn(num_views, num_tokens, 16, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_poses_are_proper_rigid_transforms():
    poses = small_head()(5 * tokens(20), (2, 3))
    rotation = poses[:, :3, :3]
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand(20, 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(20))
    assert poses[:, 3].equal(torch.tensor([0.0, 0.0, 0.0, 1.0]).expand(20, 4))


@torch.no_grad()
def test_the_nine_numbers_are_the_rows_of_a_rotation_at_any_length():
    head = small_head()
    turn = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    head.rotation.weight.zero_()
    head.rotation.bias.copy_((torch.tensor([[2.0], [0.5], [7.0]]) * turn).flatten())
    head.translation.weight.zero_()
    head.translation.bias.copy_(torch.tensor([1.0, 2.0, 3.0]))
    (pose,) = head(tokens(1), (2, 3))
    torch.testing.assert_close(pose[:3, :3], turn)
    torch.testing.assert_close(pose[:3, 3], torch.tensor([1.0, 2.0, 3.0]))


@torch.no_grad()
def test_the_order_of_tokens_is_forgotten_after_the_decoder():
    head = small_head()
    hidden = torch.randn(2, 6, 8)
    torch.testing.assert_close(head.pose(hidden), head.pose(hidden.flip(1)))


@torch.no_grad()
def test_residual_layers_begin_with_a_way_around():
    block = ResidualMlp(4)
    for weight in block.parameters():
        weight.zero_()
    x = torch.randn(2, 4)
    assert block(x).equal(x)


def test_every_weight_learns_and_gradients_stay_finite():
    head = small_head()
    head(tokens(3), (2, 3)).sum().backward()
    for name, weight in head.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
