import random
import re

import pytest

from g2vlm import presets
from g2vlm.data.reading import (
    LESSONS,
    ReadingSource,
    depths,
    distances,
    extents,
    floors,
    motions,
    one_option,
    say_again,
)
from g2vlm.data.samples import Bucket
from g2vlm.evidence import parse_evidence
from g2vlm.processor import Processor, byte_tokenizer
from g2vlm.records import IGNORE

TOKENS = presets.tiny().tokens


def drawn(lesson, count: int = 60):
    return [lesson(random.Random(seed)) for seed in range(count)]


@pytest.mark.parametrize("lesson", LESSONS)
def test_statements_are_in_the_grammar_of_evidence(lesson):
    for made in drawn(lesson):
        assert len(parse_evidence(made.measured)) == len(made.lines)


def test_what_is_said_again_is_what_was_said():
    for made in drawn(say_again):
        assert made.question == f"Say again: {made.answer}"


def test_an_option_is_named_by_its_letter():
    for made in drawn(one_option):
        letter = made.question.split()[3].removesuffix("?")
        assert f"{letter}. {made.answer}" in made.question


def said(made, kind: str, field: str = "value") -> dict[tuple[str, ...], float]:
    return {line.names: float(getattr(line, field)) for line in parse_evidence(made.measured) if line.kind == kind}


def test_depths_are_those_of_the_points_asked_for():
    asked = set()
    for made in drawn(depths):
        values = {name: value for (name,), value in said(made, "depth").items()}
        if "Order" in made.question:
            assert made.answer.split() == sorted(values, key=lambda name: values[name])
        elif "nearest" in made.question:
            assert values[made.answer] == min(values.values())
        elif "metres" in made.question:
            name = made.question.split()[5].removesuffix(",")
            assert float(made.answer) == said(made, "depth", "about")[name,]
        else:
            names = made.question.removesuffix("?").split()[5:]
            assert [float(value) for value in made.answer.split()] == [values[name] for name in names]
        asked.add(made.question[:9])
    assert len(asked) == 4


def test_distances_are_those_between_the_points_asked_for():
    for made in drawn(distances):
        values = said(made, "distance")
        last = max(name for pair in values for name in pair)
        if "same" in made.question:
            assert values[made.answer, last] == min(value for pair, value in values.items() if pair[1] == last)
        elif "apart" in made.question:
            one, other = made.question.removesuffix(", in metres?").split()[-3::2]
            assert float(made.answer) == said(made, "distance", "about")[one, other]
        else:
            assert [float(value) for value in made.answer.split()] == [values[n, last] for n in "ABCD" if n < last]


def test_a_turn_is_the_other_way_round_the_other_way():
    turned = 0
    for made in drawn(motions):
        if "Which way" not in made.question:
            continue
        one, other = made.question.removesuffix("?").split()[-4::3]
        row = next(line for line in made.lines if {one, other} == set(line.split()[1:3]))
        is_forward = int(one) < int(other)
        assert (made.answer == row.split()[4]) == is_forward
        turned += not is_forward
    assert turned > 3


def test_a_camera_moves_the_way_of_its_longest_step():
    moves = [made for made in drawn(motions) if "move" in made.question]
    for made in moves:
        one, other = made.question.removesuffix("?").split()[-4::3]
        words = next(line for line in made.lines if line.startswith(f"motion {one} {other}")).split()
        steps = {words[i]: float(words[i + 1]) for i in (6, 8, 10)}
        assert made.answer in steps
        assert steps[made.answer] == max(steps.values())
    assert len(moves) > 10


def test_the_size_of_a_floor_is_said_in_square_metres():
    for made in drawn(floors):
        room = next(line for line in parse_evidence(made.measured) if line.kind == "room")
        if "square metres" in made.question:
            assert float(made.answer) == said(made, "floor", "about")[()]
            length, width, _ = map(float, room.about.split())
            assert float(made.answer) == pytest.approx(length * width, rel=0.05, abs=0.5)
        else:
            assert made.answer == room.value.split()[2]


def test_the_longest_side_of_what_is_in_a_box_is_the_first_of_its_extent():
    for made in drawn(extents):
        name = re.search(r"in ([A-D])\b", made.question)[1]
        sides = {line.names: line.about.split() for line in parse_evidence(made.measured) if line.kind == "extent"}
        assert made.answer == sides[name,][0] == max(sides[name,], key=int)


def test_lessons_are_branches_whose_answers_alone_are_learnt():
    processor = Processor(byte_tokenizer(TOKENS), TOKENS)
    sample = ReadingSource(processor, 5).sample(random.Random(0), Bucket(0, 28, 28))
    assert len(sample.branches) == 5
    assert sample.views is None
    learnt = sample.labels[sample.labels != IGNORE].tolist()
    assert learnt.count(TOKENS.eos) == 5
