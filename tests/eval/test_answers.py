import pytest

from g2vlm.eval.answers import choice_of, letter_of, number_of, plain, without_blocks, without_thinking


@pytest.mark.parametrize(
    "text",
    [
        *("B", "B.", " B", "\nB", "(B)", "[B]", "{B}", "<B>", "**B**", "`B`", "``B``", '"B"', "_B_", "['B']", "#### B", "B?", "B;", "✅ B"),
        *("b", "(b)", "Ｂ", "\u200bB", "\xa0B\xa0", "B\r\n", "<s> B", "B</s>", "B<|im_end|>"),
        *("(B) left", "B) left", "B: left", "B. left", "B, left", "B - left", "B\nbecause it is", "(b) left"),
        *("Answer: B", "answer : b", "ANSWER : B", "The answer is B", "The answer is (B).", "The correct answer is B. left"),
        *("The best answer is: B", "Final Answer: (B)", "the correct choice is B", "The correct option is:\n\n(B) left"),
        *("<answer>B</answer>", "<Answer>B</Answer>", r"\boxed{B}", r"$\boxed{\text{B}}$", '{"answer": "B"}', "{'answer': 'B'}"),
        *("答案是B。", "正解は（B）です", "Option B", "option b", "I think it's B!", "so i would say b", "I would go with B because it is near."),
        *("Not A, it is B", "A looks plausible at first. So the final answer is B.", "Answer: A\nWait.\nAnswer: B"),
        *("A chair is next to the door, so I choose B.", "In the U.S.A. this would be C. Still, Answer: B"),
        *("A: near, B: far.\nI choose B", "A. near\nB. far\nThe answer is B", "the B", "It is not A but B"),
        *("<think>It could be A.</think>B", "It could be A.</think>(B)", "<thought>A</thought>B"),
    ],
)  # fmt: skip
def test_one_option_is_read_however_it_is_said(text: str):
    assert letter_of(text, 3) == "B"


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", ".", "Because", "B's", "A-frame", "A chair", "BB", "left", "В", "2", "3.5 metres", "None of the above"),
        *("A or B", "A/B", "A, B", "B, B", "Both A and B", "Answer: A or B", "The answer is (A) or (B)", "option A or B"),
        *("not A", "The answer is not A", "D", "Answer: D", "Z", "the answer is a chair", "A. near\nB. far", "Door", "D.5"),
        *("<think>It is B", "I'm sorry, but I cannot tell.", "Failed to obtain answer via API."),
    ],
)  # fmt: skip
def test_what_chooses_none_or_several_is_not_guessed(text: str):
    assert letter_of(text, 3) is None


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        *(("B", "B"), ("(B) left", "B"), ("left", "A"), ("Left.", "A"), (" straight  ahead ", "C"), ("A. right", "A")),
        *(("Left, because the lamp is there.", "A"), ("The answer is straight ahead.", "C"), ("**right**", "B")),
    ],
)
def test_an_option_is_chosen_by_its_letter_or_by_all_its_words(text: str, letter: str):
    assert choice_of(text, ["left", "right", "straight ahead"]) == letter


@pytest.mark.parametrize("text", ["", " ", "."])
def test_an_option_without_words_is_not_chosen_by_saying_nothing(text: str):
    assert choice_of(text, ["left", ""]) is None


def test_a_letter_with_the_words_of_its_option_is_no_list_of_letters():
    assert choice_of("A, A is closer", ["A is closer", "B is closer"]) == "A"


@pytest.mark.parametrize("text", ["", ".", "ahead", "to the left", "left right", "lef", "D", "straight"])
def test_some_of_the_words_choose_nothing(text: str):
    assert choice_of(text, ["left", "right", "straight ahead"]) is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("2.4", 2.4), ("It is 2.4 m, not 3", 2.4), ("2m", 2), (".5", 0.5), ("-3", -3), ("−3", -3), ("+2", 2), ("2.", 2)),
        *(("1,200.5", 1200.5), ("1,200", 1200), ("1_000", 1000), ("61,6", 61.6), ("2e3", 2000), ("2.000e+00", 2), ("1/2", 0.5)),
        *(("0.3%", 0.3), ("~100", 100), ("d = 45", 45), ("3", 3), ("３", 3), ("10 m (32.81 ft)", 10), ("approx. 4", 4)),
        *(("There are three.", 3), ("Ten", 10), ("zero", 0), ("eleven", 11), ("twenty-one", 21), ("seventy five", 75)),
        *(("two hundred and five", 205), ("one thousand two hundred", 1200), ("four hundred thousand", 400_000)),
        *(("a hundred", 100), ("a dozen", 12), ("three and a half", 3.5), ("two\nand  a half", 2.5), ("minus 5 m", -5), ("20m2", 20), ("There are four, in room 7.", 4)),
        *(("view2 is 3 m away", 3), ("The door is 2 m high.\nSo the value is 6 m.", 6), ("<answer>5</answer>", 5)),
        *(("1. A chair.\n2. A table.\nThere are 2 of them.", 2), ("2. Yes, two.", 2)),
        *(("2 or 3? The answer is 4", 4), (r"\boxed{7}", 7), ("<think>1 or 2</think>3", 3)),
    ],
)  # fmt: skip
def test_a_number_counts_in_digits_or_as_a_word(text: str, number: float):
    assert number_of(text) == pytest.approx(number, abs=0)


@pytest.mark.parametrize(
    "text",
    [
        *("", "none", "someone", "often", "v1.5", "B", "nan", "inf", "Infinity", "1e400", "9" * 400, "1e400/3", "3/1e-400", "1/0", "0x10", "fortyfive", "²"),
        *("2-3", "1.68-2.52", "two or 5", "49 or 98", "between 3 and 4", "5\n10", "10^2", "6'2\"", "7 or 8 or 9"),
        *("1. A chair.\n2. A table.", "20v2", "20 minus 5"),
        *("1.2.3", "ten-fifteen", "twenty twenty", "three, four", "1.5m 2.5m", "4 x 5"),
    ],
)  # fmt: skip
def test_ranges_alternatives_and_what_is_no_finite_number_give_none(text: str):
    assert number_of(text) is None


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        *(("<think>a</think>b", "b"), (" <think>a</think> b ", "b"), ("a<think>b</think>c<think>d</think>", "ac")),
        *(("<think>a", "<think>a"), ("a</think>b", "a</think>b"), ("</think>a<think>b", "</think>a<think>b")),
        *(("<think>a<think>b</think>c</think>d", "c</think>d"), ("<THINK>a</THINK>b", "<THINK>a</THINK>b"), ("", "")),
        ("</think><think>a</think>b", "</think>b"),
    ],
)
def test_lmms_eval_cuts_whole_blocks_only(text: str, rest: str):
    assert without_blocks(text) == rest


def test_blocks_of_other_tags_are_cut_too():
    tags = [("<think>", "</think>"), ("[[", "]]")]
    assert without_blocks("<think>a</think>b[[c]]d", tags) == "bd"


@pytest.mark.parametrize(
    ("text", "rest"),
    [("<think>a</think>b", "b"), ("a</think>b", "b"), ("b<think>a", "b"), ("<think>a", ""), ("b", "b"), ("", "")],
)
def test_thoughts_are_never_the_answer(text: str, rest: str):
    assert without_thinking(text) == rest


def test_a_reply_is_made_plain():
    assert plain("<s> \u200b（Ｂ）</s>") == "(B)"
