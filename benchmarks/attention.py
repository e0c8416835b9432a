"""Attention span by span beside one call with a dense mask (or flex's block mask), in one run: `python benchmarks/attention.py`.

Each is measured in a process of its own, so that peak memory is its own too. Then, for short sequences in bfloat16, the
plain formula beside the fused kernel of the CPU: where they meet is `g2vlm.attention.SHORT`.
"""

import argparse
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor

from g2vlm.attention import attend
from g2vlm.config import Visibility
from g2vlm.layout import Layout, Text, ViewBlock, lay_out

HEADS, KV_HEADS, WIDTH = 12, 2, 128
"""Of the 2B model."""


def scene(views: int, side: int, visibility: Visibility) -> Layout:
    """A prompt, views of side x side patches, and a question."""
    return lay_out([[Text(32), ViewBlock(((side, side),) * views), Text(32)]], visibility=visibility)


def by_spans(layout: Layout) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    return lambda q, k, v: attend(q, k, v, layout, 0)


def by_dense_mask(layout: Layout) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    sees = torch.zeros(len(layout.order), layout.num_keys, dtype=torch.bool)
    for span in layout.spans(layout.visibility):
        for start, stop in span.keys:
            sees[slice(*span.rows), start:stop] = True
        if span.is_causal:
            sees[slice(*span.rows), slice(*span.rows)] = torch.ones(span.shape[0], span.shape[0]).tril().bool()
    mask = sees[layout.order][:, layout.order]

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)[0].transpose(0, 1)

    return attention


def by_flex(layout: Layout) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    return lambda q, k, v: attend(q, k, v, layout, 0, backend="flex")


def seconds(action: Callable[[], object], repeats: int) -> float:
    """Median processor time after one call to warm up; other work on the machine lengthens it little."""
    action()
    used = []
    for _ in range(repeats):
        start = time.process_time()
        action()
        used.append(time.process_time() - start)
    return median(used)


def peak_mib() -> float:
    """Largest resident memory of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def cost(method: str, views: int, side: int, visibility: Visibility, repeats: int) -> tuple[float, float, list[float]]:
    """Seconds of one call, the memory (MiB) that it and its mask added to the peak, and some of its results."""
    torch.set_num_threads(1)
    layout = scene(views, side, visibility)
    generator = torch.Generator().manual_seed(0)
    tokens = len(layout.order)
    q = torch.randn(tokens, HEADS, WIDTH, generator=generator)
    k, v = torch.randn(2, tokens, KV_HEADS, WIDTH, generator=generator)
    before = peak_mib()
    attention = {"spans": by_spans, "dense": by_dense_mask, "flex": by_flex}[method](layout)
    used = seconds(lambda: attention(q, k, v), repeats)
    return used, peak_mib() - before, attention(q, k, v)[::97, 0, 0].tolist()


def compare(views: int, side: int, repeats: int, other: str) -> None:
    """Attention by spans beside another method."""
    tokens = len(scene(views, side, "global").order)
    print(f"{views} views of {side} x {side} patches and 64 words: {tokens} tokens, one thread, float32")
    print(f"{'visibility':>13} {'spans':>18} {other:>18} {'time':>6} {'memory':>7}")
    visibilities: list[Visibility] = ["global", "frame"]
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for visibility in visibilities:
            (s, mib, out), (dense_s, dense_mib, dense_out) = (
                pool.apply(cost, (method, views, side, visibility, repeats)) for method in ("spans", other)
            )
            torch.testing.assert_close(torch.tensor(out), torch.tensor(dense_out))
            cells = f"{s:7.2f} s {mib:4.0f} MiB {dense_s:7.2f} s {dense_mib:4.0f} MiB"
            print(f"{visibility:>13} {cells} {s / dense_s:5.2f}x {mib / dense_mib:6.2f}x", flush=True)


def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.mT * WIDTH**-0.5).softmax(-1) @ v


def short_sequences(repeats: int = 9) -> None:
    print("\nbfloat16, 12 heads: milliseconds of the plain formula and of the fused kernel")
    torch.set_num_threads(1)
    for length in (64, 256, 1024, 2048):
        q, k, v = torch.randn(3, 1, HEADS, length, WIDTH, dtype=torch.bfloat16)
        plain_ms = 1000 * seconds(lambda q=q, k=k, v=v: plain(q, k, v), repeats)
        fused_ms = 1000 * seconds(lambda q=q, k=k, v=v: F.scaled_dot_product_attention(q, k, v), repeats)
        print(f"{length:>6} tokens {plain_ms:8.1f} {fused_ms:8.1f} {plain_ms / fused_ms:6.2f}x", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--side", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--other", choices=("dense", "flex"), default="dense", help="what spans are compared with")
    options = parser.parse_args()
    compare(options.views, options.side, options.repeats, options.other)
    short_sequences()


if __name__ == "__main__":
    main()
