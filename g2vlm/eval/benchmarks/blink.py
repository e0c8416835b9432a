"""BLINK (Fu et al. 2024), its three spatial tasks: which way a camera moves, which point is nearer, how two things lie."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from g2vlm.data.rows import BadRow
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
    means,
    named,
    texts_of,
)
from g2vlm.eval.benchmarks.base import Figure, Item, Outcome, QuestionItem
from g2vlm.eval.benchmarks.pictures import pictures_of
from g2vlm.eval.public_answers import first_capital, leading_letter
from g2vlm.prompts import PROMPTS

TASKS = ("Multi-view_Reasoning", "Relative_Depth", "Spatial_Relation")

IMAGES = tuple(f"image_{i}" for i in range(1, 5))


def item_of(row: Row, data: Path, index: int) -> QuestionItem | None:
    id, task, choices = field_of(row, "idx"), field_of(row, "sub_task"), texts_of(row, "choices")
    if task not in TASKS:
        return None
    answer = field_of(row, "answer")
    if answer.strip("()") not in letters_of(len(choices)):
        raise BadRow("answer is none of the choices", f"{answer} of {len(choices)}")
    media = tuple(path for name in IMAGES if name in row for path in pictures_of(row, name, data, f"{id}_{name}"))
    prompt = PROMPTS["blink"].format(", ".join(letters_of(len(choices)))) + field_of(row, "prompt")
    kept = {key: value for key, value in row.items() if key not in IMAGES}
    return QuestionItem(id, task, media, kept, prompt, 1024, PROMPTS["system"])


def letters_of(count: int) -> list[str]:
    return [chr(ord("A") + i) for i in range(count)]


def choices_of(item: Item) -> Sequence[str]:
    return item.row["choices"]


def truth_of(item: Item) -> str:
    return item.row["answer"].strip("()")


def equal(item: QuestionItem, reply: Reply) -> Outcome:
    """As the authors, whose replies were turned into "(B)" by another model at first."""
    return graded(item, reply.text, reply.text == item.row["answer"])


def figures(items: Sequence[Item], outcomes: Outcomes, *, scale: float = 1.0) -> list[Figure]:
    """Overall is the plain mean over the tasks."""
    return means(items, outcomes, overall="macro", scale=scale)


def figures_of_all(items: Sequence[Item], outcomes: Outcomes) -> list[Figure]:
    """As the authors: a question without a reply is wrong."""
    missing = {item.id: replace(graded(item, None, 0.0), note="no reply") for item in items if item.id not in outcomes}
    return figures(items, {**outcomes, **missing})


_LMMS = "lmms_eval/tasks/blink/utils.py, blink_process_results"

RULES = named(
    QuestionRule(
        "corrected",
        "a careful reader of letters, and of the words of a choice",
        score=choosing(choices_of, truth_of),
        figures=figures,
    ),
    QuestionRule(
        "public_lmms_eval",
        f"EvolvingLMMs-Lab/lmms-eval 75571cf, {_LMMS}",
        score=comparing(leading_letter, truth_of),
        figures=figures,
    ),
    QuestionRule(
        "public_spatialstack",
        f"jzh15/SpatialStack af810b2, src/{_LMMS}",
        score=comparing(leading_letter, truth_of),
        figures=figures,
    ),
    QuestionRule(
        "public_vg_llm",
        f"LaVi-Lab/VG-LLM, src/{_LMMS}",
        score=comparing(first_capital, truth_of),
        figures=partial(figures, scale=100.0),
    ),
    QuestionRule(
        "public_official",
        "zeyofu/BLINK_Benchmark 2d6a779, eval/evaluate.py, eval_prediction with the three tasks",
        score=equal,
        figures=figures_of_all,
    ),
    public="public_lmms_eval",
)

BLINK_SPATIAL = QuestionBenchmark(
    name="blink_spatial",
    title="BLINK (spatial)",
    reference="Fu et al., BLINK, ECCV 2024, arXiv:2404.12390",
    licence="Apache-2.0 (BLINK-Benchmark/BLINK)",
    layout="""DATA/
  Multi-view_Reasoning/val-*.parquet, Relative_Depth/…, Spatial_Relation/…     as on the hub (BLINK-Benchmark/BLINK)
  pictures/                         is made from the parquet files when they are read first
or DATA/val.jsonl with the same columns and paths of pictures from DATA under image_1 to image_4""",
    ids="the column idx, as in val_Relative_Depth_7",
    files=("*/val-*.parquet", "val.jsonl"),
    item_of=item_of,
    rules=RULES,
)
