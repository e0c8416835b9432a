from pathlib import Path

import pytest
from published import figures_of, item_of, json_list, outcome_of

from g2vlm.eval.benchmarks.all_angles import ALL_ANGLES_BENCH

RULES = ("corrected", "public_official", "public_official_verbose")


def row_of(answer: str = "A", *, id: int = 0, kind: str = "counting") -> dict[str, object]:
    return {
        "index": id,
        "folder": "f",
        "category": kind,
        "pair_idx": id,
        "image_path": [f"data/f/{i}.png" for i in range(2)],
        "question": "How many people, in all?",
        "A": "Three people",
        "B": "four",
        "C": "none of these",
        "answer": answer,
    }


@pytest.mark.parametrize(
    ("reply", "extracted"),
    [
        *(("A", ("A", "A", "A")), ("(A)", ("A", "A", "A")), ("A.", ("A", "A", "A")), ("a", ("A", None, None))),
        *(("four", ("B", "B", "B")), ("Three people", ("A", "A", "A")), ("I see three people there", (None, "A", "A"))),
        ("A is the right one", ("A", "A", None)),  # more than three words with an A: VERBOSE leaves them to a judge
        ("A man and B", ("B", None, None)),
        ("I would choose B", ("B", "B", "B")),
        ("Answer: C", ("C", "C", "C")),
        ("**B**", ("B", "B", "B")),
        ("`B`", ("B", None, None)),
        ("Because", (None, None, None)),
        ("", (None, None, None)),
        ("Z", (None, "Z", "Z")),
        ("Cannot determine the answer: A", ("A", "Z", "Z")),
    ],
)
def test_options_are_read_as_each_rule_reads_them(reply: str, extracted: tuple[str | None, ...]):
    found = tuple(outcome_of(ALL_ANGLES_BENCH, row_of(), reply, rule).extracted for rule in RULES)
    assert found == extracted


def test_a_failed_call_is_read_by_its_words_alone():
    reply = "Failed to obtain answer via API. A"
    assert outcome_of(ALL_ANGLES_BENCH, row_of(), reply, "public_official").extracted is None


def test_an_absent_option_is_none():
    item = item_of(ALL_ANGLES_BENCH, row_of() | {"C": None})
    assert item.prompt.splitlines() == [
        *("Question: How many people in all?", "Options:", "A. Three people", "B. four"),
        "Please select the correct answer from the options above. ",
    ]


def test_options_within_a_question_are_taken_out():
    item = item_of(ALL_ANGLES_BENCH, row_of() | {"question": "How many? Three people, four, none of these"})
    assert item.prompt.startswith("Question: How many?")
    assert item.prompt.count("four") == 1


def test_overall_is_the_mean_over_questions():
    figures = figures_of(
        ALL_ANGLES_BENCH, [row_of(id=1), row_of(id=2), row_of(id=3, kind="attribute")], ["A", "A", "B"]
    )
    assert figures["overall"].value == pytest.approx(2 / 3)
    assert figures["macro"].value == pytest.approx(1 / 2)
    assert figures["groups/counting"].value == 1


def test_the_hubs_file_names_pictures_below_its_folder(tmp_path: Path):
    json_list(tmp_path / "data.json", [row_of(id=4), row_of(id=5)])
    first, _ = ALL_ANGLES_BENCH.items(tmp_path)
    assert first.media == (tmp_path / "data/f/0.png", tmp_path / "data/f/1.png")


def test_rows_that_cannot_be_used_are_named(tmp_path: Path):
    json_list(tmp_path / "data.json", [row_of(id=4), row_of(id=4)])
    with pytest.raises(ValueError, match=r"data.json:2: id 4 is there twice"):
        ALL_ANGLES_BENCH.items(tmp_path)
    json_list(tmp_path / "data.json", [{key: value for key, value in row_of().items() if key != "category"}])
    with pytest.raises(ValueError, match="has no column category"):
        ALL_ANGLES_BENCH.items(tmp_path)
