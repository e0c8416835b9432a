"""What a question is, and how its words, options and numbers are written."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase

from g2vlm.records import Box, Mark

LETTERS = "ABCD"

ANSWERED_BY_LETTER = frozenset(["object_rel_distance", "obj_appearance_order", "object_in_frame"])
"""Choices whose options are different things in every question: their words would have to be copied, and teach nothing."""


@dataclass(frozen=True)
class Question:
    """A question about the views of one scene, with its answer.

    A question with options is a choice: `text` ends with them (" A. left B. right") and `answer` is the letter of the
    right one. Without options, `answer` is a number as text, in `unit` (empty for counts). `text` refers to marks and
    boxes by name and does not say where they are: `words_of_marks` does. between: two views whose motion is asked for.
    """

    kind: str
    text: str
    answer: str
    options: tuple[str, ...] = ()
    marks: tuple[Mark, ...] = ()
    boxes: tuple[Box, ...] = ()
    unit: str = ""
    between: tuple[int, int] | None = None

    @property
    def right(self) -> str:
        """The answer in words: those of the right option, or the number."""
        return self.options[LETTERS.index(self.answer)] if self.options else self.answer

    @property
    def lesson(self) -> str:
        """What is learnt to be said: the answer in words, or the letter of an option that is the name of a thing."""
        return self.answer if self.kind in ANSWERED_BY_LETTER else self.right


def choice(
    draw: random.Random, kind: str, sentence: str, right: str, wrong: Sequence[str], *, marks: Sequence[Mark] = ()
) -> Question:
    """A question whose options stand in random order."""
    options = draw.sample([right, *wrong], 1 + len(wrong))
    return Question(kind, with_options(sentence, options), LETTERS[options.index(right)], tuple(options), tuple(marks))


def choice_of_marks(kind: str, sentence: str, right: str, names: Sequence[str], marks: Sequence[Mark]) -> Question:
    """A question whose options are marks: the letter of an option is the name of its mark."""
    return Question(kind, with_options(sentence, names), right, tuple(names), tuple(marks))


def with_options(sentence: str, options: Sequence[str]) -> str:
    return " ".join(
        [sentence, *(f"{letter}. {option}" for letter, option in zip(ascii_uppercase, options, strict=False))]
    )


def metres(value: float) -> str:
    return f"{value:.1f}"


def log_uniform(draw: random.Random, least: float, most: float) -> float:
    return least * (most / least) ** draw.random()
