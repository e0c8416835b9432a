"""Whoever answers without looking does no better than chance: learners that read questions only, tried on other rooms."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from zlib import crc32

import numpy as np
import pytest
import torch

from g2vlm.data.questions import KINDS, Question, ask, seen_in
from g2vlm.data.scenes import rooms

THETAS = np.linspace(0.5, 0.95, 10)
NUM_FEATURES = 400


def accuracy(predicted: Iterable[str], asked: Sequence[Question]) -> float:
    return float(np.mean([letter == question.answer for letter, question in zip(predicted, asked, strict=True)]))


def mean_relative_accuracy(predicted: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean((np.abs(predicted - truth) / truth)[:, None] <= 1 - THETAS))


def words(question: Question) -> list[str]:
    """Of the question without its options; numbers of views are words."""
    sentence = question.text.split(" A. ")[0] if question.options else question.text
    return sentence.lower().replace("?", "").replace(",", "").replace(".", "").replace(":", "").split()


def places(question: Question) -> list[str]:
    """Where marks and boxes are, in tenths of a picture of 84 pixels, as words."""
    points = [f"{m.name} {axis} {int(at / 8.4)}" for m in question.marks for axis, at in (("x", m.x), ("y", m.y))]
    sides = [
        f"{b.name} {side} {int(getattr(b, side) / 8.4)}"
        for b in question.boxes
        for side in ("left", "top", "right", "bottom")
    ]
    return points + sides


def columns(features: Iterable[str]) -> list[int]:
    return [crc32(feature.encode()) % NUM_FEATURES for feature in features]


def option_features(question: Question, i: int) -> list[str]:
    """What speaks for an option: its letter, words, and these beside words of the question and of the other options."""
    option, others = question.options[i], [o for j, o in enumerate(question.options) if j != i]
    found = [f"letter {i}", option, *(f"{option} / {other}" for other in others)]
    parts = option.replace(",", "").split()
    found += [f"{part} at {k}" for k, part in enumerate(parts)]
    found += [f"{part} | {word}" for part in {option, *parts} for word in words(question)]
    if question.marks:
        mark, last = question.marks[i], question.marks[-1]
        candidates = question.marks[: len(question.options)]
        found.append(f"row rank {sum(other.y < mark.y for other in candidates)} of {len(candidates)}")
        found.append(f"column rank {sum(other.x < mark.x for other in candidates)} of {len(candidates)}")
        gaps = [np.hypot(m.x - last.x, m.y - last.y) for m in candidates]
        found.append(f"gap rank {sum(gap < gaps[i] for gap in gaps)} of {len(candidates)}")
        found += [f"row {int(mark.y / 8.4)}", f"column {int(mark.x / 8.4)}", f"gap {int(gaps[i] / 8.4)}"]
    return found


def weighed_choices(train: Sequence[Question], test: Sequence[Question]) -> list[str]:
    """Naive Bayes: every feature of an option votes by how much oftener it was right than others with as many options."""
    right, shown = defaultdict(float), defaultdict(float)
    for q in train:
        for i in range(len(q.options)):
            for feature in option_features(q, i):
                right[feature] += i == "ABCD".index(q.answer)
                shown[feature] += 1 / len(q.options)

    def vote(q: Question, i: int) -> float:
        return sum(np.log((right[f] + 4) / (shown[f] + 4)) for f in option_features(q, i) if f in shown)

    return ["ABCD"[int(np.argmax([vote(q, i) for i in range(len(q.options))]))] for q in test]


def same_words_choices(train: Sequence[Question], test: Sequence[Question]) -> list[str]:
    """The option that was right most often in questions of the same words and options, in any order."""
    known: dict[tuple, Counter] = defaultdict(Counter)

    def key(q: Question) -> tuple:
        return tuple(sorted(words(q))), tuple(sorted(q.options))

    for q in train:
        known[key(q)][q.options["ABCD".index(q.answer)]] += 1
    guesses = []
    for q in test:
        seen = known[key(q)]
        guesses.append("ABCD"[max(range(len(q.options)), key=lambda i: seen[q.options[i]])])
    return guesses


def best_constant(values: np.ndarray) -> float:
    """The number that scores best as the answer to everything."""
    return max(
        np.quantile(values, np.linspace(0.04, 0.96, 24)),
        key=lambda constant: mean_relative_accuracy(np.full_like(values, constant), values),
    )


def same_words_numbers(train: Sequence[Question], test: Sequence[Question]) -> np.ndarray:
    """The best constant among questions of the same words."""
    by_words: dict[tuple, list[float]] = defaultdict(list)
    for q in train:
        by_words[tuple(words(q))].append(float(q.answer))
    best = {key: best_constant(np.array(values)) for key, values in by_words.items() if len(values) > 3}
    everywhere = best_constant(np.array([float(q.answer) for q in train]))
    return np.array([best.get(tuple(words(q)), everywhere) for q in test])


def linear_numbers(train: Sequence[Question], test: Sequence[Question]) -> np.ndarray:
    """Ridge regression of the logarithm on words and places, and the shift that is best for the score."""

    def matrix(asked: Sequence[Question]) -> torch.Tensor:
        rows = torch.zeros(len(asked), NUM_FEATURES)
        for row, q in zip(rows, asked, strict=True):
            row[columns(["1", *words(q), *places(q)])] = 1
        return rows

    x, y = matrix(train), torch.tensor([float(q.answer) for q in train]).log()
    weights = torch.linalg.solve(x.T @ x + 30 * torch.eye(x.shape[1]), x.T @ (y - y.mean()))
    guess = (matrix(train) @ weights + y.mean()).exp().numpy()
    shift = best_constant(y.exp().numpy() / guess)
    return shift * (matrix(test) @ weights + y.mean()).exp().numpy()


def collected(seeds: range, each: int, num_views: int = 4) -> dict[str, list[Question]]:
    found: dict[str, list[Question]] = {kind: [] for kind in KINDS}
    for seed in seeds:
        seen = seen_in(rooms([seed], num_views=num_views, height=84, width=84))
        draw = random.Random(f"balance {seed}")
        for kind in KINDS:
            found[kind] += [q for _ in range(each) if (q := ask(draw, seen, kind)) is not None]
    return found


def scores(train: Sequence[Question], test: Sequence[Question]) -> tuple[float, float, float]:
    """Score of one who knows only the kind, of one who knows the same words, and of one who weighs words and places."""
    if train[0].options:
        chance = float(np.mean([1 / len(q.options) for q in test]))
        return chance, accuracy(same_words_choices(train, test), test), accuracy(weighed_choices(train, test), test)
    truth, known = np.array([float(q.answer) for q in test]), np.array([float(q.answer) for q in train])
    constant = mean_relative_accuracy(np.full_like(truth, best_constant(known)), truth)
    return constant, *(
        mean_relative_accuracy(learner(train, test), truth) for learner in (same_words_numbers, linear_numbers)
    )


MOST = dict.fromkeys(KINDS, 0.07) | {
    "object_size_estimation": 0.15,  # what a thing is tells how large it is
    "view_change": 0.12,  # views far apart in the row differ more
}
"""What may be won by knowing the same words from other rooms."""


@pytest.mark.slow
def test_words_alone_do_not_tell_the_answer():
    train, test = collected(range(700), 4), collected(range(10_000, 10_300), 4)
    for kind in KINDS:
        base, same_words, _ = scores(train[kind], test[kind])
        assert same_words < base + MOST[kind], (kind, base, same_words)


def test_a_giveaway_is_found():
    """The learners see what is there to be seen: a word that goes with an answer."""
    told = [
        Question("spatial_relation", "Is the bed near? A. yes B. no", "A", ("yes", "no")),
        Question("spatial_relation", "Is the lamp near? A. no B. yes", "A", ("no", "yes")),
        Question("spatial_relation", "Is the bed near? A. no B. yes", "B", ("no", "yes")),
        Question("spatial_relation", "Is the lamp near? A. yes B. no", "B", ("yes", "no")),
    ] * 20
    assert scores(told, told) == (0.5, 1, 1)
    sized = [
        Question("object_size_estimation", "How long is the bed?", "200"),
        Question("object_size_estimation", "How long is the vase?", "30"),
    ] * 400
    constant, same_words, weighed = scores(sized, sized)
    assert same_words == 1
    assert constant < weighed - 0.2
