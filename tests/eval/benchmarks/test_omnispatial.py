import pytest
from published import figures_of, item_of, json_list, outcome_of

from g2vlm.eval.benchmarks.omnispatial import OMNISPATIAL


def row(id: str = "12_3", answer: int = 1, task: str = "Complex_Logic", part: str = "Geometric_Reasoning") -> dict:
    options = ["to the left", "to the right", "in front", "behind"]
    return {
        "id": id,
        "question": "Where?",
        "options": options,
        "answer": answer,
        "task_type": task,
        "sub_task_type": part,
    }


def test_published_rows_become_items(tmp_path):
    json_list(tmp_path / "data.json", [row(), row(task="Dynamic_Reasoning", part="Manipulation")])
    first, second = OMNISPATIAL.items(tmp_path)
    assert (first.id, first.kind) == ("Complex_Logic_12_3", "Complex_Logic/Geometric_Reasoning")
    assert first.media == (tmp_path / "Complex_Logic" / "12.png",)
    assert second.id == "Dynamic_Reasoning_12_3"
    assert "Where?\nA. to the left\nB. to the right\nC. in front\nD. behind\n" in first.prompt
    assert first.prompt.endswith("Answer: A")


def test_an_answer_beyond_the_options_is_named(tmp_path):
    json_list(tmp_path / "data.json", [row(answer=4)])
    with pytest.raises(ValueError, match=r"answer is none of the options \(4 of 4\)"):
        OMNISPATIAL.items(tmp_path)


@pytest.mark.parametrize(
    ("reply", "right_by"),
    [
        ("So.\nAnswer: B", "corrected corrected_no_match corrected_no_match_case re kit"),
        ("answer: b", "corrected corrected_no_match_case kit"),
        ("B", "corrected direct omni_spatial kit"),
        ('{"answer": "B"}', "corrected json kit"),
        ("to the right", "corrected"),
        ("<answer>B</answer>", "corrected omni_spatial kit"),
        ("", ""),
    ],
)
def test_a_reply_by_each_rule(reply: str, right_by: str):
    rules = {
        "corrected": "corrected",
        "corrected_no_match": "corrected_no_match",
        "corrected_no_match_case": "corrected_no_match_case",
        "re": "public_official_re",
        "json": "public_official_json",
        "direct": "public_official_direct",
        "omni_spatial": "public_lmms_eval_omni_spatial",
        "kit": "public_vlmevalkit",
    }
    right = [short for short, rule in rules.items() if outcome_of(OMNISPATIAL, row(), reply, rule).scores["score"]]
    assert " ".join(right) == right_by


@pytest.mark.parametrize("reply", ["", "I cannot tell.", "Answer: E"])
def test_no_answer_counts_as_the_first_option_in_public(reply: str):
    truth_is_first = row(answer=0)
    for rule in ("public_official_re", "public_lmms_eval_re", "public_official_json", "public"):
        assert outcome_of(OMNISPATIAL, truth_is_first, reply, rule).scores["score"] == 1
    for rule in ("corrected", "corrected_no_match", "corrected_no_match_case"):
        outcome = outcome_of(OMNISPATIAL, truth_is_first, reply, rule)
        assert (outcome.status, outcome.scores["score"]) == ("unparsed", 0)


def test_the_authors_add_a_little_to_every_count():
    rows = [row("1_1"), row("2_1"), row("3_1", task="Perspective_Taking", part="Egocentric")]
    found = figures_of(OMNISPATIAL, rows, ["Answer: B"] * 3, "public_official_re")
    assert found["overall"].value == pytest.approx(100 * 3 / 3.000001, abs=1e-9)
    assert found["groups/Complex_Logic"].value == pytest.approx(100 * 2 / 2.000001, abs=1e-9)
    assert found["groups/Perspective_Taking/Egocentric"].value == pytest.approx(100 / 1.000001, abs=1e-9)
    assert figures_of(OMNISPATIAL, rows, ["Answer: B"] * 3)["overall"].value == 1


def test_groups_are_tasks_and_their_parts():
    rows = [row("1_1"), row("2_1", part="Pattern_Recognition"), row("3_1")]
    found = figures_of(OMNISPATIAL, rows, ["B", "B", "A"])
    assert found["overall"].value == pytest.approx(2 / 3)
    assert found["macro"].value == pytest.approx((1 / 2 + 1) / 2)
    assert found["groups/Complex_Logic"].count == 3
    assert found["groups/Complex_Logic/Geometric_Reasoning"].value == 0.5


def test_the_system_line_is_ours():
    assert item_of(OMNISPATIAL, row()).system == "You are a helpful assistant."
