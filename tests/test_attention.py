import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from g2vlm import attention
from g2vlm.attention import SHORT, attend, kernel_attention
from g2vlm.config import PictureAttention, Visibility
from g2vlm.layout import Layout, Past, Picture, Text, ViewBlock, lay_out

MIXED_BATCH = [
    [Text(3), ViewBlock(((2, 2), (1, 3))), Picture((2, 2)), Text(4)],
    [ViewBlock(((2, 2),)), Text(2)],
]
PADDING = [0, 5]


def mixed_layout(visibility: Visibility = "global", picture_attention: PictureAttention = "full") -> Layout:
    return lay_out(MIXED_BATCH, visibility=visibility, picture_attention=picture_attention, padding=PADDING)


def step_layout() -> Layout:
    return lay_out([[Text(2)], [Text(2)]], pasts=[Past(7, ((0, 7),), 7), Past(7, ((2, 7),), 4)])


def random_qkv(layout: Layout, *, kv_heads: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    q = torch.randn(len(layout.order), 4, 8)
    k, v = torch.randn(2, layout.num_keys, kv_heads, 8)
    return q, k, v


def dense(q: Tensor, k: Tensor, v: Tensor, layout: Layout, layer: int, *, keys_in_order: bool = False) -> Tensor:
    """Softmax under the dense mask; rows that see nothing become zeros."""
    columns = torch.arange(layout.num_keys) if keys_in_order else layout.order
    sees = layout.visible(layer)[layout.order][:, columns]
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    scores = torch.einsum("qnh,knh->nqk", q, k) * q.shape[-1] ** -0.5
    return torch.einsum("nqk,knh->qnh", scores.masked_fill(~sees, -torch.inf).softmax(-1).nan_to_num(), v)


@pytest.mark.parametrize(("backend", "kv_heads"), [("sdpa", 2), ("sdpa", 4), ("flex", 2)])
@pytest.mark.parametrize("visibility", ["global", "frame", "block_causal", "mixed"])
def test_attention_equals_a_dense_masked_softmax(backend, visibility, kv_heads):
    layout = mixed_layout(visibility)
    qkv = random_qkv(layout, kv_heads=kv_heads)
    for layer in (0, 1):
        # worst measured: 4e-7
        torch.testing.assert_close(
            attend(*qkv, layout, layer, backend=backend), dense(*qkv, layout, layer), atol=2e-6, rtol=0
        )


@pytest.mark.parametrize("backend", ["sdpa", "flex"])
def test_causal_pictures_equal_a_dense_masked_softmax(backend):
    layout = mixed_layout(picture_attention="causal")
    qkv = random_qkv(layout)
    torch.testing.assert_close(attend(*qkv, layout, 0, backend=backend), dense(*qkv, layout, 0), atol=2e-6, rtol=0)


@pytest.mark.parametrize("backend", ["sdpa", "flex"])
@pytest.mark.parametrize("layout", [mixed_layout(), step_layout()], ids=["prefill", "step"])
def test_keys_of_a_cache_lie_in_the_order_of_the_sequence(layout, backend):
    qkv = random_qkv(layout)
    out = attend(*qkv, layout, 0, keys_in_order=True, backend=backend)
    torch.testing.assert_close(out, dense(*qkv, layout, 0, keys_in_order=True), atol=2e-6, rtol=0)


def test_gradients_equal_those_of_a_dense_masked_softmax():
    layout = mixed_layout()
    q, k, v = (x.requires_grad_() for x in random_qkv(layout))
    weight = torch.randn(len(layout.order), 4, 8)
    grads = torch.autograd.grad((weight * attend(q, k, v, layout, 0)).sum(), (q, k, v))
    wanted = torch.autograd.grad((weight * dense(q, k, v, layout, 0)).sum(), (q, k, v))
    torch.testing.assert_close(grads, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("backend", ["sdpa", "flex"])
def test_padding_gathers_zeros(backend):
    layout = mixed_layout()
    out = attend(*random_qkv(layout), layout, 0, backend=backend)[layout.restore]
    first = layout.samples[1].first_row
    is_padding = torch.zeros(len(out), dtype=torch.bool)
    is_padding[first - PADDING[1] : first] = True
    assert not out[is_padding].any()
    assert out[~is_padding].all()


class LargestTensor(TorchDispatchMode):
    """Remembers how many elements the largest tensor made inside has."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple) else (out,):
            if isinstance(tensor, Tensor):
                self.numel = max(self.numel, tensor.numel())
        return out


@pytest.mark.parametrize("visibility", ["global", "frame", "block_causal"])
def test_no_mask_of_all_tokens_by_all_keys_is_made(visibility):
    layout = lay_out([[ViewBlock(((8, 8),) * 8)]], visibility=visibility)
    qkv = random_qkv(layout)
    with LargestTensor() as largest:
        attend(*qkv, layout, 0)
    assert largest.numel <= qkv[0].numel()


class Masks(TorchFunctionMode):
    """Remembers, by the number of queries, the mask that the kernel was given."""

    def __init__(self):
        super().__init__()
        self.by_num_queries: dict[int, Tensor | None] = {}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is F.scaled_dot_product_attention:
            self.by_num_queries[args[0].shape[2]] = (kwargs or {}).get("attn_mask")
        return func(*args, **(kwargs or {}))


def test_full_splits_are_attended_without_any_mask():
    layout = lay_out([[Text(3), ViewBlock(((2, 2), (2, 2))), Picture((3, 3)), Text(2)]])
    with Masks() as masks:
        attend(*random_qkv(layout), layout, 0)
    has_mask = {queries: mask is not None for queries, mask in masks.by_num_queries.items()}
    patches, markers = 8, 4
    assert has_mask == {3: True, patches: False, markers: False, 11: False, 2: True}


@pytest.mark.parametrize("num_keys", [16, SHORT, SHORT + 1])
def test_full_attention_in_bfloat16_equals_float32(num_keys):
    torch.manual_seed(0)
    q = torch.randn(2, 4, 8, 16).bfloat16()
    k, v = torch.randn(2, 2, 2, num_keys, 16).bfloat16()
    exact = kernel_attention(q.float(), k.float(), v.float(), scale=0.3)
    torch.testing.assert_close(kernel_attention(q, k, v, scale=0.3).float(), exact, atol=1e-2, rtol=0)


def test_flex_makes_one_mask_for_all_layers_that_see_alike(monkeypatch):
    made = []
    real = attention.create_block_mask
    monkeypatch.setattr(attention, "create_block_mask", lambda *a, **k: made.append(1) or real(*a, **k))
    layout = lay_out([[Text(3), ViewBlock(((2, 2), (1, 2)))]], visibility="mixed")
    q, k, v = torch.randn(13, 4, 16), torch.randn(13, 2, 16), torch.randn(13, 2, 16)
    for layer in range(4):
        attend(q, k, v, layout, layer, backend="flex")
    assert len(made) == 2


def test_flex_refuses_to_learn_on_a_cpu():
    layout = mixed_layout()
    q, k, v = random_qkv(layout)
    with pytest.raises(ValueError, match=r"'flex' has no backward pass on the CPU; use 'sdpa'"):
        attend(q.requires_grad_(), k, v, layout, 0, backend="flex")


@pytest.mark.parametrize("backend", ["flash", "xformers"])
def test_kernels_for_cuda_refuse_a_cpu(backend):
    layout = mixed_layout()
    with pytest.raises(ValueError, match=rf"'{backend}' has kernels for CUDA only.*on cpu; use 'sdpa'"):
        attend(*random_qkv(layout), layout, 0, backend=backend)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("visibility", ["global", "frame", "block_causal"])
@pytest.mark.parametrize(("backend", "package"), [("flex", "torch"), ("flash", "flash_attn"), ("xformers", "xformers")])
def test_every_backend_equals_sdpa_on_cuda_forwards_and_backwards(backend, package, visibility):
    pytest.importorskip(package)
    layout = lay_out(MIXED_BATCH, visibility=visibility, padding=PADDING, device="cuda")
    torch.manual_seed(0)
    dtype = torch.float32 if backend == "flex" else torch.bfloat16
    q = torch.randn(len(layout.order), 4, 32, device="cuda", dtype=dtype, requires_grad=True)
    k, v = (torch.randn(layout.num_keys, 2, 32, device="cuda", dtype=dtype, requires_grad=True) for _ in "kv")
    weight = torch.randn_like(q)
    results = []
    for name in ("sdpa", backend):
        out = attend(q, k, v, layout, 0, backend=name)
        results.append((out, *torch.autograd.grad((weight * out).sum(), (q, k, v))))
    torch.testing.assert_close(*results, atol=2e-2, rtol=2e-2)
