"""The released G2VLM: its names and configuration files as tables, in both directions."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from g2vlm.config import G2VLMConfig, HeadsConfig, TokenIds
from g2vlm.convert.names import StateDict, Table, inverse, rename
from g2vlm.convert.tokens import tokens_of

CONFIG_FILES = {
    "text_config": "text_config.json",
    "vision_config": "vit_config.json",
    "dino_config": "dino_config.json",
}
WEIGHTS_FILE = "model.safetensors"

_LAYER = "language_model.model.layers.{i}."
_OURS = "decoder.layers.{i}."

_DECODER: Table = {
    "language_model.model.embed_tokens": "embed_tokens",
    "language_model.lm_head": "lm_head",
    "language_model.model.norm": "decoder.norm.semantic",
    "language_model.model.norm_moe_geo": "decoder.norm.geometric",
    _LAYER + "ls1.gamma": _OURS + "geometric.scale_attn.gamma",
    _LAYER + "ls2.gamma": _OURS + "geometric.scale_mlp.gamma",
}
_EXPERT: Table = {  # {} is the mark of the geometric expert, on the left side only
    "input_layernorm{}": "norm_attn",
    "self_attn.q_proj{}": "q",
    "self_attn.k_proj{}": "k",
    "self_attn.v_proj{}": "v",
    "self_attn.q_norm{}": "q_norm",
    "self_attn.k_norm{}": "k_norm",
    "self_attn.o_proj{}": "out",
    "post_attention_layernorm{}": "norm_mlp",
    "mlp{}.gate_proj": "mlp.gate",
    "mlp{}.up_proj": "mlp.up",
    "mlp{}.down_proj": "mlp.down",
}
VISION = (
    "patch_embed.proj",
    "blocks.{i}.norm1",
    "blocks.{i}.norm2",
    "blocks.{i}.attn.qkv",
    "blocks.{i}.attn.proj",
    "blocks.{i}.mlp.fc1",
    "blocks.{i}.mlp.fc2",
    "merger.ln_q",
    "merger.mlp.0",
    "merger.mlp.2",
)
"""The vision tower, which every layout spells alike."""

_HEAD_DECODER: Table = {
    "blocks.{i}.norm1": "blocks.{i}.norm_attn",
    "blocks.{i}.attn.qkv": "blocks.{i}.attn.qkv",
    "blocks.{i}.attn.proj": "blocks.{i}.attn.proj",
    "blocks.{i}.mlp.fc1": "blocks.{i}.mlp.fc1",
    "blocks.{i}.mlp.fc2": "blocks.{i}.mlp.fc2",
    "linear_out": "linear_out",
}
_WITHOUT_CONTEXT: Table = _HEAD_DECODER | {"blocks.{i}.norm2": "blocks.{i}.norm_mlp"}
_WITH_CONTEXT: Table = _HEAD_DECODER | {
    "blocks.{i}.norm2": "blocks.{i}.norm_cross",
    "blocks.{i}.norm_y": "blocks.{i}.norm_context",
    "blocks.{i}.cross_attn.q_proj": "blocks.{i}.cross.q",
    "blocks.{i}.cross_attn.k_proj": "blocks.{i}.cross.k",
    "blocks.{i}.cross_attn.v_proj": "blocks.{i}.cross.v",
    "blocks.{i}.cross_attn.proj": "blocks.{i}.cross.proj",
    "blocks.{i}.norm3": "blocks.{i}.norm_mlp",
}
_CAMERA: Table = {
    "res_conv.{i}.res_conv1": "residual.{i}.layers.0",
    "res_conv.{i}.res_conv2": "residual.{i}.layers.1",
    "res_conv.{i}.res_conv3": "residual.{i}.layers.2",
    "more_mlps.0": "after_pool.0",
    "more_mlps.2": "after_pool.1",
    "fc_t": "translation",
    "fc_rot": "rotation",
}


def _under(left: str, right: str, table: Table) -> Table:
    return {f"{left}.{old}": f"{right}.{new}" for old, new in table.items()}


NAMES: Table = {
    **_DECODER,
    **{_LAYER + old.format(""): _OURS + "semantic." + new for old, new in _EXPERT.items()},
    **{_LAYER + old.format("_moe_geo"): _OURS + "geometric." + new for old, new in _EXPERT.items()},
    **{f"vit_model.{stem}": f"vision.model.{stem}" for stem in VISION},
    "dino_model.*": "dino.model.*",  # both sides spell it as transformers' files do
    "dino2llm": "dino_projection",
    **_under("point_decoder", "heads.points.decoder", _WITHOUT_CONTEXT),
    "point_head.proj": "heads.points.proj",
    **_under("camera_decoder", "heads.camera.decoder", _WITHOUT_CONTEXT),
    **_under("camera_head", "heads.camera", _CAMERA),
    **_under("global_points_decoder", "heads.global_points.decoder", _WITH_CONTEXT),
    "global_point_head.proj": "heads.global_points.proj",
    **_under("conf_decoder", "heads.confidence.decoder", _WITHOUT_CONTEXT),
    "conf_head.proj": "heads.confidence.proj",
}
"""Released names and ours. Confidence exists in checkpoints trained with that option only."""

FAITHFUL: dict[str, Any] = {
    "semantic_qk_norm": True,
    "geometric_qk_norm": True,
    "picture_attention": "full",
    "visibility": "global",
    "view_context": "sequence",
    "view_positions": "sequential",
    "dino_windows": "reference",
    "picture_size": 768,
}
"""What the released code does whatever its configuration says: the released weights were trained with it."""

SECTIONS = [16, 24, 24]
"""Rotary frequencies per axis where the configuration names none; the released code fixes them."""

NO_IDS = {"bos_token_id": None, "eos_token_id": None}
"""Where the configuration has no ids: transformers' defaults belong to the public vocabulary, ours are in `tokens`."""

_IGNORED = ("qk_norm", "layer_module", "model_type", "architectures", "vision_config", "transformers_version")


def to_ours(weights: Mapping[str, Tensor]) -> StateDict:
    """Released weights by our names; ValueError lists every name that is not the released model's."""
    return rename(weights, NAMES, "the released G2VLM layout")


def from_ours(weights: Mapping[str, Tensor]) -> StateDict:
    """The inverse of `to_ours`; ValueError lists what the released layout has no place for (the normal head)."""
    return rename(weights, inverse(NAMES), "what the released G2VLM layout can hold")


def is_released(folder: Path) -> bool:
    return (folder / CONFIG_FILES["text_config"]).is_file()


def read_config(folder: Path, names: Collection[str], tokens: TokenIds | None = None) -> G2VLMConfig:
    """Configuration of a released checkpoint, with the released code's behaviour.

    names: those of its weights, which say what heads it has. tokens: for a vocabulary that is not the public one.
    """
    parts = {part: _read(folder / file) for part, file in CONFIG_FILES.items()}
    text = parts["text_config"]
    if "vocab_size" not in text:
        raise ValueError(f"{folder / CONFIG_FILES['text_config']}: no vocab_size; copy it again")
    tokens = tokens or tokens_of(folder, text["vocab_size"])
    scaling = text.pop("rope_scaling", None) or {}
    rope = {"rope_type": "default", "rope_theta": text.pop("rope_theta", 1e6)}
    rope["mrope_section"] = scaling.get("mrope_section", SECTIONS)
    parts["text_config"] = NO_IDS | {"rope_parameters": rope} | text | {"tie_word_embeddings": False}
    has_confidence, has_global = (
        any(name.startswith(head) for name in names) for head in ("conf_head.", "global_point_head.")
    )
    return G2VLMConfig(
        **parts,
        heads=HeadsConfig(global_points=has_global, confidence=has_confidence, normals=False),
        tokens=tokens,
        view_resize="first_view_width",
        resolution=518,
        **FAITHFUL,
    )


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path.parent}: no {path.name}; the released layout needs {', '.join(CONFIG_FILES.values())}")
    return {name: value for name, value in read_json(path).items() if name not in _IGNORED}


def read_json(path: Path) -> dict[str, Any]:
    """The fields of a configuration file; ValueError names the file when it is damaged."""
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON ({error}); copy it again") from error


def write_config(config: G2VLMConfig, folder: Path) -> None:
    """The three files of the released layout; ValueError names every option that the released code cannot follow."""
    fixed = HeadsConfig(global_points=config.heads.global_points, confidence=config.heads.confidence, normals=False)
    wrong = [
        f"{name}={getattr(config, name)!r} (is {value!r} there)"
        for name, value in FAITHFUL.items()
        if getattr(config, name) != value
    ]
    if config.heads != fixed:
        wrong.append(f"{config.heads} (is {fixed} there)")
    if wrong:
        raise ValueError(f"the released G2VLM code would compute something else: {'; '.join(wrong)}")
    for part, file in CONFIG_FILES.items():
        fields = getattr(config, part).to_dict()
        if part == "text_config":
            fields |= {
                "rope_theta": config.rope_thetas[0],
                "rope_scaling": {"type": "mrope", "mrope_section": list(config.mrope_section)},
                "tie_word_embeddings": False,
                "qk_norm": True,
                "layer_module": "Qwen2VLMoTDecoderLayer",
            }
        (folder / file).write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n")
