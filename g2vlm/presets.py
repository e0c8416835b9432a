"""Configurations by name; each says only what differs from the defaults of its parts."""

from typing import Any

from transformers.models.dinov2_with_registers import Dinov2WithRegistersConfig
from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLTextConfig, Qwen2VLVisionConfig

from g2vlm.config import G2VLMConfig, HeadsConfig, TokenIds


def tiny(**options: Any) -> G2VLMConfig:
    """G2VLM in miniature, every part present: 112-pixel views, a small byte-level vocabulary, a few million parameters."""
    tokens = TokenIds(
        bos=256, eos=257, vision_start=258, vision_end=259, view_patch=260, image_patch=261, newline=10, pad=262
    )
    text = Qwen2VLTextConfig(
        vocab_size=2048,
        hidden_size=192,
        intermediate_size=384,
        num_hidden_layers=8,
        num_attention_heads=6,
        num_key_value_heads=3,
        rms_norm_eps=1e-6,
        max_position_embeddings=8192,
        initializer_range=0.05,
        rope_parameters={"rope_type": "default", "rope_theta": 500.0, "mrope_section": [4, 6, 6]},
        bos_token_id=tokens.bos,
        eos_token_id=tokens.eos,
    )
    vision = Qwen2VLVisionConfig(depth=2, embed_dim=128, hidden_size=192, num_heads=4)
    dino = Dinov2WithRegistersConfig(
        hidden_size=192,
        num_hidden_layers=4,
        num_attention_heads=3,
        image_size=112,
        patch_size=14,
        layerscale_value=0.1,
        initializer_range=0.05,
    )
    heads = HeadsConfig(depth=1, num_heads=4, mlp_ratio=2, point_width=256, camera_width=192)
    defaults = {
        "visibility": "mixed",
        "resolution": 112,
        "layer_scale_init": 0.1,
        "tie_word_embeddings": True,
        # Views are 8 patches wide: with the theta of a language model the rotation along a row could not be seen. With this one
        # words could not be found again: beyond ten tokens every frequency has turned by a radian and more.
        "geometric_rope_theta": 10.0,
    }
    return G2VLMConfig(text, vision, dino, heads, tokens, **(defaults | options))


def g2vlm_2b(**options: Any) -> G2VLMConfig:
    """The published size: Qwen2-VL-2B beside a geometric expert of the same shape, fed by DINOv2-L with registers."""
    text = Qwen2VLTextConfig(
        vocab_size=151936,
        hidden_size=1536,
        intermediate_size=8960,
        num_hidden_layers=28,
        num_attention_heads=12,
        num_key_value_heads=2,
        rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0, "mrope_section": [16, 24, 24]},
    )
    vision = Qwen2VLVisionConfig(hidden_size=1536)
    dino = Dinov2WithRegistersConfig(
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=518,
        patch_size=14,
        layerscale_value=1.0,
    )
    return G2VLMConfig(text, vision, dino, **options)
