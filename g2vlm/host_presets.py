"""Hosts by name: a language model, the pathway that geometry takes into it, and the frozen encoder that it reads."""

from dataclasses import dataclass, replace
from typing import Any

from transformers import PreTrainedConfig, Qwen2_5_VLConfig

from g2vlm import presets
from g2vlm.encoders.vggt import VGGT_1B, VggtConfig
from g2vlm.pathway_config import GeoAlign, PathwayConfig, PreDecoder, SpatialStack


@dataclass(frozen=True)
class HostPreset:
    """Configurations of all parts; model: of a stock Qwen-VL or of a G2VLM."""

    model: PreTrainedConfig
    pathway: PathwayConfig
    encoder: VggtConfig


TINY_VGGT = VggtConfig(
    token_width=64, depth=6, num_heads=2, dino_depth=2, dino_num_heads=2, mlp_ratio=2, image_size=112
)  # fmt: skip
"""VGGT in miniature: 112-pixel views of 8 x 8 patches."""

_TINY_SIZES: dict[str, Any] = {"geometry_width": 2 * TINY_VGGT.token_width, "hidden_width": 256}


def geoalign_4b() -> HostPreset:
    """The size of GeoAlign's paper: Qwen2.5-VL-3B, the latter half of VGGT-1B, two layers for each token."""
    text = {
        "vocab_size": 151936,
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128000,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0, "mrope_section": [16, 24, 24]},
    }
    vision = {
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "out_hidden_size": 2048,
        "window_size": 112,
        "fullatt_block_indexes": [7, 15, 23, 31],
        "tokens_per_second": 2,
    }
    model = Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True)
    return HostPreset(model, GeoAlign(), VGGT_1B)


def tiny_geo_align() -> HostPreset:
    """GeoAlign in miniature: two of the last three layers for each token."""
    pathway = GeoAlign(encoder_layers=(3, 4, 5), router_width=48, **_TINY_SIZES)
    return HostPreset(presets.tiny(), pathway, TINY_VGGT)


def tiny_spatial_stack() -> HostPreset:
    """SpatialStack in miniature: layers 1, 3, 5 behind decoder layers 0, 1, 2."""
    return replace(tiny_geo_align(), pathway=SpatialStack((0, 1, 2), (1, 3, 5), **_TINY_SIZES))


def tiny_vgllm() -> HostPreset:
    """VG-LLM in miniature: the last layer but one, before the decoder."""
    return replace(tiny_geo_align(), pathway=PreDecoder((4,), norm="rms", **_TINY_SIZES))
