"""What it costs to route tokens to two experts, as a part of a training step: `python benchmarks/routing.py`.

The decoder alone, forward and backward, on views and words; beside it nothing but the routing of the same step: sorting the
tokens by expert, joining both experts' queries, keys and values before attention, splitting its result, putting the
tokens back. Attention itself and the plan of the sequence (`lay_out`, in Python, once per step) are timed too.
The last line is JSON.
"""

import argparse
import json
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from g2vlm import presets
from g2vlm.attention import attend
from g2vlm.layout import Layout, Text, ViewBlock, lay_out
from g2vlm.mot import MoTDecoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="tiny", help="shape of the decoder")
    parser.add_argument("--layers", type=int, default=None, help="so many of its layers; all unless given")
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--side", type=int, default=8, help="patches along a side of a view")
    parser.add_argument("--words", type=int, default=64, help="before the views, and after them")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    config = getattr(presets, options.preset)()
    if options.layers is not None:
        config.text_config.num_hidden_layers = options.layers
    decoder = MoTDecoder(config).train()
    layers = len(decoder.layers)
    segments = [[Text(options.words), ViewBlock(((options.side, options.side),) * options.views), Text(options.words)]]
    layout = lay_out(segments, visibility=config.visibility)
    width = config.text_config.hidden_size
    x = torch.randn(len(layout.order), width, requires_grad=True)
    heads = (config.text_config.num_attention_heads, *[config.text_config.num_key_value_heads] * 2)
    q, k, v = qkv = [torch.randn(len(x), n, config.head_width, requires_grad=True) for n in heads]

    def step() -> None:
        decoder(x, layout)[0].sum().backward()

    def attention() -> None:
        torch.stack([attend(q, k, v, layout, i).sum() for i in range(layers)]).sum().backward()

    whole = seconds(step, options.repeats)
    parts = {
        "routing": seconds(lambda: route(x, qkv, layout, layers), options.repeats),
        "attention": seconds(attention, options.repeats),
        "lay_out": seconds(lambda: lay_out(segments, visibility=config.visibility), options.repeats),
    }
    print(
        f"{options.preset}, {layers} layers, {len(x)} tokens, {torch.get_num_threads()} thread(s): {1e3 * whole:.1f} ms a step"
    )
    for name, part in parts.items():
        print(f"  {name:10} {1e3 * part:8.2f} ms   {100 * part / whole:5.2f} % of the step")
    print(json.dumps({"step_s": whole, **{f"{name}_part": part / whole for name, part in parts.items()}}))


def route(x: Tensor, qkv: list[Tensor], layout: Layout, layers: int) -> None:
    """All that a decoder with one expert would not do, forward and backward."""
    semantic, geometric = x[layout.order].split(layout.counts)
    total = torch.cat([semantic, geometric])[layout.restore].sum()
    for _ in range(layers):
        for values in qkv:
            a, b = values.split(layout.counts)
            total = total + torch.cat([a, b])[:1].sum()
    total.backward()


def seconds(action: Callable[[], object], repeats: int) -> float:
    """Median processor time after one call to warm up."""
    action()
    used = []
    for _ in range(repeats):
        started = time.process_time()
        action()
        used.append(time.process_time() - started)
    return median(used)


if __name__ == "__main__":
    main()
