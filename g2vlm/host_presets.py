"""Hosts by name: a model, its pathway and the encoder it reads; each says only what differs from their defaults."""

from dataclasses import asdict, dataclass
from typing import Any

from transformers import PreTrainedConfig, Qwen2_5_VLConfig, Qwen3_5Config

from g2vlm import presets
from g2vlm.config import G2VLMConfig
from g2vlm.encoders.vggt import VGGT_1B, Vggt, VggtConfig
from g2vlm.host import FAMILIES, Host
from g2vlm.model import G2VLM
from g2vlm.pathway_config import GeoAlign, PathwayConfig, PreDecoder, SpatialStack, to_fields


@dataclass(frozen=True)
class HostConfig:
    """All that a host is built from; model: of a stock Qwen-VL or of a G2VLM."""

    model: PreTrainedConfig
    pathway: PathwayConfig
    encoder: VggtConfig

    def to_fields(self) -> dict[str, Any]:
        """The whole configuration as JSON holds it."""
        return {"model": self.model.to_dict(), "pathway": to_fields(self.pathway), "encoder": asdict(self.encoder)}


def build(config: HostConfig) -> Host:
    """A host with start values."""
    model = (
        G2VLM(config.model)
        if isinstance(config.model, G2VLMConfig)
        else FAMILIES[config.model.model_type](config.model)
    )
    return Host(model, config.pathway, Vggt(config.encoder))


def spatialstack_qwen35_4b(pathway: PathwayConfig | None = None) -> HostConfig:
    """SpatialStack on Qwen3.5-4B. The add-on is as its code writes it; the host's sizes are those that pages about
    Qwen3.5-4B list, not read from its configuration. pathway: another one on the same host.
    """
    text = {
        "hidden_size": 2560,
        "intermediate_size": 9216,
        "num_hidden_layers": 32,
        "tie_word_embeddings": True,
        "max_position_embeddings": 262144,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10_000_000.0,
            "partial_rotary_factor": 0.25,
            "mrope_section": [11, 11, 10],
            "mrope_interleaved": True,
        },
    }
    vision = {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "out_hidden_size": 2560}
    model = Qwen3_5Config(text_config=text, vision_config=vision, tie_word_embeddings=True)
    return HostConfig(model, pathway or SpatialStack(), VGGT_1B)


def spatialstack_qwen25_4b(pathway: PathwayConfig | None = None) -> HostConfig:
    """SpatialStack on Qwen2.5-VL-3B, whose public sizes these are; mergers of that time have an RMSNorm.

    That the released checkpoint names the same layers as the one on Qwen3.5 is inferred from the code's defaults.
    """
    return HostConfig(_qwen25_vl_3b(), pathway or SpatialStack(norm="rms"), VGGT_1B)


def vgllm_4b() -> HostConfig:
    """VG-LLM on Qwen2.5-VL-3B: layer 22 of VGGT, added before the decoder; sizes as its code has them."""
    return spatialstack_qwen25_4b(PreDecoder(norm="rms"))


def geoalign_4b() -> HostConfig:
    """The size of GeoAlign's paper: Qwen2.5-VL-3B, the latter half of VGGT-1B, two layers for each token."""
    return spatialstack_qwen25_4b(GeoAlign())


def spatialstack_qwen35_tiny(pathway: PathwayConfig | None = None) -> HostConfig:
    """SpatialStack on Qwen3.5 in miniature; words by the ids of `presets.tiny`."""
    text = {
        **_TINY_TEXT,
        "head_dim": 32,
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
        "linear_num_key_heads": 4,
        "linear_num_value_heads": 8,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 500.0,
            "partial_rotary_factor": 0.5,
            "mrope_section": [2, 3, 3],
            "mrope_interleaved": True,
        },
    }
    vision = _TINY_TOWER | {"num_position_embeddings": 64}
    model = Qwen3_5Config(text_config=text, vision_config=vision, tie_word_embeddings=True, **_TINY_IDS)
    return HostConfig(model, pathway or _tiny_stack(), _TINY_VGGT)


def spatialstack_qwen25_tiny(pathway: PathwayConfig | None = None) -> HostConfig:
    """SpatialStack on Qwen2.5-VL in miniature; words by the ids of `presets.tiny`."""
    rope = {"rope_type": "default", "rope_theta": 500.0, "mrope_section": [4, 6, 6]}
    vision = _TINY_TOWER | {"window_size": 56, "fullatt_block_indexes": [1]}
    text = {**_TINY_TEXT, "rope_parameters": rope}
    model = Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **_TINY_IDS)
    return HostConfig(model, pathway or _tiny_stack(norm="rms"), _TINY_VGGT)


def vgllm_tiny() -> HostConfig:
    """VG-LLM in miniature: the last layer but one of a small VGGT."""
    return spatialstack_qwen25_tiny(PreDecoder((_TINY_VGGT.depth - 2,), norm="rms", **_TINY_SIZES))


def geoalign_tiny() -> HostConfig:
    """GeoAlign in miniature: two of the last three layers of a small VGGT for each token."""
    return spatialstack_qwen25_tiny(GeoAlign(encoder_layers=(3, 4, 5), router_width=48, **_TINY_SIZES))


def native_tiny(pathway: PathwayConfig | None = None) -> HostConfig:
    """The small G2VLM as host, whose pictures take what its own geometric expert would otherwise give; SpatialStack unless told."""
    return HostConfig(presets.tiny(), pathway or _tiny_stack(), _TINY_VGGT)


def _qwen25_vl_3b() -> Qwen2_5_VLConfig:
    text = {
        "vocab_size": 151936,
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 128000,
        "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0, "mrope_section": [16, 24, 24]},
    }
    vision = {"hidden_size": 1280, "out_hidden_size": 2048, "tokens_per_second": 2}
    return Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True)


_TINY_VGGT = VggtConfig(token_width=96, depth=6, num_heads=6, dino_depth=2, dino_num_heads=6, image_size=112)
_TINY_SIZES: dict[str, Any] = {"geometry_width": 2 * _TINY_VGGT.token_width, "hidden_width": 256}
_TINY_IDS: dict[str, Any] = {
    "image_token_id": 261,
    "video_token_id": 263,
    "vision_start_token_id": 258,
    "vision_end_token_id": 259,
}
_TINY_TOWER = {"depth": 2, "hidden_size": 128, "intermediate_size": 256, "num_heads": 4, "out_hidden_size": 192}
_TINY_TEXT: dict[str, Any] = {
    "vocab_size": 2048,
    "hidden_size": 192,
    "intermediate_size": 384,
    "num_hidden_layers": 8,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 8192,
    "initializer_range": 0.05,
    "tie_word_embeddings": True,
    "bos_token_id": 256,
    "eos_token_id": 257,
    "pad_token_id": 262,
}


def _tiny_stack(**options: Any) -> SpatialStack:
    return SpatialStack(encoder_layers=(1, 3, 5), **_TINY_SIZES, **options)


PRESETS = {
    preset.__name__: preset
    for preset in (
        spatialstack_qwen35_4b,
        spatialstack_qwen25_4b,
        vgllm_4b,
        geoalign_4b,
        spatialstack_qwen35_tiny,
        spatialstack_qwen25_tiny,
        vgllm_tiny,
        geoalign_tiny,
        native_tiny,
    )
}
