"""Hosts in miniature that read and write words: a stock model for bytes, its tokenizer, template and picture settings."""

from pathlib import Path

import torch
from hosts import VGGT, config_of, move, small_vggt
from transformers import PreTrainedTokenizerBase, Qwen2VLImageProcessorPil

from g2vlm import host, presets
from g2vlm.host import Host
from g2vlm.host_hub import save_host
from g2vlm.pathway_config import NoPathway, PathwayConfig, SpatialStack
from g2vlm.processor import byte_tokenizer

TOKENS = presets.tiny().tokens
SIZES = {"geometry_width": 2 * VGGT.token_width, "hidden_width": 12}
STACK = SpatialStack((0, 2), (1, 3), **SIZES)

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.content is string %}{{ m.content }}{% else %}{% for part in m.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}{{ '<|im_start|>assistant\\n' }}"
)
THINKING = TEMPLATE + "{% if enable_thinking %}<think>\n{% else %}<think>\n\n</think>\n\n{% endif %}"


def reading_host(family: str, pathway: PathwayConfig = STACK, seed: int = 0) -> Host:
    """A stock model of random weights whose words are bytes, with a pathway that is seen in every logit."""
    config = config_of(family)
    config.text_config.vocab_size = 300
    config.text_config.max_position_embeddings = 4096
    config.text_config.bos_token_id, config.text_config.eos_token_id = TOKENS.bos, TOKENS.eos
    config.text_config.pad_token_id = TOKENS.pad
    config.vision_start_token_id, config.vision_end_token_id = TOKENS.vision_start, TOKENS.vision_end
    config.image_token_id, config.video_token_id = TOKENS.image_patch, 290
    torch.manual_seed(seed)
    encoder = None if isinstance(pathway, NoPathway) else small_vggt()
    made = Host(host.FAMILIES[family](config).eval(), pathway, encoder)
    move(made.pathway)
    return made.eval()


def tokenizer_of(family: str) -> PreTrainedTokenizerBase:
    tokenizer = byte_tokenizer(TOKENS)
    tokenizer.chat_template = THINKING if family == "qwen3_5" else TEMPLATE
    return tokenizer


def pictures_of(family: str) -> Qwen2VLImageProcessorPil:
    return Qwen2VLImageProcessorPil(patch_size=16 if family == "qwen3_5" else 14)


def saved(family: str, folder: Path, pathway: PathwayConfig = STACK) -> Host:
    """A host whose folder answers."""
    made = reading_host(family, pathway)
    files = {"tokenizer": tokenizer_of(family), "image_processor": pictures_of(family)}
    save_host(made, folder, **files, with_encoder=made.encoder is not None)
    return made
