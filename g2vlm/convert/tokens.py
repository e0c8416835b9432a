"""Ids of the special tokens, from the tokenizer files of a foreign checkpoint."""

import logging
from pathlib import Path

from g2vlm.config import TokenIds

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "chat_template.json",
    "chat_template.jinja",
    "preprocessor_config.json",
    "generation_config.json",
)
"""What travels with the weights when a checkpoint is converted."""

PUBLIC_VOCABULARY = 151936
"""Rows of the embedding of the public 2B model; with them the default `TokenIds` hold."""

SPELLINGS = {
    "bos": "<|im_start|>",
    "eos": "<|im_end|>",
    "vision_start": "<|vision_start|>",
    "vision_end": "<|vision_end|>",
    "view_patch": "<|vision_pad|>",
    "image_patch": "<|image_pad|>",
    "newline": "Ċ",
    "pad": "<|endoftext|>",
}
"""Each special token as Qwen2-VL's tokenizer writes it (a newline is Ċ in byte-level BPE)."""


UNKNOWN = TokenIds(bos=-1, eos=-2, vision_start=-3, vision_end=-4, view_patch=-5, image_patch=-6, newline=-7, pad=0)
"""Ids that no vocabulary has (padding apart, which nothing sees): enough to convert weights, not to prompt."""

log = logging.getLogger("g2vlm")


def tokens_of(folder: Path, vocab_size: int) -> TokenIds:
    """Ids read from `tokenizer.json`; without it those of the public vocabulary, or `UNKNOWN` with a warning."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        if vocab_size == PUBLIC_VOCABULARY:
            return TokenIds()
        log.warning(
            "%s: no tokenizer.json, and a vocabulary of %d is not the public one of %d: special tokens stay unknown; "
            "add the file, or pass tokens=TokenIds(...)",
            folder,
            vocab_size,
            PUBLIC_VOCABULARY,
        )
        return UNKNOWN
    from tokenizers import Tokenizer  # only needed here

    tokenizer = Tokenizer.from_file(str(path))
    ids = {name: tokenizer.token_to_id(spelling) for name, spelling in SPELLINGS.items()}
    if missing := [SPELLINGS[name] for name, id in ids.items() if id is None]:
        raise ValueError(
            f"{path}: no token {', '.join(missing)}; it is not a Qwen2-VL tokenizer: pass tokens=TokenIds(...)"
        )
    return TokenIds(**{name: id for name, id in ids.items() if id is not None})
