"""Words and pictures as token ids: prompts, markers, and placeholders that encoders fill later."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from g2vlm.config import TokenIds
from g2vlm.conversation import Turn
from g2vlm.layout import Grid
from g2vlm.prompts import RECONSTRUCTION_PROMPT, SYSTEM_PROMPT


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
        """Ids of a conversation up to where the answer begins: one block of views, then pictures, then the question."""
        return torch.cat([self.context_ids(view_grids, picture_grids), self.asking_ids(question)])

    def context_ids(
        self, view_grids: Sequence[Grid] = (), picture_grids: Sequence[Grid] = ()
    ) -> Int[Tensor, " tokens"]:
        """Ids of what all questions about the same views begin with: the system's turn, views and pictures.

        view_grids: patches of each view. picture_grids: tokens of each picture, after the vision tower's 2 x 2 merge.
        """
        t = self.tokens
        ids = [t.bos, *self.words(f"system\n{SYSTEM_PROMPT}"), t.eos, t.newline, t.bos, *self.words("user\n")]
        for grid in view_grids:
            ids += self._placeholders(t.view_patch, grid)
        for grid in picture_grids:
            ids += self._placeholders(t.image_patch, grid)
        return torch.tensor(ids)

    def conversation_ids(
        self, turns: Sequence[Turn], *, view_grids: Sequence[Grid] = (), picture_grids: Sequence[Grid] = ()
    ) -> Int[Tensor, " tokens"]:
        """Ids of several turns up to where the answer begins; of one turn of pictures and a question, `question_ids`.

        All views form one block, at the start of the first turn that has pictures; pictures stand where their turn puts them.
        Without `picture_grids`, photos are seen as views alone.
        """
        t = self.tokens
        turns = turns if turns[0].role == "system" else (Turn("system", (SYSTEM_PROMPT,)), *turns)
        views = [id for grid in view_grids for id in self._placeholders(t.view_patch, grid)]
        ids: list[int] = []
        for turn in turns:
            ids += [t.bos, *self._opening(turn)]
            if turn.has_photos:
                ids += views
                views = []
            ids += [*self._body(turn, picture_grids), t.eos, t.newline]
        return torch.tensor([*ids, t.bos, *self.words("assistant"), t.newline])

    def _opening(self, turn: Turn) -> list[int]:
        """Who speaks; the system's words are one text with its name, for so they were learnt."""
        if turn.role == "system":
            return self.words("".join(["system\n", *(part for part in turn.parts if isinstance(part, str))]))
        return self.words("user\n") if turn.role == "user" else [*self.words("assistant"), self.tokens.newline]

    def _body(self, turn: Turn, picture_grids: Sequence[Grid]) -> list[int]:
        ids: list[int] = []
        for part in () if turn.role == "system" else turn.parts:
            if isinstance(part, str):
                ids += self.words(part)
            elif picture_grids:
                ids += self._placeholders(self.tokens.image_patch, picture_grids[part])
        return ids

    def asking_ids(self, question: str) -> Int[Tensor, " tokens"]:
        """Ids of a question and of all that stands between it and its answer."""
        t = self.tokens
        return torch.tensor([*self.words(question), t.eos, t.newline, t.bos, *self.words("assistant"), t.newline])

    def answer_ids(self, answer: str) -> Int[Tensor, " tokens"]:
        """Ids of an answer and the token that ends it."""
        return torch.tensor([*self.words(answer), self.tokens.eos])

    def words(self, text: str) -> list[int]:
        """Ids of text; a special token that somebody typed into it stays ordinary characters.

        Raises ValueError for halves of characters, which stand in Python's text for bytes that are no UTF-8.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            place = text[max(error.start - 10, 0) : error.end]
            raise ValueError(f"{place!r} ends with what is no character; write the text in UTF-8") from error
        return self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)

    def _placeholders(self, patch: int, grid: Grid) -> list[int]:
        return [self.tokens.vision_start, *[patch] * (grid[0] * grid[1]), self.tokens.vision_end]


WORDS = r" ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s"
"""What merges never cross: a word, a single digit or a run of signs, each with the space before it."""


def word_splitter() -> pre_tokenizers.PreTokenizer:
    """Text in `WORDS`, in the symbols of byte-level BPE."""
    split = pre_tokenizers.Split(Regex(WORDS), behavior="isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def byte_tokenizer(tokens: TokenIds, merges: Sequence[tuple[str, str]] = ()) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer for models trained from nothing: the 256 bytes in order, the special ids, then what is merged.

    merges: pairs in order of rank, in the symbols of byte-level BPE; none leaves every byte a token.
    """
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
    vocabulary |= special
    first = max(vocabulary.values()) + 1
    vocabulary |= {"".join(pair): first + rank for rank, pair in enumerate(merges)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges)))
    backend.pre_tokenizer = word_splitter()
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
