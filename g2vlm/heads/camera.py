"""The camera head: one camera-to-world pose per view, in a world frame common to all views."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from g2vlm.config import HeadsConfig
from g2vlm.geometry.pose import pose_from
from g2vlm.geometry.rotation import rotation_from_nine
from g2vlm.heads.decoder import HeadDecoder
from g2vlm.layout import Grid


class ResidualMlp(nn.Module):
    """Three linear layers, each followed by ReLU, around an identity."""

    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for layer in self.layers:
            y = F.relu(layer(y))
        return x + y


class CameraHead(nn.Module):
    """Decoder, residual MLPs, mean over the view's patches, then 3 numbers of translation and 9 of rotation."""

    def __init__(self, width: int, config: HeadsConfig):
        super().__init__()
        inner = config.camera_width
        self.decoder = HeadDecoder(width, inner, config)
        self.residual = nn.ModuleList(ResidualMlp(inner) for _ in range(2))
        self.after_pool = nn.ModuleList(nn.Linear(inner, inner) for _ in range(2))
        self.translation = nn.Linear(inner, 3)
        self.rotation = nn.Linear(inner, 9)

    def forward(self, tokens: Float[Tensor, "views tokens width"], grid: Grid) -> Float[Tensor, "views 4 4"]:
        return self.pose(self.decoder(tokens, grid))

    def pose(self, hidden: Float[Tensor, "views tokens inner"]) -> Float[Tensor, "views 4 4"]:
        rotation, translation = self.raw(hidden)
        return pose_from(rotation_from_nine(rotation.float()), translation.float())

    def raw(
        self, hidden: Float[Tensor, "views tokens inner"]
    ) -> tuple[Float[Tensor, "views 9"], Float[Tensor, "views 3"]]:
        """Rotation numbers (row-major 3 x 3, before they become a rotation) and translation."""
        for block in self.residual:
            hidden = block(hidden)
        pooled = hidden.mean(dim=1)
        for layer in self.after_pool:
            pooled = F.relu(layer(pooled))
        return self.rotation(pooled), self.translation(pooled)
