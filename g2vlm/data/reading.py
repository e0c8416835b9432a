"""Made-up lessons in reading: to say again, to look up and to compare what stands in the context.

For models that bring no language. Answers to questions about rooms are a few tokens each, and teach finding and copying slowly;
here nearly every token of an answer has to be found. The statements are those of `g2vlm.evidence`, with random numbers.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations, pairwise

import torch

from g2vlm.data.questions_seen import CLASSES
from g2vlm.data.questions_words import LETTERS
from g2vlm.data.samples import Bucket, Sample
from g2vlm.data.sources import branched, with_answer
from g2vlm.evidence import HEAD, TAIL
from g2vlm.processor import Processor

NAMES = "ABCD"
MOTION = "motion {} {} turn {} {} {} {:.2f} {} {:.2f} {} {:.2f} u"


@dataclass(frozen=True)
class Lesson:
    """question and answer as somebody says them; lines: statements that stand between the two."""

    question: str
    answer: str
    lines: tuple[str, ...] = ()

    @property
    def measured(self) -> str:
        return "\n".join([HEAD, *self.lines, TAIL, ""]) if self.lines else ""


def say_again(draw: random.Random) -> Lesson:
    words = [draw.choice((draw.choice(CLASSES), draw.choice(NAMES), f"{draw.random() * 3:.2f}")) for _ in range(6)]
    return Lesson(f"Say again: {' '.join(words)}", " ".join(words))


def one_option(draw: random.Random) -> Lesson:
    """The words of an option, in the form of a choice."""
    things = draw.sample(CLASSES, draw.randint(2, 4))
    if draw.random() < 0.4:  # an order of things
        things = [", ".join(draw.sample(things, len(things))) for _ in range(draw.randint(2, 3))]
    options = " ".join(f"{letter}. {thing}" for letter, thing in zip(LETTERS, things, strict=False))
    chosen = draw.randrange(len(things))
    return Lesson(f"What is option {LETTERS[chosen]}? {options}", things[chosen])


def depths(draw: random.Random) -> Lesson:
    """One point of several is nearest; depths are asked for in another order than they stand in."""
    values = {name: f"{draw.uniform(0.2, 2.5):.2f}" for name in NAMES[: draw.randint(2, 4)]}
    lines = [f"depth {name} {value} u" for name, value in values.items()]
    asked = draw.sample(sorted(values), len(values))
    question, answer = draw.choice(
        (
            (f"What are the depths of {' '.join(asked)}?", " ".join(values[name] for name in asked)),
            ("Order the points by depth.", " ".join(sorted(values, key=lambda name: float(values[name])))),
            ("Which point is nearest to its camera?", min(values, key=lambda name: float(values[name]))),
        )
    )
    nearest = min(values, key=lambda name: float(values[name]))
    return Lesson(
        question, answer, (*lines, *distance_lines(random_distances(draw, len(values))), f"nearest {nearest}")
    )


def distances(draw: random.Random) -> Lesson:
    """One point of several is closest to the last one."""
    number = draw.randint(2, 4)
    values = random_distances(draw, number)
    lines = (*(f"depth {name} {draw.uniform(0.2, 2.5):.2f} u" for name in NAMES[:number]), *distance_lines(values))
    *others, last = NAMES[:number]
    same = min(others, key=lambda name: float(values[name, last]))
    lines = (*lines, f"same {same} {last} {values[same, last]} u", f"nearest {draw.choice(NAMES[:number])}")
    one, other = draw.choice(sorted(values))
    question, answer = draw.choice(
        (
            (f"How far from {last} are {' '.join(others)}?", " ".join(values[name, last] for name in others)),
            (f"Which of these is the same point as {last}?", same),
            (f"How far apart are {one} and {other}?", values[one, other]),
        )
    )
    return Lesson(question, answer, lines)


def random_distances(draw: random.Random, number: int) -> dict[tuple[str, str], str]:
    return {pair: f"{draw.uniform(0, 2):.2f}" for pair in combinations(NAMES[:number], 2)}


def distance_lines(values: dict[tuple[str, str], str]) -> list[str]:
    return [f"distance {one} {other} {value} u" for (one, other), value in values.items()]


def motions(draw: random.Random) -> Lesson:
    """Turns and shifts between consecutive views, and what they are the other way round."""
    rows = {
        pair: (
            draw.choice(("left", "right")),
            draw.randint(0, 45),
            draw.choice(("left", "right")),
            draw.uniform(0, 0.6),
            draw.choice(("up", "down")),
            draw.uniform(0, 0.05),
            draw.choice(("forward", "backward")),
            draw.uniform(0, 0.5),
        )
        for pair in pairwise(range(draw.randint(2, 4)))
    }
    (i, j), row = draw.choice(sorted(rows.items()))
    opposite = {"left": "right", "right": "left"}
    question, answer = draw.choice(
        (
            (f"How many degrees are between the directions of view {i} and view {j}?", str(row[1])),
            (f"How many degrees are between the directions of view {j} and view {i}?", str(row[1])),
            (f"Which way did the camera turn from view {i} to view {j}?", row[0]),
            (f"Which way did the camera turn from view {j} to view {i}?", opposite[row[0]]),
            ("Say all turns.", " ".join(f"{turn[0]} {turn[1]}" for turn in rows.values())),
        )
    )
    return Lesson(question, answer, tuple(MOTION.format(*pair, *values) for pair, values in rows.items()))


LESSONS: tuple[Callable[[random.Random], Lesson], ...] = (say_again, one_option, depths, distances, motions)


@dataclass(frozen=True)
class ReadingSource:
    """Samples of several lessons each, as branches of one context without pictures."""

    processor: Processor
    lessons: int = 12
    name: str = "reading"
    num_views: tuple[int, int] = (0, 0)

    def num_tokens(self, bucket: Bucket) -> int:
        return 0

    def sample(self, draw: random.Random, bucket: Bucket) -> Sample:
        processor = self.processor
        lessons = []
        for _ in range(self.lessons):
            lesson = draw.choice(LESSONS)(draw)
            measured = torch.tensor(processor.words(lesson.measured), dtype=torch.int64)
            asked = torch.cat([processor.asking_ids(lesson.question), measured])
            lessons.append(with_answer(asked, processor.answer_ids(lesson.answer)))
        ids, labels, branches = branched(processor.context_ids(), lessons, processor.tokens.pad)
        return Sample(self.name, ids, labels, branches=branches)
