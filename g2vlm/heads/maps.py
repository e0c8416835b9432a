"""Heads that give every pixel a value: local and global points, confidence, normals."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from g2vlm.config import HeadsConfig
from g2vlm.heads.decoder import HeadDecoder
from g2vlm.layout import Grid


class MapHead(nn.Module):
    """Decoder, then each patch token becomes patch x patch pixels of `channels` values (pixel shuffle)."""

    def __init__(self, width: int, channels: int, patch: int, config: HeadsConfig, *, has_context: bool = False):
        super().__init__()
        self.channels, self.patch = channels, patch
        self.decoder = HeadDecoder(width, config.point_width, config, has_context=has_context)
        self.proj = nn.Linear(config.point_width, channels * patch**2)

    def forward(
        self,
        tokens: Float[Tensor, "views tokens features"],
        grid: Grid,
        context: tuple[Float[Tensor, "views others features"], Grid] | None = None,
    ) -> Float[Tensor, "views rows columns channels"]:
        pixels = self.proj(self.decoder(tokens, grid, context)).float()
        return rearrange(
            pixels, "v (r c) (ch y x) -> v (r y) (c x) ch", r=grid[0], ch=self.channels, y=self.patch, x=self.patch
        )


def points_from_raw(raw: Float[Tensor, "*pixels 3"]) -> Float[Tensor, "*pixels 3"]:
    """Camera-frame points: z = exp(c), x = a z, y = b z for raw numbers (a, b, c)."""
    z = raw[..., 2:].exp()
    return torch.cat([raw[..., :2] * z, z], dim=-1)


def normals_from_raw(raw: Float[Tensor, "*pixels 3"]) -> Float[Tensor, "*pixels 3"]:
    """Unit normals."""
    return F.normalize(raw, dim=-1)
