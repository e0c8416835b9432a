"""Mixture of Transformers: each expert owns its weights, all tokens share one attention.

Semantic and geometric tokens travel as two tensors; only attention joins them. Axes: t tokens, n heads, h head width.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import Cache

from g2vlm.attention import attend
from g2vlm.blocks import LayerScale
from g2vlm.config import AttentionBackend, G2VLMConfig
from g2vlm.layout import Layout
from g2vlm.rope import multimodal_angles, rotate


class Tokens(NamedTuple):
    """The tokens of each expert, each in sequence order."""

    semantic: Float[Tensor, "semantic width"]
    geometric: Float[Tensor, "geometric width"]


class RMSNorm(nn.RMSNorm):
    """RMSNorm in the precision of its weight (float32 under autocast), handed back in that of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype)).to(x.dtype)


class SwiGLU(nn.Module):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class ExpertLayer(nn.Module):
    """All weights that one expert has in one block.

    qk_norm: RMSNorm of each head's queries and keys before the rotation. layer_scale: start value, or None for none.
    """

    def __init__(self, config: G2VLMConfig, *, qk_norm: bool, layer_scale: float | None):
        super().__init__()
        text, head = config.text_config, config.head_width
        width, eps = text.hidden_size, text.rms_norm_eps
        self.head_width = head
        self.norm_attn = RMSNorm(width, eps=eps)
        self.q = nn.Linear(width, text.num_attention_heads * head)
        self.k = nn.Linear(width, text.num_key_value_heads * head)
        self.v = nn.Linear(width, text.num_key_value_heads * head)
        self.q_norm = RMSNorm(head, eps=eps) if qk_norm else nn.Identity()
        self.k_norm = RMSNorm(head, eps=eps) if qk_norm else nn.Identity()
        self.out = nn.Linear(text.num_attention_heads * head, width, bias=False)
        self.scale_attn = nn.Identity() if layer_scale is None else LayerScale(width, layer_scale)
        self.norm_mlp = RMSNorm(width, eps=eps)
        self.mlp = SwiGLU(width, text.intermediate_size)
        self.scale_mlp = nn.Identity() if layer_scale is None else LayerScale(width, layer_scale)

    def gradients(self) -> torch.set_grad_enabled:
        """A context in which a frozen expert does no gradient work: nothing flows back through its tokens."""
        learns = any(parameter.requires_grad for parameter in self.parameters())
        return torch.set_grad_enabled(learns and torch.is_grad_enabled())

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [tokens, heads, head width] of the tokens x [tokens, width]."""
        x = self.norm_attn(x)
        q, k, v = (rearrange(f(x), "t (n h) -> t n h", h=self.head_width) for f in (self.q, self.k, self.v))
        return self.q_norm(q), self.k_norm(k), v

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """The rest of the block: attention output and MLP, each added to the residual stream x."""
        x = x + self.scale_attn(self.out(rearrange(attended, "t n h -> t (n h)")))
        return x + self.scale_mlp(self.mlp(self.norm_mlp(x)))


class MoTBlock(nn.Module):
    """One transformer block: attention is shared, everything with weights is per expert.

    An expert whose weights are all frozen runs without gradients, as if its tokens were given.
    """

    def __init__(self, config: G2VLMConfig, index: int):
        super().__init__()
        self.index = index
        self.backend: AttentionBackend = config.attention
        self.semantic = ExpertLayer(config, qk_norm=config.semantic_qk_norm, layer_scale=None)
        self.geometric = ExpertLayer(config, qk_norm=config.geometric_qk_norm, layer_scale=config.layer_scale_init)

    def forward(self, x: Tokens, angles: Float[Tensor, "tokens half"], layout: Layout, cache: Cache | None) -> Tokens:
        experts = (self.semantic, self.geometric)
        q, k, v = (torch.cat(parts) for parts in zip(*map(_project, experts, x), strict=True))
        q, k = rotate(q, angles), rotate(k, angles)
        if cache is not None:
            k, v = self._remember(k, v, layout, cache)
        attended = attend(q, k, v, layout, self.index, keys_in_order=cache is not None, backend=self.backend)
        return Tokens(*map(_finish, experts, x, attended.split(layout.counts)))

    def _remember(self, k: Tensor, v: Tensor, layout: Layout, cache: Cache) -> tuple[Tensor, Tensor]:
        """Put the new keys and values, in sequence order, behind the cached ones; samples share one length there."""
        batch = len(layout.samples)
        k, v = (rearrange(x[layout.restore], "(b t) n h -> b n t h", b=batch) for x in (k, v))
        k, v = cache.update(k, v, self.index)
        return rearrange(k, "b n t h -> (b t) n h"), rearrange(v, "b n t h -> (b t) n h")


def _project(expert: ExpertLayer, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    with expert.gradients():
        return expert.project(x)


def _finish(expert: ExpertLayer, x: Tensor, attended: Tensor) -> Tensor:
    with expert.gradients():
        return expert.finish(x, attended)


class FinalNorm(nn.Module):
    def __init__(self, config: G2VLMConfig):
        super().__init__()
        text = config.text_config
        self.semantic = RMSNorm(text.hidden_size, eps=text.rms_norm_eps)
        self.geometric = RMSNorm(text.hidden_size, eps=text.rms_norm_eps)

    def forward(self, x: Tokens) -> Tokens:
        return Tokens(self.semantic(x.semantic), self.geometric(x.geometric))


class MoTDecoder(nn.Module):
    """All blocks and the final norms. An expert without tokens runs on zero rows: its gradients are zeros, not None.

    outputs: what leaves a block passes through the identity of its index: where others may hook in, for hooks on blocks
    would run again wherever activations are computed again.
    """

    def __init__(self, config: G2VLMConfig):
        super().__init__()
        self.sections, self.thetas = config.mrope_section, config.rope_thetas
        self.layers = nn.ModuleList(MoTBlock(config, i) for i in range(config.text_config.num_hidden_layers))
        self.outputs = nn.ModuleList(nn.Identity() for _ in self.layers)
        self.norm = FinalNorm(config)
        self.gradient_checkpointing = False

    def forward(
        self,
        x: Float[Tensor, "tokens width"],
        layout: Layout,
        *,
        cache: Cache | None = None,
        keep_layers: bool = False,
    ) -> tuple[Float[Tensor, "tokens width"], list[Float[Tensor, "tokens width"]]]:
        """Hidden states after the final norms, in sequence order, and (if kept) after each block."""
        parts = entering = Tokens(*x[layout.order].split(layout.counts))
        kept = []
        for parts in self.block_outputs(entering, layout, cache):
            if keep_layers:
                kept.append(torch.cat(parts)[layout.restore])
        return torch.cat(self.norm(parts))[layout.restore], kept

    def block_outputs(self, x: Tokens, layout: Layout, cache: Cache | None = None) -> Iterator[Tokens]:
        """Tokens behind each block, which does not run before they are asked for."""
        angles = self.angles(layout)
        for index, layer in enumerate(self.layers):
            if self.gradient_checkpointing and self.training:
                x = checkpoint(layer, x, angles, layout, cache, use_reentrant=False)
            else:
                x = layer(x, angles, layout, cache)
            x = self.outputs[index](x)
            yield x

    def angles(self, layout: Layout) -> Float[Tensor, "tokens half"]:
        """Rotary angles in the experts' order, each expert's by its own base."""
        places = layout.positions[:, layout.order].split(layout.counts, dim=1)
        return torch.cat(
            [multimodal_angles(p, self.sections, theta) for p, theta in zip(places, self.thetas, strict=True)]
        )
