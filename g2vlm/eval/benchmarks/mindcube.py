"""MindCube (Yin et al. 2025): what lies where, asked about a few views from around, among and inside; tiny has 1050 questions."""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from g2vlm.eval.benchmarks.asking import (
    Outcomes,
    QuestionBenchmark,
    QuestionRule,
    Reply,
    Row,
    choosing,
    comparing,
    field_of,
    graded,
    mean_figure,
    means,
    named,
    texts_of,
    with_metric,
)
from g2vlm.eval.benchmarks.base import Figure, Item, Outcome, QuestionItem
from g2vlm.eval.public_answers import kit_letter, mindcube_letter
from g2vlm.prompts import PROMPTS

SETTINGS = ("around", "rotation", "translation", "among")
"""In the order in which the authors look for them in an id."""


def item_of(row: Row, data: Path, index: int) -> QuestionItem:
    id, question = field_of(row, "id"), field_of(row, "question")
    field_of(row, "gt_answer")
    media = tuple(data / path for path in texts_of(row, "images"))
    prompt = "\n".join([question.strip(), PROMPTS["choice"]])
    return QuestionItem(id, setting_of(id), media, row, prompt, 4096, PROMPTS["system"])


def setting_of(id: str) -> str:
    return next((setting for setting in SETTINGS if setting in id.lower()), "other")


def prefix_of(item: Item) -> str:
    """The setting as lmms-eval finds it."""
    prefix = item.id.partition("_")[0]
    return {"among": "among", "rotation": "rotation", "around": "around", "aroundnew": "around"}.get(prefix, "other")


def options_of(item: Item) -> list[str]:
    """The options, which stand in one line with the question: "… A. left B. right"."""
    options, rest = [], item.row["question"]
    for letter in "ABCDE":
        found = re.search(rf"(?:^|\s){letter}\.\s", rest)
        if found is None:
            break
        options.append(rest[: found.start()])
        rest = rest[found.end() :]
    return [option.strip() for option in (*options[1:], rest)] if options else []


def truth_of(item: Item) -> str:
    return item.row["gt_answer"]


def stripped_letter(reply: str) -> str | None:
    return mindcube_letter(reply.strip())


def kit(item: QuestionItem, reply: Reply) -> Outcome:
    said = kit_letter(reply.text or "")
    return graded(item, said, said == kit_letter(item.row["gt_answer"]))


def official_figures(items: Sequence[Item], outcomes: Outcomes) -> list[Figure]:
    """Translation has a figure of its own, and is left out of the overall one."""
    counted = [[item.id for item in with_metric(items, outcomes) if item.kind != "translation"]]
    return [mean_figure("overall", outcomes, [counted]), *means(items, outcomes)[1:]]


RULES = named(
    QuestionRule(
        "corrected",
        "a careful reader of letters, and of the words of an option",
        score=choosing(options_of, truth_of),
        figures=means,
    ),
    QuestionRule(
        "public_official",
        "mll-lab-nu/MindCube 6d8fd9a, src/evaluation/evaluator.py, BasicEvaluator",
        score=comparing(mindcube_letter, truth_of),
        figures=official_figures,
    ),
    QuestionRule(
        "public_lmms_eval",
        "EvolvingLMMs-Lab/lmms-eval 75571cf, lmms_eval/tasks/mindcube/utils.py, mindcube_process_results; SpatialStack's copy is the same",
        score=comparing(stripped_letter, truth_of),
        figures=partial(means, group_of=prefix_of),
    ),
    QuestionRule(
        "public_vlmevalkit",
        "open-compass/VLMEvalKit e8e78f0, vlmeval/dataset/utils/spatial_bench/cal_scores.py, compute_mcq_score",
        score=kit,
        figures=means,
    ),
    public="public_official",
)

MINDCUBE = QuestionBenchmark(
    name="mindcube",
    title="MindCube",
    reference="Yin et al., Spatial Mental Modeling from Limited Views, 2025, arXiv:2506.21458",
    licence="as stated by MLL-Lab/MindCube on the hub",
    layout="""DATA/
  raw/MindCube_tinybench.jsonl      of data.zip (MLL-Lab/MindCube); or MindCube.jsonl, without raw/ as well
  other_all_image/…                 its pictures""",
    ids="the column id",
    files=("raw/MindCube_tinybench.jsonl", "MindCube_tinybench.jsonl", "raw/MindCube.jsonl", "MindCube.jsonl"),
    item_of=item_of,
    rules=RULES,
)
