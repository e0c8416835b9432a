import pytest

from g2vlm.eval.benchmarks.base import QuestionItem
from g2vlm.eval.protocol import Absent
from g2vlm.eval.typical import SizePrior, told_sizes, typical

LONGEST = "What is the length of the longest dimension (length, width, or height) of the {}, measured in centimeters?"


def asked(question: str, **row: object) -> QuestionItem:
    return QuestionItem("a", "kind", (), {"question": question, **row}, f"Look at these frames.\n{question}")


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (LONGEST.format("bed"), "210"),
        (LONGEST.format("trash bin"), "45"),
        ("How long is the bed in meters?", "2.1"),
        ("How tall is the chair?", "90"),
        ("How many chair(s) are in this room?", "4"),
        ("How many trash cans are there?", "1"),
        ("What is the distance between the sofa and the bed (in meters)?", "2"),
        ("How far is the lamp from the mouse, in centimeters?", "200"),
        ("What is the size of this room (in square meters)?", "20"),
    ],
)
def test_sizes_numbers_and_distances_are_looked_up(question, answer):
    assert SizePrior().answer(asked(question)) == answer


@pytest.mark.parametrize(
    "item",
    [
        asked(LONGEST.format("flying carpet")),
        asked("What is the colour of the chair?"),
        asked("How many chairs are there?", options=["A. one", "B. two"]),
        asked("Is the chairman here?"),
    ],
)
def test_nothing_else_is_answered(item):
    with pytest.raises(Absent, match="no question about the size"):
        SizePrior().answer(item)


def test_of_two_names_the_longer_is_meant_and_parts_of_words_are_none():
    assert [*typical().named_in("The Shower Curtain, the tables and the tablet")] == ["shower curtain", "table"]


def test_a_prompt_says_sizes_of_things_that_the_question_names():
    assert told_sizes("Is the chair nearer than the TV?").splitlines() == [
        "The longest side of a typical chair is about 90 cm.",
        "The longest side of a typical tv is about 110 cm.",
    ]
    assert told_sizes("Where am I?") == ""


def test_the_table_says_where_it_comes_from_and_is_of_indoor_sizes():
    assert typical().source.startswith("own estimates")
    assert len(typical().things) >= 40
    assert all(5 <= thing.longest_cm <= 300 and 1 <= thing.count <= 10 for thing in typical().things.values())
    assert SizePrior().about.sha256 == typical().sha256
