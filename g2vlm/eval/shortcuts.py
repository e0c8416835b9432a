"""Answers that look at nothing: what a benchmark gives away to whoever knows its other answers, or has learnt its questions.

Both are systems like any other, so that they are logged, reported and compared as models are.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from g2vlm.eval.benchmarks.base import CORRECTED, Benchmark, Item, QuestionItem
from g2vlm.eval.protocol import About

MOST_TRIED = 48
"""Constants that are tried for a kind, at most: the commonest, and quantiles of numbers."""


class Majority:
    """The best that always says the same: for each kind of question one answer, chosen with the truth at hand.

    Tried are truths of the kind: the commonest, and where they are numbers, quantiles of them.
    """

    def __init__(self, benchmark: Benchmark[Any], items: Sequence[QuestionItem], rule: str = CORRECTED) -> None:
        self.about = About("majority", "majority")
        kinds: dict[str, list[QuestionItem]] = defaultdict(list)
        for item in items:
            kinds[item.kind].append(item)
        self.answers = {kind: _best(benchmark, asked, rule) for kind, asked in kinds.items()}

    def answer(self, item: QuestionItem) -> str:
        return self.answers[item.kind]


def _best(benchmark: Benchmark[Any], items: Sequence[QuestionItem], rule: str) -> str:
    """Of several that are equally good the one that is commoner as a truth."""
    truths = [text for item in items for text in truths_of(item)]
    common = [text for text, _ in Counter(truths).most_common(MOST_TRIED)]
    tried = dict.fromkeys([*common, *_quantiles(truths)])
    return max(tried, key=lambda text: sum(benchmark.score(item, text, rule).scores.get("score", 0) for item in items))


class Prior:
    """What is usual: the middle of the true answers to the same question, or else to the same kind of question, about other pictures.

    "The same question" has the same words, but for case, punctuation and numbers: how large a chair is is asked in every scene, so
    typical sizes are known without looking. The middle of numbers is their median; of all else, the commonest. Questions about the same
    pictures, and the question itself, are never looked up.
    """

    def __init__(self, benchmark: Benchmark[Any], items: Sequence[QuestionItem]) -> None:
        self.about = About("prior", "usual answers")
        self.by_words, self.by_kind = defaultdict(list), defaultdict(list)
        for item in items:
            self.by_words[item.kind, normalised(item.prompt)].append(item)
            self.by_kind[item.kind].append(item)

    def answer(self, item: QuestionItem) -> str:
        alike = self.by_words[item.kind, normalised(item.prompt)]
        for known in (alike, self.by_kind[item.kind]):
            if others := [text for other in known if other.media != item.media for text in truths_of(other)]:
                return middle(others)
        raise ValueError("no other pictures are asked about in this way, so nothing is usual")


def questions_of(benchmark: Benchmark[Any], items: Sequence[Item]) -> list[QuestionItem]:
    """ValueError for a benchmark of something else."""
    if other := [item for item in items if not isinstance(item, QuestionItem)]:
        raise ValueError(f"{benchmark.name} asks no questions ({other[0].id}), so there is no shortcut to its answers")
    return [item for item in items if isinstance(item, QuestionItem)]


def truths_of(item: QuestionItem) -> list[str]:
    """Published answers that count as right; ValueError where the row has none under a known name."""
    answer = item.published_answer
    if answer is None:
        raise ValueError(
            f"{item.id} has no answer among {', '.join(item.row)}, which these checks need; score a model instead"
        )
    return [str(text) for text in answer] if isinstance(answer, list | tuple) else [str(answer)]


def middle(texts: Sequence[str]) -> str:
    """The median where all are numbers (of an even count, the lower of the two), the commonest otherwise."""
    numbers = _numbers(texts)
    if numbers is None:
        return Counter(texts).most_common(1)[0][0]
    return f"{sorted(numbers)[(len(numbers) - 1) // 2]:g}"


def normalised(text: str) -> str:
    """Words alone: without case, punctuation, numbers and runs of blanks."""
    return " ".join(re.findall(r"[^\W\d_]+", text.casefold()))


def _quantiles(texts: Sequence[str]) -> Iterable[str]:
    numbers = _numbers(texts)
    if numbers is None:
        return []
    return [f"{value:.4g}" for value in np.quantile(numbers, np.linspace(0, 1, MOST_TRIED))]


def _numbers(texts: Sequence[str]) -> list[float] | None:
    """None where one of them is no plain number."""
    plain = re.compile(r"-?\d+(\.\d+)?")
    return [float(text) for text in texts] if all(plain.fullmatch(text.strip()) for text in texts) else None
