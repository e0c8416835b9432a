"""SQA3D (Ma et al. 2023): questions of somebody who stands in a scanned room, answered in a word or two."""

import json
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from g2vlm.data.rows import BadRow
from g2vlm.eval.answers import without_thinking
from g2vlm.eval.benchmarks.asking import (
    Outcomes,
    QuestionBenchmark,
    QuestionRule,
    Reply,
    Row,
    field_of,
    graded,
    means,
    named,
    with_metric,
)
from g2vlm.eval.benchmarks.base import Figure, Item, Outcome, QuestionItem
from g2vlm.prompts import PROMPTS

FIRST_WORDS = ("what", "is", "how", "can", "which")
"""Groups of the paper's table; all other questions are one more."""


def item_of(row: Row, data: Path, index: int) -> QuestionItem:
    situation, question = field_of(row, "situation"), field_of(row, "question")
    if not row.get("answers"):
        raise BadRow(
            "has no answers", "they are in v1_balanced_sqa_annotations_test_scannetv2.json, beside the questions"
        )
    answers = field_of(row, "answers", list)
    if not all(isinstance(each, dict) and isinstance(each.get("answer"), str) for each in answers):
        raise BadRow("answers is no list of records with an answer", f"it is {answers!r}"[:100])
    word = question.split()[0].lower() if question.split() else ""
    media = (data / "video" / f"{field_of(row, 'scene_id')}.mp4",)
    prompt = "\n".join([f"{situation} {question}", PROMPTS["number"]])
    kind = word if word in FIRST_WORDS else "others"
    return QuestionItem(str(row["question_id"]), kind, media, row, prompt, 64, PROMPTS["system"])


def truth_of(item: Item) -> str:
    return item.row["answers"][0]["answer"]


# --- cleaning ---------------------------------------------------------------------------------------------------------

_NUMBER_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)

_REWRITTEN = (
    *((" +$", ""), ("^ +", ""), (" {2,}", " "), (r"[^a-zA-Z0-9,'\s\-:]+", "")),
    *((rf"\b{wrong}\b", "left") for wrong in ("letf", "let")),
    *((r"\btehre\b", "there"), (r"\brigth\b", "right"), (r"\brght\b", "right"), (r"\bbehine\b", "behind")),
    *((r"\btv\b", "TV"), (r"\bchai\b", "chair"), (r"\bwasing\b", "washing"), (r"\bwaslked\b", "walked")),
    *((r"\boclock\b", "o'clock"), (r"\bo'[ ]+clock\b", "o'clock"), (r"\bnone\b", "zero")),
    *((rf"\b{i}\b", word) for i, word in enumerate(_NUMBER_WORDS)),
    *((r"\b23\b", "twenty-three"), (r"\b([a-zA-Z]+)[0-9]\b", r"\1")),
    *((rf"\b{article}\b ([a-zA-Z]+)", r"\1") for article in ("a", "an", "the")),
    (r"\bbackwards\b", "backward"),
)
"""What is rewritten in a reply, in this order (LLM/eval_sqa3d_llm.py, clean_answer)."""


def cleaned(reply: str) -> str:
    text = reply.lower()
    for pattern, replacement in _REWRITTEN:
        text = re.sub(pattern, replacement, text)
    return text


# --- what a reply is worth --------------------------------------------------------------------------------------------


def is_similar(said: str, truth: str) -> bool:
    """As published: a part of the truth is right, with or without blanks, and so is any word that both share; "" is a part of all."""
    is_part = said in truth or "".join(said.split()) in "".join(truth.split())
    return is_part or bool(set(said.split()) & set(truth.split()))


def is_similar_and_not_blank(said: str, truth: str) -> bool:
    return bool(said.strip()) and is_similar(said, truth)


def is_equal(said: str, truth: str) -> bool:
    return bool(said) and said == truth


def is_equal_but_for_blanks(said: str, truth: str) -> bool:
    return is_equal(said.strip(), truth)


def score(
    item: QuestionItem, reply: Reply, is_right: Callable[[str, str], bool], *, is_public: bool = False
) -> Outcome:
    text = reply.text or ""
    said = cleaned(text if is_public else without_thinking(text))
    return graded(item, said, is_right(said, truth_of(item)))


def public_figures(items: Sequence[Item], outcomes: Outcomes) -> list[Figure]:
    """Questions that are asked twice of the same place count once, and are right if either answer is."""
    best: dict[str, Item] = {}
    for item in with_metric(items, outcomes):
        asked = json.dumps([item.row.get(key) for key in ("scene_id", "rotation", "position", "question", "situation")])
        if asked not in best or outcomes[item.id].scores["score"] > outcomes[best[asked].id].scores["score"]:
            best[asked] = item
    return means(best.values(), outcomes)


RULES = named(
    QuestionRule(
        "corrected",
        "exact match of the cleaned reply, as the paper has it; thoughts are cut",
        score=partial(score, is_right=is_equal),
        figures=means,
    ),
    QuestionRule(
        "corrected_strip",
        "the same, without white space around the cleaned reply",
        score=partial(score, is_right=is_equal_but_for_blanks),
        figures=means,
    ),
    QuestionRule(
        "corrected_empty_only",
        "as public_llm_eval, but a blank reply is wrong",
        score=partial(score, is_right=is_similar_and_not_blank),
        figures=means,
    ),
    QuestionRule(
        "public_llm_eval",
        "SilongYong/SQA3D a98da8f, LLM/eval_sqa3d_llm.py, clean_answer and compute_accuracy without GPT",
        score=partial(score, is_right=is_similar, is_public=True),
        figures=public_figures,
    ),
    public="public_llm_eval",
)

SQA3D = QuestionBenchmark(
    name="sqa3d",
    title="SQA3D",
    reference="Ma et al., SQA3D, ICLR 2023, arXiv:2210.07474",
    licence="CC BY 4.0 (SilongYong/SQA3D); photos of ScanNet under its own terms",
    layout="""DATA/
  v1_balanced_questions_test_scannetv2.json            as published
  v1_balanced_sqa_annotations_test_scannetv2.json      answers, beside it
  video/scene0011_00.mp4            photos of the ScanNet scenes; a folder of frames of that name will do""",
    ids="the column question_id, as text",
    files=("v1_balanced_questions_test_scannetv2.json", "test.jsonl"),
    item_of=item_of,
    rules=RULES,
)
