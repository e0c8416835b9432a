"""Stock Qwen2-VL: its vision tower, embeddings and decoder become the semantic side of a G2VLM."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor
from transformers.models.dinov2_with_registers import Dinov2WithRegistersConfig
from transformers.models.qwen2_vl import Qwen2VLConfig
from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLTextConfig, Qwen2VLVisionConfig

from g2vlm.config import G2VLMConfig, TokenIds
from g2vlm.convert.names import StateDict, Table, rename
from g2vlm.convert.official import VISION, read_json
from g2vlm.convert.tokens import tokens_of

DINO = "facebook/dinov2-with-registers-large"
"""The geometric encoder of the published model."""

Start = Literal["fresh", "copied"]
"""How the geometric expert begins: from random values, or as a copy of the semantic one."""

_TEXT: Table = {
    "embed_tokens": "embed_tokens",
    "norm": "decoder.norm.semantic",
    "layers.{i}.input_layernorm": "decoder.layers.{i}.semantic.norm_attn",
    "layers.{i}.self_attn.q_proj": "decoder.layers.{i}.semantic.q",
    "layers.{i}.self_attn.k_proj": "decoder.layers.{i}.semantic.k",
    "layers.{i}.self_attn.v_proj": "decoder.layers.{i}.semantic.v",
    "layers.{i}.self_attn.o_proj": "decoder.layers.{i}.semantic.out",
    "layers.{i}.post_attention_layernorm": "decoder.layers.{i}.semantic.norm_mlp",
    "layers.{i}.mlp.gate_proj": "decoder.layers.{i}.semantic.mlp.gate",
    "layers.{i}.mlp.up_proj": "decoder.layers.{i}.semantic.mlp.up",
    "layers.{i}.mlp.down_proj": "decoder.layers.{i}.semantic.mlp.down",
}
_VISION: Table = {stem: f"vision.model.{stem}" for stem in VISION}

NAMES: Table = {
    "lm_head": "lm_head",
    **{f"{prefix}.{old}": new for prefix in ("visual", "model.visual") for old, new in _VISION.items()},
    **{f"{prefix}.{old}": new for prefix in ("model", "model.language_model") for old, new in _TEXT.items()},
}
"""Names on the hub (`visual`, `model`) or of transformers' modules (`model.visual`, `model.language_model`) -> ours."""


def dino_config_of(folder: Path, weights: Mapping[str, Tensor]) -> Dinov2WithRegistersConfig:
    """Shape of a DINOv2 with registers, from transformers' config.json or else (timm, facebook) from its weights.

    weights: by the names of transformers' files.
    """
    path = folder / "config.json"
    if path.is_file() and (fields := read_json(path)).get("model_type") == Dinov2WithRegistersConfig.model_type:
        return Dinov2WithRegistersConfig.from_dict(fields)
    if "embeddings.register_tokens" not in weights:
        raise ValueError(f"{folder}: a DINOv2 without registers; use one with them, such as {DINO}")
    registers, width = weights["embeddings.register_tokens"].shape[1:]
    patch = weights["embeddings.patch_embeddings.projection.weight"].shape[-1]
    side = round((weights["embeddings.position_embeddings"].shape[1] - 1) ** 0.5)
    return Dinov2WithRegistersConfig(
        hidden_size=width,
        num_hidden_layers=sum(name.endswith(".norm1.weight") for name in weights),
        num_attention_heads=width // 64,  # in all published sizes
        image_size=side * patch,
        patch_size=patch,
        num_register_tokens=registers,
        use_swiglu_ffn="encoder.layer.0.mlp.weights_in.weight" in weights,
    )


def read_config(
    qwen: dict[str, Any],
    dino: Dinov2WithRegistersConfig,
    folder: Path,
    tokens: TokenIds | None = None,
    **options: Any,
) -> G2VLMConfig:
    """A configuration that leaves the semantic side exactly as Qwen2-VL has it; the geometric side is new.

    qwen: its config.json. folder: where its tokenizer files lie. options: further fields of G2VLMConfig.
    """
    stock = Qwen2VLConfig.from_dict(qwen)
    text, vision = cast(Qwen2VLTextConfig, stock.get_text_config()), cast(Qwen2VLVisionConfig, stock.vision_config)
    return G2VLMConfig(
        text,
        vision,
        dino,
        tokens=tokens or tokens_of(folder, text.vocab_size),
        tie_word_embeddings=bool(qwen.get("tie_word_embeddings", False)),
        **({"semantic_qk_norm": False, "picture_attention": "causal"} | options),
    )


def to_ours(weights: Mapping[str, Tensor], *, geometric: Start, tied: bool) -> StateDict:
    """Qwen2-VL's weights by our names; with `copied`, the geometric expert's too.

    tied: an output head that repeats the embedding is left out; ValueError if it is another.
    """
    ours = rename(weights, NAMES, "a stock Qwen2-VL")
    if tied and "lm_head.weight" in ours and not torch.equal(ours.pop("lm_head.weight"), ours["embed_tokens.weight"]):
        raise ValueError(
            "config.json ties lm_head to the embedding, but the weights hold two different ones; "
            "set tie_word_embeddings to false"
        )
    if geometric == "copied":
        ours |= {name.replace("semantic", "geometric"): x.clone() for name, x in ours.items() if ".semantic." in name}
    return ours
