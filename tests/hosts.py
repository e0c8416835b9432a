"""Stock Qwen-VLs in miniature with random weights, an encoder to go with them, and prompts with pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from transformers import (
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen2VLConfig,
    Qwen3_5Config,
)

from g2vlm import host
from g2vlm.encoders.vggt import Vggt, VggtConfig
from g2vlm.host import Host
from g2vlm.pathway_config import PathwayConfig

FAMILIES = tuple(host.FAMILIES)
IDS = {"image_token_id": 92, "video_token_id": 93, "vision_start_token_id": 90, "vision_end_token_id": 91}
WIDTH, LAYERS, CHANNELS, PATCH = 32, 5, 24, 14

_TEXT = {
    "vocab_size": 96,
    "hidden_size": WIDTH,
    "intermediate_size": 64,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 80,
    "eos_token_id": 81,
    "pad_token_id": 82,
    "initializer_range": 0.3,
}
_CHUNKED = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}}


def config_of(family: str) -> PreTrainedConfig:
    """A host's configuration in miniature."""
    tower = {"depth": 2, "hidden_size": 16, "out_hidden_size": WIDTH, "intermediate_size": 32, "num_heads": 2}
    if family == "qwen2_vl":
        vision = {"depth": 2, "embed_dim": 16, "hidden_size": WIDTH, "num_heads": 2, "mlp_ratio": 2}
        return Qwen2VLConfig(text_config=_TEXT | _CHUNKED, vision_config=vision, **IDS)
    if family == "qwen2_5_vl":
        windows = {"window_size": 56, "fullatt_block_indexes": [1]}
        return Qwen2_5_VLConfig(text_config=_TEXT | _CHUNKED, vision_config=tower | windows, **IDS)
    linear = {
        "head_dim": 16,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e4,
            "partial_rotary_factor": 0.5,
            "mrope_section": [2, 1, 1],
            "mrope_interleaved": True,
        },
    }
    return Qwen3_5Config(text_config=_TEXT | linear, vision_config=tower | {"num_position_embeddings": 36}, **IDS)


def stock(family: str, seed: int = 0) -> PreTrainedModel:
    """A stock model of random weights, in evaluation mode."""
    torch.manual_seed(seed)
    return host.FAMILIES[family](config_of(family)).eval()


class PatchEncoder(nn.Module):
    """Features of layer i: a linear map of each patch's pixels, and of the mean over the whole scene."""

    num_layers, width, patch = 6, CHANNELS, PATCH

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.maps = nn.Parameter(torch.randn(self.num_layers, 3 * PATCH**2, CHANNELS, generator=generator) / PATCH)
        self.scene_share = 1.0
        self.num_calls = 0

    def encode(self, images: Tensor, layers: Sequence[int]) -> list[Tensor]:
        self.num_calls += 1
        patches = rearrange(images, "v d (r i) (c j) -> v r c (d i j)", i=PATCH, j=PATCH)
        scene = patches.mean((0, 1, 2)) * self.scene_share
        return [(patches + scene * (layer + 1)) @ self.maps[layer] for layer in layers]


def host_of(family: str, config: PathwayConfig, *, moved: bool = True, seed: int = 0) -> Host:
    """A host of random weights; moved: the pathway's are made large enough to be seen in every logit."""
    hosting = Host(stock(family, seed), config, PatchEncoder())
    if moved:
        move(hosting.pathway, seed + 1)
    return hosting


@torch.no_grad()
def move(pathway: nn.Module, seed: int = 1) -> None:
    """Random weights in place of start values, which give zeros."""
    generator = torch.Generator().manual_seed(seed)
    for x in pathway.parameters():
        x.copy_(torch.randn(x.shape, generator=generator) * 0.3)


Grid = tuple[int, int]


@dataclass(frozen=True)
class Prompts:
    """inputs: what a host's forward and generate take. grids: patches of every image, sample by sample."""

    inputs: dict[str, Any]
    grids: tuple[tuple[Grid, ...], ...]

    def without_geometry(self) -> dict[str, Any]:
        return {name: x for name, x in self.inputs.items() if name != "geometry_images"}


def prompts(family: str, *samples: Sequence[Grid], words: Sequence[int] = (), first: int = 0) -> Prompts:
    """Left-padded prompts with an image for every grid (rows, columns of patches), and a few words around them.

    words: how many words follow the images of each sample; default 3. first: number of the first sample; with it a sample
    is the same whatever stands beside it.
    """
    side = 16 if family == "qwen3_5" else 14
    ids: list[list[int]] = []
    pixels, images = [], []
    for i, sample in enumerate(samples, first):
        row = [5, 6]
        for j, (rows, columns) in enumerate(sample):
            generator = torch.Generator().manual_seed(100 * i + j)
            row += [90, *[92] * (rows * columns // 4), 91]
            pixels.append(torch.randn(rows * columns, 3 * 2 * side**2, generator=generator))
            images.append(torch.rand(3, rows * PATCH, columns * PATCH, generator=generator))
        ids.append(row + [10 + 3 * i + k for k in range(words[i - first] if words else 3)])
    length = max(map(len, ids))
    padded = torch.tensor([[82] * (length - len(row)) + row for row in ids])
    mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in ids])
    inputs = {"input_ids": padded, "attention_mask": mask, "mm_token_type_ids": (padded == 92).int()}
    if images:
        grids = [(1, *grid) for sample in samples for grid in sample]
        inputs |= {
            "pixel_values": torch.cat(pixels),
            "image_grid_thw": torch.tensor(grids),
            "geometry_images": images,
        }
    return Prompts(inputs, tuple(tuple(sample) for sample in samples))


VGGT = VggtConfig(token_width=16, depth=4, num_heads=2, dino_depth=1, dino_num_heads=2, image_size=56)


def small_vggt(config: VggtConfig = VGGT, seed: int = 3) -> Vggt:
    """A VGGT of random weights, in evaluation mode."""
    torch.manual_seed(seed)
    return Vggt(config).eval()
