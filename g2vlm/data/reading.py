"""Made-up lessons in reading: to say again, to look up and to compare what stands in the context.

For models that bring no language. Answers to questions about rooms are a few tokens each, and teach finding and copying slowly;
here nearly every token of an answer has to be found. The statements are those of `g2vlm.evidence`, with random numbers.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import torch

from g2vlm.data.questions_objects import BOXED_SIZE
from g2vlm.data.questions_seen import CLASSES
from g2vlm.data.questions_words import LETTERS
from g2vlm.data.samples import Bucket, Sample
from g2vlm.data.sources import branched, with_answer
from g2vlm.evidence import HEAD, TAIL
from g2vlm.processor import Processor

NAMES = "ABCD"
METRES = (2.0, 6.0)
"""Least and greatest length of a unit that is made up."""


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
    names, metres = NAMES[: draw.randint(1, 4)], draw.uniform(*METRES)
    values = random_depths(draw, names)
    nearest = min(values, key=lambda name: values[name])
    asked = draw.sample(names, len(names))
    one = draw.choice(names)
    question, answer = draw.choice(
        (
            (f"What are the depths of {' '.join(asked)}?", " ".join(f"{values[name]:.2f}" for name in asked)),
            ("Order the points by depth.", " ".join(sorted(values, key=lambda name: values[name]))),
            ("Which point is nearest to its camera?", nearest),
            *(2 * [(f"What is the depth of {one}, in metres?", f"{values[one] * metres:.1f}")]),
        )
    )
    lines = depth_lines(values, metres) + distance_lines(random_distances(draw, names), metres)
    return Lesson(question, answer, (*lines, f"nearest {nearest}"))


def distances(draw: random.Random) -> Lesson:
    """One point of several is closest to the last one."""
    names, metres = NAMES[: draw.randint(2, 4)], draw.uniform(*METRES)
    values = random_distances(draw, names)
    *others, last = names
    same = min(others, key=lambda name: values[name, last])
    one, other = draw.choice(sorted(values))
    question, answer = draw.choice(
        (
            (f"How far from {last} are {' '.join(others)}?", " ".join(f"{values[name, last]:.2f}" for name in others)),
            (f"Which of these is the same point as {last}?", same),
            *(2 * [(f"How far apart are {one} and {other}, in metres?", f"{values[one, other] * metres:.1f}")]),
        )
    )
    lines = depth_lines(random_depths(draw, names), metres) + distance_lines(values, metres)
    closest = f"same {same} {last} {length(values[same, last], metres)}"
    return Lesson(question, answer, (*lines, closest, f"nearest {draw.choice(names)}"))


def random_depths(draw: random.Random, names: Sequence[str]) -> dict[str, float]:
    return {name: round(draw.uniform(0.2, 2.5), 2) for name in names}


def random_distances(draw: random.Random, names: Sequence[str]) -> dict[tuple[str, str], float]:
    return {pair: round(draw.uniform(0, 2), 2) for pair in combinations(names, 2)}


def depth_lines(values: dict[str, float], metres: float) -> list[str]:
    return [f"depth {name} {length(value, metres)}" for name, value in values.items()]


def distance_lines(values: dict[tuple[str, str], float], metres: float) -> list[str]:
    return [f"distance {one} {other} {length(value, metres)}" for (one, other), value in values.items()]


def length(value: float, metres: float) -> str:
    return f"{value:.2f} u about {value * metres:.1f} m"


def motions(draw: random.Random) -> Lesson:
    """Turns and steps between consecutive views, the longest step first, and what they are the other way round."""
    pairs = list(pairwise(range(draw.randint(2, 4))))
    turns = {pair: (draw.choice(("left", "right")), draw.randint(0, 45)) for pair in pairs}
    steps = {pair: random_steps(draw) for pair in pairs}
    i, j = draw.choice(pairs)
    opposite = {"left": "right", "right": "left"}
    side, degrees = turns[i, j]
    question, answer = draw.choice(
        (
            (f"How many degrees are between the directions of view {i} and view {j}?", str(degrees)),
            (f"How many degrees are between the directions of view {j} and view {i}?", str(degrees)),
            (f"Which way did the camera turn from view {i} to view {j}?", side),
            (f"Which way did the camera turn from view {j} to view {i}?", opposite[side]),
            *(2 * [(f"How did the camera move from view {i} to view {j}?", steps[i, j][0].split()[0])]),
            ("Say all turns.", " ".join(f"{side} {degrees}" for side, degrees in turns.values())),
        )
    )
    said = {pair: " ".join(["turn", *map(str, turns[pair]), *steps[pair]]) for pair in pairs}
    return Lesson(question, answer, tuple(f"motion {i} {j} {said[i, j]} u" for i, j in pairs))


def random_steps(draw: random.Random) -> list[str]:
    axes = (("left", "right"), ("up", "down"), ("forward", "backward"))
    lengths = sorted((draw.uniform(0, 0.6) for _ in axes), reverse=True)
    return [f"{draw.choice(axis)} {x:.2f}" for axis, x in zip(draw.sample(axes, 3), lengths, strict=True)]


def floors(draw: random.Random) -> Lesson:
    """The size of a room, behind how its cameras moved."""
    sides, metres = sorted((draw.uniform(0.8, 3) for _ in range(2)), reverse=True), draw.uniform(*METRES)
    area, height = sides[0] * sides[1], draw.uniform(0.5, 1.2)
    room = f"room {sides[0]:.2f} {sides[1]:.2f} {height:.2f} u about " + " ".join(
        f"{x * metres:.1f}" for x in (*sides, height)
    )
    floor = f"{area * metres**2:.0f}"
    question = draw.choice(
        (("How large is the floor, in square metres?", floor), ("How high is the room?", f"{height:.2f}"))
    )
    lines = motions(draw).lines
    return Lesson(*question, (*lines, f"{room} m", f"floor {area:.2f} u2 about {floor} m2"))


def extents(draw: random.Random) -> Lesson:
    """Sides of what stands in boxes, the longer first."""
    names, metres = NAMES[: draw.randint(1, 2)], draw.uniform(*METRES)
    sides = {name: sorted((draw.uniform(0.05, 0.6) for _ in range(2)), reverse=True) for name in names}
    said = {name: [f"{100 * side * metres:.0f}" for side in sides[name]] for name in names}
    asked = draw.choice(names)
    lines = [
        f"extent {name} {longer:.2f} {shorter:.2f} u about {' '.join(said[name])} cm"
        for name, (longer, shorter) in sides.items()
    ]
    question = draw.choice(BOXED_SIZE).replace("in A", f"in {asked}")
    return Lesson(question, said[asked][0], (*depth_lines(random_depths(draw, names), metres), *lines))


LESSONS: tuple[Callable[[random.Random], Lesson], ...] = (
    say_again,
    one_option,
    depths,
    distances,
    motions,
    floors,
    extents,
)


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
