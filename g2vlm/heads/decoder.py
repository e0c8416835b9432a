"""The small transformer every head begins with: attention inside each view, 2-D RoPE, optional look at view 0.

Axes: v views, t patch tokens, n heads, h head width.
"""

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from g2vlm.blocks import Mlp, SelfAttention, joined_heads
from g2vlm.config import HeadsConfig
from g2vlm.layout import Grid
from g2vlm.rope import grid_angles, rotate_planar

EPS = 1e-6


class CrossAttention(nn.Module):
    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(width, width)
        self.v = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "views tokens width"], context: Tensor, angles: Tensor, places: Tensor
    ) -> Tensor:
        q, k, v = (
            rearrange(f(y), "v t (n h) -> v t n h", n=self.num_heads)
            for f, y in ((self.q, x), (self.k, context), (self.v, context))
        )
        return self.proj(joined_heads(rotate_planar(q, angles), rotate_planar(k, places), v))


class Block(nn.Module):
    """Self-attention, then (with a context) cross-attention to it, then an MLP; all pre-norm and residual."""

    def __init__(self, width: int, config: HeadsConfig, *, has_context: bool):
        super().__init__()
        self.norm_attn = nn.LayerNorm(width, eps=EPS)
        self.attn = SelfAttention(width, config.num_heads)
        if has_context:
            self.norm_cross = nn.LayerNorm(width, eps=EPS)
            self.norm_context = nn.LayerNorm(width, eps=EPS)
            self.cross = CrossAttention(width, config.num_heads)
        self.norm_mlp = nn.LayerNorm(width, eps=EPS)
        self.mlp = Mlp(width, config.mlp_ratio * width)

    def forward(self, x: Tensor, angles: Tensor, context: tuple[Tensor, Tensor] | None) -> Tensor:
        x = x + self.attn(self.norm_attn(x), angles)
        if context is not None:
            tokens, places = context
            x = x + self.cross(self.norm_cross(x), self.norm_context(tokens), angles, places)
        return x + self.mlp(self.norm_mlp(x))


class HeadDecoder(nn.Module):
    """`depth` blocks at the width of the language model, then one linear map to `out_width`.

    has_context: every block also attends to the tokens of another view, the same for all blocks.
    """

    def __init__(self, width: int, out_width: int, config: HeadsConfig, *, has_context: bool = False):
        super().__init__()
        self.head_width, self.rope_base = width // config.num_heads, config.rope_base
        self.blocks = nn.ModuleList(Block(width, config, has_context=has_context) for _ in range(config.depth))
        self.linear_out = nn.Linear(width, out_width)
        self.gradient_checkpointing = False

    def forward(
        self,
        tokens: Float[Tensor, "views tokens width"],
        grid: Grid,
        context: tuple[Float[Tensor, "views others width"], Grid] | None = None,
    ) -> Float[Tensor, "views tokens out_width"]:
        """tokens: hidden states of one view per row, patches in row-major order. context: view 0 and its grid."""
        angles = grid_angles(*grid, self.head_width, self.rope_base, tokens.device)
        placed = None
        if context is not None:
            others, other_grid = context
            placed = others, grid_angles(*other_grid, self.head_width, self.rope_base, tokens.device)
        for block in self.blocks:
            if self.gradient_checkpointing and self.training:
                tokens = checkpoint(block, tokens, angles, placed, use_reentrant=False)
            else:
                tokens = block(tokens, angles, placed)
        return self.linear_out(tokens)
