"""How well spatial questions about held-out rooms are answered, beside answers that look at nothing."""

import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from g2vlm.answering import Reasoning
from g2vlm.data.questions import KINDS, MIN_VIEWS, Question, ask, seen_in
from g2vlm.data.scenes import TEST_SEEDS, Rooms, rooms
from g2vlm.eval.answers import choice_of, number_of
from g2vlm.eval.metrics.answers import (
    Interval,
    Scores,
    macro_mean,
    mean_interval,
    mean_relative_accuracy,
    wilson,
)
from g2vlm.marks import words_of_marks
from g2vlm.pictures import Photo
from g2vlm.predictor import Predictor
from g2vlm.speaking import GeometryInput

LONGEST_ANSWER = 24
"""Tokens, the last that ends it among them: no answer to these questions needs more."""

TRIES = 8
"""Draws for each kind in each room: the generator draws what is right first, and not every room can give it."""

DIRECTIONS = ("object_rel_direction_easy", "object_rel_direction_medium", "object_rel_direction_hard")
"""Kinds that are one entry of the mean over kinds, as in VSI-Bench."""


@dataclass(frozen=True)
class Quiz:
    """Photos of one room, and questions about them."""

    seed: int
    photos: tuple[Photo, ...]
    questions: tuple[Question, ...]


Answerer = Callable[[Quiz], Sequence[str]]
"""Whoever answers: one text for each question of a room, which is read only once."""


@dataclass(frozen=True)
class KindScore:
    """Accuracy of choices, or mean relative accuracy of numbers, of one kind of question; in [0, 1]."""

    count: int
    score: float
    interval: Interval


@dataclass(frozen=True)
class Report:
    """Scores in [0, 1]. overall: mean over kinds, the directions together as one of them.

    scores: of every question, by kind in the order asked: two reports on the same quizzes are paired.
    """

    overall: float
    interval: Interval
    kinds: dict[str, KindScore]
    scores: Scores


def held_out(
    count: int,
    *,
    seeds: range = TEST_SEEDS,
    seed: int = 0,
    num_views: int = 4,
    size: int = 168,
    kinds: Sequence[str] = KINDS,
    per_room: int = 16,
) -> list[Quiz]:
    """The same questions for the same arguments: `count` in all, as many of one kind as of another (within one).

    seeds: of the rooms, which are drawn from them. per_room: questions about a room, at most, and never two of one kind;
    kinds that lag behind come first, so that few rooms serve them all.
    """
    few = [kind for kind in kinds if MIN_VIEWS[kind] > num_views]
    if few:
        raise ValueError(f"{', '.join(few)} cannot be asked about {num_views} views; give more views or leave them out")
    if count < len(kinds):
        raise ValueError(f"{count} questions are too few for {len(kinds)} kinds; ask at least one of each")
    missing = Counter({kind: (count + i) // len(kinds) for i, kind in enumerate(kinds)})
    most_rooms = min(len(seeds), 10 * math.ceil(count / min(per_room, len(kinds))) + 20)
    quizzes = []
    for room_seed in random.Random(seed).sample(seeds, most_rooms):
        room = rooms([room_seed], num_views=num_views, height=size, width=size)
        wanted = [kind for kind, _ in missing.most_common()]
        questions = _asked(random.Random(f"{seed} {room_seed}"), room, wanted, per_room)
        missing -= Counter(question.kind for question in questions)
        if questions:
            quizzes.append(Quiz(room_seed, photos_of(room), tuple(questions)))
        if not missing:
            return quizzes
    raise ValueError(f"{most_rooms} rooms give too few questions, missing are {dict(missing)}; ask for fewer")


def _asked(draw: random.Random, room: Rooms, kinds: Sequence[str], per_room: int) -> list[Question]:
    """At most one question of each kind about a room, so that none is another in other words; the first kinds come first."""
    seen, asked = seen_in(room), dict[str, Question]()
    for kind in TRIES * [*kinds]:
        if kind not in asked and len(asked) < per_room and (question := ask(draw, seen, kind)) is not None:
            asked[kind] = question
    return list(asked.values())


def photos_of(room: Rooms) -> tuple[Photo, ...]:
    """The views of the first room of a batch, as a camera would hand them over."""
    images = (255 * room.views.images[0]).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return tuple(Photo(f"view_{view:03d}", image) for view, image in enumerate(images))


def evaluate(answerer: Answerer, quizzes: Iterable[Quiz]) -> Report:
    """Ask every question and score what is said."""
    scores: dict[str, list[float]] = {}
    is_choice: dict[str, bool] = {}
    for quiz in quizzes:
        for question, text in zip(quiz.questions, answerer(quiz), strict=True):
            score = score_of(text, question.answer, question.options)
            scores.setdefault(question.kind, []).append(score)
            is_choice[question.kind] = bool(question.options)
    by_kind = {kind: np.array(found) for kind, found in scores.items()}
    overall, interval = macro_mean(by_kind, entries_of(by_kind))
    return Report(
        overall, interval, {kind: _of_kind(found, is_choice[kind]) for kind, found in by_kind.items()}, by_kind
    )


def score_of(text: str, truth: str, options: Sequence[str] = ()) -> float:
    """What one answer is worth: 0 or 1 where the truth is the letter of an option, MRA where there are no options.

    What cannot be read is wrong: an empty text never scores.
    """
    if options:
        return float(choice_of(text, options) == truth)
    said = number_of(text)
    return float(mean_relative_accuracy(np.array([math.nan if said is None else said]), np.array([float(truth)]))[0])


def _of_kind(scores: Float[np.ndarray, " questions"], is_choice: bool) -> KindScore:
    interval = wilson(round(float(scores.sum())), len(scores)) if is_choice else mean_interval(scores)
    return KindScore(len(scores), float(scores.mean()), interval)


def entries_of(kinds: Iterable[str]) -> list[list[str]]:
    """Kinds by their entry in the mean over kinds: the directions share one."""
    entries: dict[str, list[str]] = {}
    for kind in kinds:
        entries.setdefault("object_rel_direction" if kind in DIRECTIONS else kind, []).append(kind)
    return list(entries.values())


def asking(predictor: Predictor, *, geometry: GeometryInput = "on", reasoning: Reasoning | None = None) -> Answerer:
    """A model that sees the photos; all questions about a room share what it has read."""

    def answers(quiz: Quiz) -> list[str]:
        session = predictor.open(quiz.photos, geometry=geometry)
        said = session.ask_all(quiz.questions, reasoning=reasoning, max_new_tokens=LONGEST_ANSWER)
        return [answer.text for answer in said]

    return answers


def asking_blindly(predictor: Predictor) -> Answerer:
    """A model that is asked the same words, marks included, and is shown nothing."""

    def answers(quiz: Quiz) -> list[str]:
        sizes = [photo.size for photo in quiz.photos]
        asked = [words_of_marks(q.marks, q.boxes, sizes) + q.text for q in quiz.questions]
        return predictor.answer_blindly(asked, max_new_tokens=LONGEST_ANSWER)

    return answers


def majority(quizzes: Iterable[Quiz]) -> Answerer:
    """The best that always says the same: for each kind one number, or one option, chosen with the truth at hand.

    An option is a letter, or a word with a letter to fall back on where the word is not offered.
    """
    by_kind: dict[str, list[Question]] = {}
    for quiz in quizzes:
        for question in quiz.questions:
            by_kind.setdefault(question.kind, []).append(question)
    rules = {
        kind: _best_option(questions) if questions[0].options else _best_number(questions)
        for kind, questions in by_kind.items()
    }
    return lambda quiz: [rules[question.kind](question) for question in quiz.questions]


def _best_option(questions: Sequence[Question]) -> Callable[[Question], str]:
    def rule(word: str | None, letter: str) -> Callable[[Question], str]:
        return lambda q: letter_of_option(q, word) if word in q.options else letter

    words = {option for question in questions for option in question.options}
    letters = {question.answer for question in questions}
    rules = [rule(word, letter) for word in (None, *sorted(words)) for letter in sorted(letters)]
    return max(rules, key=lambda rule: sum(rule(question) == question.answer for question in questions))


def letter_of_option(question: Question, option: str) -> str:
    return chr(ord("A") + question.options.index(option))


def _best_number(questions: Sequence[Question]) -> Callable[[Question], str]:
    # The score of a constant changes only where some error passes a threshold: try every such place and between them.
    truths = np.array([float(question.answer) for question in questions])
    edges = np.unique(np.outer(truths, np.linspace(0.5, 1.5, 21)))
    tried = np.concatenate([edges, (edges[1:] + edges[:-1]) / 2]).round(4)
    scores = mean_relative_accuracy(*np.broadcast_arrays(tried[:, None], truths)).mean(1)
    best = f"{tried[scores.argmax()]:.4f}"
    return lambda _: best
