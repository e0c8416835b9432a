import pytest

from g2vlm.eval.public_answers import (
    answer_line,
    first_capital,
    first_character,
    first_number,
    first_word,
    json_answer,
    kit_letter,
    kit_number,
    leading_letter,
    mindcube_letter,
    tagged_first_character,
)


@pytest.mark.parametrize(
    ("reply", "word"),
    [
        *(("B. left", "B"), ("B...", "B"), ("B\t", "B"), ("\nB", "B"), ("\xa0B\xa0", "B"), (" B", ""), ("", "")),
        ("B\nBecause it is", "B\nBecause"),
    ],
)
def test_the_first_word_ends_at_a_blank_and_at_nothing_else(reply: str, word: str):
    assert first_word(reply) == word


@pytest.mark.parametrize(
    ("reply", "number"),
    [
        *((".5", 5), ("1,200", 1), ("1e3", 1), ("5-6", 5), ("three, four", 7), ("room 2 has one", 2), ("one apple, room 2", 1)),
        *(("two hundred and five", 205), ("two thousand and six", 2006), ("thousand", 1000), ("٣", 3), ("３", 3), ("-5", -5)),
        *(("none", None), ("", None), ("someone", None), ("twenty-one", 21), ("four and", 4)),
    ],
)  # fmt: skip
def test_lmms_eval_reads_the_first_number_anywhere(reply: str, number: float | None):
    assert first_number(reply) == number


@pytest.mark.parametrize(
    ("reply", "letter"),
    [("The answer is (B)", "T"), ("(b) left", "B"), ("<s> B", ""), ("**B**", ""), ("", ""), ("ſ", "S"), (" ( B", "B")],
)
def test_the_first_character_counts_when_it_is_any_letter(reply: str, letter: str):
    assert leading_letter(reply) == letter


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        *(("Answer: C", "A"), ("The answer is C", "C"), ("The correct answer is C", "C"), ("Best answer: D", "B")),
        *(("Best answer:Best option: D", "D"), ("Final: C", "F"), ("left", ""), ("b", "")),
    ],
)
def test_the_first_capital_counts_once_stock_phrases_are_cut(reply: str, letter: str):
    assert first_capital(reply) == letter


def test_other_letters_can_be_asked_for():
    assert first_capital("EA", "ABCD") == "A"


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        *(("Answer: D. Or was it B. No. Answer: C", "B"), ("C.", "C"), ("<Answer>B</Answer> D", "B"), ("the answer is B", "B")),
        *(("Not D, it is A", "D"), ("A\nB", "A"), ("*B* or *C*", "C"), ("My answer is C, answer is D", "C"), ("b", None)),
        *(("", None), ("CD", None), ("line A C\nlast", "A"), ("Answer: C so", "C")),
    ],
)  # fmt: skip
def test_mindcube_takes_the_last_match_of_its_first_pattern(reply: str, letter: str | None):
    assert mindcube_letter(reply) == letter


def test_white_space_in_front_hides_a_letter_from_mindcubes_line_pattern():
    assert mindcube_letter(" A\nA thing, so B") == "A"
    assert mindcube_letter("A thing\nso B") == "A"


@pytest.mark.parametrize(
    ("reply", "line", "structured", "direct"),
    [
        ("So.\nAnswer: B", "B", "A", "S"),
        ("answer: b", "b", "A", "A"),
        ("Answer: A\nAnswer : C", "C", "A", "A"),
        ('{"answer": "c) left"}', None, "C", "{"),
        ('```json\n{"answer": " d "}\n```', None, "D", "`"),
        ('{"answer": null}', None, "A", "{"),
        ('{"said": "B"}', None, "A", "{"),
        ('["B"]', None, "A", "["),
        ("", None, "A", ""),
        (" d", None, "A", "D"),
        ("Answer: E", None, "A", "A"),
    ],
)
def test_omnispatial_reads_a_line_json_or_a_character(reply: str, line: str | None, structured: str, direct: str):
    assert (answer_line(reply), json_answer(reply), first_character(reply)) == (line, structured, direct)


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("<think>B</think> c", "C"),
        ("<thought>B</thought>d", "D"),
        ("x<answer> b </answer>", "B"),
        ("", ""),
        ("<think>B", "<"),
    ],
)
def test_the_second_task_of_lmms_eval_cuts_thoughts(reply: str, letter: str):
    assert tagged_first_character(reply) == letter


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        *(("B", "B"), ("**b**", "B"), ("<answer>h) x</answer>", "H"), ("<think>no (C)</think>", "C"), ("A or B", None)),
        *(("<think>A</think>\nB", "A"), ("<think>It is A.</think>\nB", "B"), ("Option A: near\nB. far", "B")),
        *(("final answer：（d）", "D"), ('{"answer": "B"}', "B"), ('"A" and "B"', None), ("left", None), ("", None)),
        *(("A\nand then C", "C"), ("\n".join(["so C", *7 * ["-"]]), "C"), ("\u200bA", "A"), ("选C", "C")),
    ],
)  # fmt: skip
def test_vlmevalkit_reads_tags_last_lines_phrases_and_at_last_a_lone_capital(reply: str, letter: str | None):
    assert kit_letter(reply) == letter


@pytest.mark.parametrize(
    ("reply", "number"),
    [
        *(("5-6", -6), ("twenty-one", -1), ("1,200", 200), ("1e3", 1000), (".5", 0.5), ("three or 4", 4), ("12 dozen", 12)),
        *(("<answer>3 m</answer> 7", 3), ("<think>9</think> 2", 2), ("<think>9</think>", 9), ("['7', 2]", 7), ("[]", None)),
        *(("[1], [2]", 2), ("[x]", None), ("nothing", None), ("٣", 3)),
    ],
)  # fmt: skip
def test_vlmevalkit_reads_the_last_number(reply: str, number: float | None):
    assert kit_number(reply) == number
