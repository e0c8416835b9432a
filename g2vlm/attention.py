"""One attention call for the whole decoder, on whichever kernel serves: SDPA is the reference.

No kernel ever sees a dense tokens x keys mask: whole splits attend without one, causal text is aligned to the lower right.
"""

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from g2vlm.config import AttentionBackend
from g2vlm.layout import Layout, SpanGroup

Attend = Callable[[Tensor, Tensor, Tensor, SpanGroup], Tensor]


def attend(
    q: Float[Tensor, "tokens heads width"],
    k: Float[Tensor, "keys kv_heads width"],
    v: Float[Tensor, "keys kv_heads width"],
    layout: Layout,
    layer: int,
    *,
    keys_in_order: bool = False,
    backend: AttentionBackend = "sdpa",
) -> Float[Tensor, "tokens heads width"]:
    """What each token gathers from the tokens it sees; rows that see nothing (padding) get zeros.

    q is in the experts' order (`layout.order`); k and v too, unless keys_in_order (a cache keeps sequence order).
    Raises ValueError where a backend cannot serve, with the reason.
    """
    if backend == "flex":
        return _flex(q, k, v, layout, layer, keys_in_order=keys_in_order)
    attend_group = BACKENDS[backend](q.device)
    groups = layout.groups(layer, keys_in_order=keys_in_order)
    rows = torch.cat([group.queries.flatten() for group in groups])
    parts = [rearrange(attend_group(q, k, v, group), "spans t n h -> (spans t) n h") for group in groups]
    return torch.zeros_like(q).index_copy_(0, rows, torch.cat(parts).to(q.dtype))


def _take(x: Tensor, rows: Tensor | None) -> Tensor:
    """Rows of x as [spans, length, heads, width]."""
    return x[None] if rows is None else x.index_select(0, rows.flatten()).unflatten(0, rows.shape)


def _sdpa(device: torch.device) -> Attend:
    def attend_group(q: Tensor, k: Tensor, v: Tensor, group: SpanGroup) -> Tensor:
        q, k, v = (rearrange(x, "s t n h -> s n t h") for x in _gather(q, k, v, group))
        return rearrange(kernel_attention(q, k, v, is_causal=group.is_causal), "s n t h -> s t n h")

    return attend_group


SHORT = 512
"""Keys up to which plain matrix products beat the fused kernel in bfloat16 on a CPU (benchmarks/attention.py)."""


def kernel_attention(
    q: Float[Tensor, "*batch heads queries width"],
    k: Float[Tensor, "*batch kv_heads keys width"],
    v: Float[Tensor, "*batch kv_heads keys width"],
    scale: float | None = None,
    *,
    is_causal: bool = False,
) -> Float[Tensor, "*batch heads queries width"]:
    """Every query attends to every key; scale is width ** -0.5 unless given.

    is_causal: the queries are those of the last keys, and do not see the keys behind their own.

    In bfloat16 the CPU's fused kernel is slower than the plain formula, its backward pass most, so short sequences take that.
    """
    groups = q.shape[-3] // k.shape[-3]
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and k.shape[-2] <= SHORT:
        k, v = (x.repeat_interleave(groups, dim=-3) if groups > 1 else x for x in (k, v))
        scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
        if is_causal:
            later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(scores.shape[-1] - scores.shape[-2] + 1)
            scores = scores.masked_fill(later, -torch.inf)
        return scores.softmax(-1, dtype=scores.dtype) @ v
    mask = causal_lower_right(q.shape[-2], k.shape[-2]) if is_causal else None
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale, enable_gqa=groups > 1)


def _gather(q: Tensor, k: Tensor, v: Tensor, group: SpanGroup) -> tuple[Tensor, Tensor, Tensor]:
    return _take(q, group.queries), _take(k, group.keys), _take(v, group.keys)


def _flash(device: torch.device) -> Attend:
    _require_cuda("flash", device)
    try:
        from flash_attn import flash_attn_func  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError("attention 'flash' needs the package flash-attn: pip install 'g2vlm[flash]'") from error

    def attend_group(q: Tensor, k: Tensor, v: Tensor, group: SpanGroup) -> Tensor:
        if q.dtype not in (torch.float16, torch.bfloat16):
            raise ValueError(
                f"attention 'flash' works in float16 or bfloat16, not {q.dtype}; use dtype='bfloat16' or 'sdpa'"
            )
        return flash_attn_func(*_gather(q, k, v, group), causal=group.is_causal)

    return attend_group


def _xformers(device: torch.device) -> Attend:
    _require_cuda("xformers", device)
    try:
        from xformers.ops import (  # pyright: ignore[reportMissingImports]
            LowerTriangularFromBottomRightMask,
            memory_efficient_attention,
        )
    except ImportError as error:
        raise ValueError("attention 'xformers' needs the package xformers: pip install 'g2vlm[xformers]'") from error

    def attend_group(q: Tensor, k: Tensor, v: Tensor, group: SpanGroup) -> Tensor:
        q, k, v = _gather(q, k, v, group)
        copies = q.shape[2] // k.shape[2]
        k, v = (x.repeat_interleave(copies, dim=2) for x in (k, v))
        bias = LowerTriangularFromBottomRightMask() if group.is_causal else None
        return memory_efficient_attention(q, k, v, attn_bias=bias)

    return attend_group


def _require_cuda(backend: str, device: torch.device) -> None:
    if device.type != "cuda":
        raise ValueError(
            f"attention {backend!r} has kernels for CUDA only, but the tensors are on {device}; use 'sdpa'"
        )


BACKENDS: dict[str, Callable[[torch.device], Attend]] = {"sdpa": _sdpa, "flash": _flash, "xformers": _xformers}


def _flex(q: Tensor, k: Tensor, v: Tensor, layout: Layout, layer: int, *, keys_in_order: bool) -> Tensor:
    """flex_attention over the whole packed sequence at once, under one block mask for all layers of a kind."""
    if q.requires_grad and q.device.type == "cpu":
        raise ValueError("attention 'flex' has no backward pass on the CPU; use 'sdpa'")
    mask = layout.once("flex", layer, keys_in_order, lambda: _block_mask(layout, layer, len(k), keys_in_order))
    q, k, v = (rearrange(x, "t n h -> 1 n t h") for x in (q, k, v))
    kernel = flex_attention if q.device.type == "cpu" else _compiled_flex()
    out = kernel(q, k, v, block_mask=mask, enable_gqa=k.shape[1] != q.shape[1])
    return rearrange(out, "1 n t h -> t n h")


def _block_mask(layout: Layout, layer: int, num_keys: int, keys_in_order: bool) -> BlockMask:
    seen = layout.intervals(layer, keys_in_order=keys_in_order)
    # A lambda, because the compiler must trace it: the tests put a checker of shapes around every named function.
    sees = lambda batch, head, query, key: (
        (seen.is_patch[key] | ~seen.only_patches[query])
        & (
            ((seen.near_start[query] <= seen.column[key]) & (seen.column[key] < seen.near_stop[query]))
            | ((seen.far_start[query] <= seen.column[key]) & (seen.column[key] < seen.far_stop[query]))
        )
    )
    return create_block_mask(sees, None, None, len(layout.order), num_keys, device=layout.order.device)


@cache
def _compiled_flex() -> Callable[..., Tensor]:
    return torch.compile(flex_attention)
