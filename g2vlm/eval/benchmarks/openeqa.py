"""OpenEQA (Majumdar et al. 2024): questions about walks through homes; a judge marks the answers from 1 to 5."""

import re
from collections.abc import Sequence
from pathlib import Path

from g2vlm.eval.answers import without_thinking
from g2vlm.eval.benchmarks.asking import (
    Outcomes,
    QuestionBenchmark,
    QuestionRule,
    Reply,
    Row,
    failed,
    field_of,
    graded,
    means,
    named,
)
from g2vlm.eval.benchmarks.base import Figure, Item, Outcome, QuestionItem
from g2vlm.prompts import PROMPTS

UNJUDGED = "there is no judgement; this rule needs a judge's reply to every answer, or choose exact_match"

MARK = re.compile(
    r"(?:\b(?:mark|score|rating)[^\w-]*(?:is[^\w-]*)?|^[^\w-]*)([1-5])(?:\.0+)?(?:\s*(?:/|out of)\s*5)?(?![\d/]|\.\d)",
    re.ASCII | re.IGNORECASE,
)
"""A mark from 1 to 5 by its name, or at the beginning; "5/5", "5.0" and "5." are marks, "4.5" and "10" are none."""


def item_of(row: Row, data: Path, index: int) -> QuestionItem:
    field_of(row, "answer")
    media = (data / "frames" / field_of(row, "episode_history"),)
    prompt = "\n".join([field_of(row, "question"), PROMPTS["number"]])
    return QuestionItem(
        field_of(row, "question_id"), field_of(row, "category"), media, row, prompt, 128, PROMPTS["system"]
    )


# --- what a reply is worth --------------------------------------------------------------------------------------------


def marked(item: Item, extracted: str | None, mark: int) -> Outcome:
    """A mark below 1 counts as 1, one above 5 as 5."""
    return graded(item, extracted, (min(max(mark, 1), 5) - 1) / 4, mark=mark)


def truncated(answer: str) -> str:
    """As published: what follows the last stop goes, even behind "3." of "3.5 m"."""
    return answer[: answer.rfind(".") + 1] or answer


def published_mark(judgement: str) -> int:
    """As published (parse_score); ValueError for what stops the public run, "Your mark: 5." and "5/5" among it."""
    if judgement.isdigit():
        return int(judgement)
    tag = "Your mark:"
    if tag not in judgement:
        raise ValueError(f"Invalid output string: {judgement}")
    line = judgement[judgement.index(tag) :].partition("\n")[0]
    return int(line.replace(tag, "").strip())


def public(item: QuestionItem, reply: Reply) -> Outcome:
    if reply.text is None:
        return marked(item, None, 0)
    if reply.judgement is None:
        return failed(item, UNJUDGED, reply.text)
    said = truncated(reply.text)
    try:
        return marked(item, said, published_mark(reply.judgement))
    except ValueError as error:
        return failed(item, f"ValueError: {error}", said)


def mark_of(judgement: str) -> int | None:
    """The last mark from 1 to 5 in a judge's reply, however it is written."""
    marks = MARK.findall(judgement.strip())
    return int(marks[-1]) if marks else None


def corrected(item: QuestionItem, reply: Reply) -> Outcome:
    said = without_thinking(reply.text or "").strip()
    if not said:
        return marked(item, None, 1)
    if reply.judgement is None:
        return failed(item, UNJUDGED, said)
    mark = mark_of(reply.judgement)
    if mark is None:
        return failed(item, f"the judge gives no mark from 1 to 5: {reply.judgement!r}", said)
    return marked(item, said, mark)


def exact_match(item: QuestionItem, reply: Reply) -> Outcome:
    """Without a judge: the words of one of the answers, in either case and but for a full stop."""
    said = words(without_thinking(reply.text or ""))
    return graded(item, said, said in map(words, [item.row["answer"], *(item.row.get("extra_answers") or [])]))


def words(text: str) -> str:
    return " ".join(text.split()).removesuffix(".").casefold()


def figures(items: Sequence[Item], outcomes: Outcomes) -> list[Figure]:
    return means(items, outcomes, scale=100.0)


RULES = named(
    QuestionRule(
        "corrected",
        "the whole answer is judged, and a judge's mark is read however it is written",
        score=corrected,
        figures=figures,
    ),
    QuestionRule("exact_match", "no judge; no published number is made so", score=exact_match, figures=figures),
    QuestionRule(
        "public_official_without_judge",
        "facebookresearch/open-eqa cfa3fce, evaluate-predictions.py, main, and openeqa/evaluation/llm_match.py, parse_score",
        score=public,
        figures=figures,
    ),
    public="public_official_without_judge",
)

OPENEQA = QuestionBenchmark(
    name="openeqa",
    title="OpenEQA",
    reference="Majumdar et al., OpenEQA, CVPR 2024",
    licence="MIT (facebookresearch/open-eqa); scans of ScanNet and HM3D under their own terms",
    layout="""DATA/
  open-eqa-v0.json                  as published
  frames/scannet-v0/002-scannet-scene0709_00/*.png     frames by episode history""",
    files=("open-eqa-v0.json",),
    item_of=item_of,
    rules=RULES,
)
