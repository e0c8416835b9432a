"""A frozen geometry encoder: VGGT's aggregator, whose layers are read as features (Wang et al., CVPR 2025).

DINOv2 turns each view into patch tokens; then blocks inside each view and blocks across all views work on them by turns.
Axes: v views, t tokens of a view (special ones first), h half of a head's width, r rows, c columns, w width.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn
from transformers.models.dinov2_with_registers import Dinov2WithRegistersConfig

from g2vlm.blocks import LayerScale, Mlp, SelfAttention
from g2vlm.encoders.dino import DinoEncoder
from g2vlm.rope import grid_angles

EPS = 1e-5
"""Of every LayerNorm behind DINOv2, which itself uses 1e-6."""

ReferenceFrame = Literal["first", "last"]
"""The view that camera and register tokens single out."""


@dataclass(frozen=True)
class VggtConfig:
    """Shape of a VGGT; the defaults are those of the published VGGT-1B.

    token_width: channels of a token; a feature has twice as many. depth: how many pairs of a frame block and a global block.
    num_registers: of DINOv2, and again of each view behind it. image_size: side of the square, in pixels, that DINOv2's position
    embeddings were learnt for; other sizes take them resampled.
    """

    token_width: int = 1024
    depth: int = 24
    num_heads: int = 16
    dino_depth: int = 24
    dino_num_heads: int = 16
    num_registers: int = 4
    mlp_ratio: int = 4
    patch: int = 14
    image_size: int = 518
    rope_base: float = 100.0
    layer_scale_init: float = 0.01
    reference_frame: ReferenceFrame = "first"

    def __post_init__(self) -> None:
        for field in (
            *("token_width", "depth", "num_heads", "dino_depth", "dino_num_heads", "num_registers"),
            *("mlp_ratio", "patch", "image_size"),
        ):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} is {getattr(self, field)}; it must be 1 or more")
        if self.token_width % (4 * self.num_heads):
            raise ValueError(
                f"token_width ({self.token_width}) must be a multiple of 4 x num_heads ({self.num_heads}): "
                "the rotary embedding splits each attention head in four"
            )
        if self.token_width % self.dino_num_heads:
            raise ValueError(
                f"token_width ({self.token_width}) must be a multiple of dino_num_heads ({self.dino_num_heads})"
            )
        if self.image_size % self.patch:
            raise ValueError(f"image_size ({self.image_size}) must be a multiple of patch ({self.patch})")
        if self.rope_base <= 1:
            raise ValueError(f"rope_base is {self.rope_base}; it must be greater than 1")
        if self.reference_frame not in get_args(ReferenceFrame):
            raise ValueError(
                f"reference_frame is {self.reference_frame!r}; it must be one of {get_args(ReferenceFrame)}"
            )


VGGT_1B = VggtConfig()


class Block(nn.Module):
    """Self-attention and an MLP, both pre-norm, scaled and residual; attention norms its queries and keys."""

    def __init__(self, config: VggtConfig):
        super().__init__()
        width = config.token_width
        self.norm_attn = nn.LayerNorm(width, eps=EPS)
        self.attn = SelfAttention(width, config.num_heads, qk_norm_eps=EPS)
        self.scale_attn = LayerScale(width, config.layer_scale_init)
        self.norm_mlp = nn.LayerNorm(width, eps=EPS)
        self.mlp = Mlp(width, config.mlp_ratio * width)
        self.scale_mlp = LayerScale(width, config.layer_scale_init)

    def forward(
        self, x: Float[Tensor, "sequences tokens width"], angles: Float[Tensor, "tokens half"]
    ) -> Float[Tensor, "sequences tokens width"]:
        x = x + self.scale_attn(self.attn(self.norm_attn(x), angles))
        return x + self.scale_mlp(self.mlp(self.norm_mlp(x)))


class Vggt(nn.Module):
    """VGGT without its heads, frozen: no parameter asks for a gradient, and `encode` builds no graph.

    `encode` is the protocol of geometry encoders; `layer_outputs` is what it reads, special tokens included.
    Under autocast, attention and linear maps run in its type, norms and the residual stream in float32.
    """

    def __init__(self, config: VggtConfig):
        super().__init__()
        self.config = config
        width = config.token_width
        self.dino = DinoEncoder(
            Dinov2WithRegistersConfig(
                hidden_size=width,
                num_hidden_layers=config.dino_depth,
                num_attention_heads=config.dino_num_heads,
                mlp_ratio=config.mlp_ratio,
                image_size=config.image_size,
                patch_size=config.patch,
                num_register_tokens=config.num_registers,
            ),
            "per_image",
        )
        # Each kind twice: for the view of reference, and for all others.
        self.camera_token = nn.Parameter(1e-6 * torch.randn(1, 2, 1, width))
        self.register_tokens = nn.Parameter(1e-6 * torch.randn(1, 2, config.num_registers, width))
        self.frame_blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.global_blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.requires_grad_(False)

    @property
    def num_layers(self) -> int:
        return self.config.depth

    @property
    def width(self) -> int:
        """Channels of a feature: those behind a frame block, then those behind the global block that follows it."""
        return 2 * self.config.token_width

    @property
    def patch(self) -> int:
        """Side of a patch, pixels."""
        return self.config.patch

    @property
    def num_special(self) -> int:
        """Tokens of a view that stand before its patches: a camera token and the registers."""
        return 1 + self.config.num_registers

    @torch.no_grad()  # not inference_mode: whoever learns from features keeps them for the backward pass
    def encode(
        self, images: Float[Tensor, "views 3 height width"], layers: Sequence[int]
    ) -> list[Float[Tensor, "views rows columns channels"]]:
        """Features of every patch behind each of `layers` (numbers from 0, in any order), without any further norm.

        images: RGB in [0, 1], the views of one scene, which all see each other. Blocks behind the last of `layers` do not run.
        Raises ValueError for a layer that does not exist, and for sides that are no multiples of the patch.
        """
        if missing := [layer for layer in layers if not 0 <= layer < self.num_layers]:
            raise ValueError(
                f"layers has {', '.join(map(str, missing))}, but this VGGT has {self.num_layers} layers; "
                f"name some of 0 to {self.num_layers - 1}"
            )
        is_last = self.config.reference_frame == "last"
        outputs = self.layer_outputs(images.flip(0) if is_last else images)
        features: dict[int, Tensor] = {}
        for layer in range(max(layers, default=-1) + 1):
            output = next(outputs)
            if layer in layers:
                patches = torch.cat(output, dim=-1)[:, self.num_special :]
                features[layer] = rearrange(
                    patches.flip(0) if is_last else patches, "v (r c) w -> v r c w", r=images.shape[2] // self.patch
                )
        return [features[layer] for layer in layers]

    def layer_outputs(
        self, images: Float[Tensor, "views 3 height width"]
    ) -> Iterator[tuple[Float[Tensor, "views tokens width"], Float[Tensor, "views tokens width"]]]:
        """Layer by layer, and no sooner than asked for: all tokens behind the frame block, and behind the global block.

        The special tokens of view 0 are those of the view of reference. In every view they stand before the patches.
        """
        views, _, height, width = images.shape
        rows, columns = height // self.patch, width // self.patch
        if (height, width) != (rows * self.patch, columns * self.patch) or not rows * columns:
            near = tuple(max(1, round(side / self.patch)) * self.patch for side in (height, width))
            raise ValueError(
                f"images are {height} x {width} pixels (height x width), which must be multiples of the patch, {self.patch}; "
                f"resize them to {near[0]} x {near[1]}"
            )
        special = torch.cat([self.camera_token, self.register_tokens], dim=2)[0]
        special = torch.cat([special[:1], special[1:].expand(views - 1, -1, -1)])
        x = torch.cat([special, self.dino(images)], dim=1)
        # Patches are numbered from 1 in both directions; 0 is the place of the special tokens.
        head_width = self.config.token_width // self.config.num_heads
        angles = grid_angles(rows, columns, head_width, self.config.rope_base, images.device, first=1)
        angles = F.pad(angles, (0, 0, self.num_special, 0))
        angles_of_all = repeat(angles, "t h -> (v t) h", v=views)
        for frame_block, global_block in zip(self.frame_blocks, self.global_blocks, strict=True):
            by_frame = frame_block(x, angles)
            x = global_block(rearrange(by_frame, "v t w -> 1 (v t) w"), angles_of_all)
            x = rearrange(x, "1 (v t) w -> v t w", v=views)
            yield by_frame, x
