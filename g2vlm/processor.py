"""Words and pictures as token ids: prompts, markers, and placeholders that encoders fill later."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from g2vlm.config import TokenIds
from g2vlm.layout import Grid

RECONSTRUCTION_PROMPT = "Reconstruct the 3D scene."
"""What stands before the views when only geometry is wanted, in the released model as in ours."""

SYSTEM_PROMPT = "You are a helpful assistant."
"""What every conversation begins with, in the released model as in ours."""


@dataclass(frozen=True)
class Processor:
    """A tokenizer and the ids with a meaning of their own."""

    tokenizer: PreTrainedTokenizerBase
    tokens: TokenIds

    def reconstruction_ids(self, grids: Sequence[Grid]) -> Int[Tensor, "1 tokens"]:
        """Ids that ask for the geometry of views with these patch grids: the prompt, then one block of views."""
        ids = [self.tokens.bos, *self.words(RECONSTRUCTION_PROMPT)]
        for grid in grids:
            ids += self._placeholders(self.tokens.view_patch, grid)
        return torch.tensor([ids])

    def question_ids(
        self, question: str, *, view_grids: Sequence[Grid] = (), picture_grids: Sequence[Grid] = ()
    ) -> Int[Tensor, " tokens"]:
        """Ids of a conversation up to where the answer begins: one block of views, then pictures, then the question.

        view_grids: patches of each view. picture_grids: tokens of each picture, after the vision tower's 2 x 2 merge.
        """
        t = self.tokens
        ids = [t.bos, *self.words(f"system\n{SYSTEM_PROMPT}"), t.eos, t.newline, t.bos, *self.words("user\n")]
        for grid in view_grids:
            ids += self._placeholders(t.view_patch, grid)
        for grid in picture_grids:
            ids += self._placeholders(t.image_patch, grid)
        ids += [*self.words(question), t.eos, t.newline, t.bos, *self.words("assistant"), t.newline]
        return torch.tensor(ids)

    def answer_ids(self, answer: str) -> Int[Tensor, " tokens"]:
        """Ids of an answer and the token that ends it."""
        return torch.tensor([*self.words(answer), self.tokens.eos])

    def words(self, text: str) -> list[int]:
        """Ids of text; a special token that somebody typed into it stays ordinary characters."""
        return self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)

    def _placeholders(self, patch: int, grid: Grid) -> list[int]:
        return [self.tokens.vision_start, *[patch] * (grid[0] * grid[1]), self.tokens.vision_end]


def byte_tokenizer(tokens: TokenIds) -> PreTrainedTokenizerBase:
    """A tokenizer without merges: the 256 bytes in order, then the special ids; for models trained from nothing."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {symbol: byte for byte, symbol in enumerate(_byte_symbols())}
    special = {
        "<|im_start|>": tokens.bos,
        "<|im_end|>": tokens.eos,
        "<|vision_start|>": tokens.vision_start,
        "<|vision_end|>": tokens.vision_end,
        "<|vision_pad|>": tokens.view_patch,
        "<|image_pad|>": tokens.image_patch,
        "<|endoftext|>": tokens.pad,
    }
    backend = Tokenizer(models.BPE(vocab=vocabulary | special, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>"],
        padding_side="left",
    )


def _byte_symbols() -> list[str]:
    """The printable character that byte-level BPE writes for each byte value, in byte order."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    symbol = {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    return [symbol[byte] for byte in range(256)]
