"""What a model computes and holds, counted on tensors without memory: nothing is computed, and no weights are made."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import flop_registry

from g2vlm.attention import BACKENDS, Attend
from g2vlm.layout import SpanGroup

META = torch.device("meta")

BACKWARD_OF_FUSED_ATTENTION = 2.5
"""Products of the backward pass for one of the forward pass, which it does not remember and makes again."""


class Ledger(TorchDispatchMode):
    """Counts operations, and the bytes of all tensors on one device that are alive, as they come and go.

    Where tensors without memory meet real ones, the real ones are taken for such, too.
    """

    def __init__(self, device: torch.device):
        super().__init__()
        self.device = device
        self.flops = 0.0
        self.live = self.peak = self.casts = self.casts_at_peak = 0
        self._sizes: dict[int, tuple[int, bool]] = {}
        self._is_casting = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        if any(x.is_meta for x in tensors) and not all(x.is_meta for x in tensors):
            args, kwargs = tree_map_only(Tensor, _without_memory, (_numbered(func, args), kwargs))
        out = func(*args, **kwargs)
        if func._overloadpacket in flop_registry:
            self.flops += flop_registry[func._overloadpacket](*args, **kwargs, out_val=out)
        for x in tree_leaves(out):
            if isinstance(x, Tensor) and x.device == self.device:
                self._enter(x)
        return out

    def known(self, x: Tensor) -> None:
        """Leave a tensor out of all counts from now on."""
        size, is_cast = self._sizes.get(x.untyped_storage()._cdata, (0, False))
        self._add(-size, is_cast)
        self._sizes[x.untyped_storage()._cdata] = (0, False)

    def cast(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        """A weight in another precision, booked as a cast."""
        self._is_casting = weight.dtype != dtype
        weight = weight.to(dtype)
        self._is_casting = False
        return weight

    def book(self, num_bytes: float) -> None:
        """What would be alive beside everything else, now and for a moment."""
        if self.live + num_bytes > self.peak:
            self.peak, self.casts_at_peak = int(self.live + num_bytes), self.casts

    def _enter(self, x: Tensor) -> None:
        storage = x.untyped_storage()
        if storage._cdata not in self._sizes:
            self._sizes[storage._cdata] = (storage.nbytes(), self._is_casting)
            self._add(storage.nbytes(), self._is_casting)
            weakref.finalize(storage, self._leave, storage._cdata)

    def _leave(self, key: int) -> None:
        size, is_cast = self._sizes.pop(key)
        self._add(-size, is_cast)

    def _add(self, size: int, is_cast: bool) -> None:
        if is_cast:
            self.casts += size
        else:
            self.live += size
        self.book(0)


def _without_memory(x: Tensor) -> Tensor:
    return x if x.is_meta or x.ndim == 0 else x.to(META)


def _numbered(func: Any, args: Any) -> Any:
    """Arguments of an operation, with masks that choose rows turned into the numbers of the rows."""
    if func._overloadpacket not in (torch.ops.aten.index, torch.ops.aten.index_put, torch.ops.aten.index_put_):
        return args
    indices: list[Tensor | None] = []
    for index in args[1]:
        if index is None or index.dtype != torch.bool:
            indices.append(index)
        else:
            indices += index.nonzero().unbind(1)
    return (args[0], indices, *args[2:])


class FusedAttention(torch.autograd.Function):
    """The shapes of fused attention: queries, keys, values, outputs and one number per query are kept, no scores."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, ledger: Ledger, flops: float) -> Tensor:
        ledger.flops += flops
        out = q.new_empty(*q.shape[:-1], v.shape[-1])
        ctx.save_for_backward(q, k, v, out, q.new_empty(q.shape[:-1], dtype=torch.float32))
        ctx.ledger, ctx.flops = ledger, flops
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        ctx.ledger.flops += BACKWARD_OF_FUSED_ATTENTION * ctx.flops
        return (*(torch.empty_like(x) for x in ctx.saved_tensors[:3]), None, None)


@contextmanager
def planned_kernels(ledger: Ledger, precision: torch.dtype | None = None) -> Iterator[None]:
    """Attention as fused kernels do it, and products in `precision` as under autocast, which has no meta device; None: as they are."""

    def held(x: Tensor) -> Tensor:
        return x if precision is None else x.to(precision)

    def attended(q: Tensor, k: Tensor, v: Tensor, *_: Any, **__: Any) -> Tensor:
        q, k, v = (held(x) for x in (q, k, v))
        pairs = q.shape[-2] * k.shape[-2]
        return FusedAttention.apply(q, k, v, ledger, 4 * q.shape[:-2].numel() * pairs * q.shape[-1])

    def attend_group(q: Tensor, k: Tensor, v: Tensor, group: SpanGroup) -> Tensor:
        chosen = ((q, group.queries), (k, group.keys), (v, group.keys))
        taken = [held(_rows(x, rows).transpose(1, 2)) for x, rows in chosen]
        queries, seen = taken[0].shape[-2], taken[1].shape[-2]
        pairs = queries * seen - (queries * (queries - 1) / 2 if group.is_causal else 0)
        flops = 4 * taken[0].shape[:-2].numel() * pairs * q.shape[-1]
        return FusedAttention.apply(*taken, ledger, flops).transpose(1, 2)

    def planned(device: torch.device) -> Attend:
        return attend_group

    def product(original: Callable) -> Callable:
        def cast(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
            assert precision is not None
            bias = None if bias is None else ledger.cast(bias, precision)
            return original(x.to(precision), ledger.cast(weight, precision), bias, *rest)

        return cast

    def normalised(x: Tensor, *rest: Any, **named: Any) -> Tensor:
        return layer_norm(x.float(), *rest, **named)

    layer_norm = F.layer_norm
    products = ("linear", "conv2d", "conv3d")
    functions: dict[str, Callable] = {"scaled_dot_product_attention": attended}
    if precision is not None:
        functions["layer_norm"] = normalised
    if precision not in (None, torch.float32):
        functions |= {name: product(getattr(F, name)) for name in products}
    before = {name: getattr(F, name) for name in functions}, BACKENDS["sdpa"]
    for name, function in functions.items():
        setattr(F, name, function)
    BACKENDS["sdpa"] = planned
    try:
        yield
    finally:
        for name, function in before[0].items():
            setattr(F, name, function)
        BACKENDS["sdpa"] = before[1]


def _rows(x: Tensor, rows: Tensor | None) -> Tensor:
    """Rows of x (None: all) as [spans, length, heads, width]."""
    return x[None] if rows is None else x.index_select(0, rows.flatten()).unflatten(0, rows.shape)
