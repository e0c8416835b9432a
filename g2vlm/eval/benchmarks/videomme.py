"""Video-MME without subtitles: 900 videos from eleven seconds to an hour, three questions with four options on each."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from g2vlm.data.rows import BadRow
from g2vlm.eval.benchmarks.asking import (
    Aggregator,
    Outcomes,
    QuestionBenchmark,
    QuestionRule,
    Reply,
    Row,
    Scorer,
    choosing,
    comparing,
    field_of,
    ids_by,
    in_scale,
    mean_figure,
    means,
    named,
    texts_of,
    with_metric,
)
from g2vlm.eval.benchmarks.base import CORRECTED, Figure, Item, Outcome, QuestionItem
from g2vlm.eval.public_answers import first_capital, ranked_letter
from g2vlm.prompts import PROMPTS

LETTERS = "ABCD"
GROUPS = ("domain", "sub_category", "task_type")
"""Columns that scores are listed by, beside the duration."""

SUFFIXES = (".mp4", ".MP4", ".mkv")


def item_of(row: Row, data: Path, index: int) -> QuestionItem:
    id, duration = field_of(row, "question_id"), field_of(row, "duration")
    for column in GROUPS:
        field_of(row, column)
    if field_of(row, "answer") not in [*LETTERS]:
        raise BadRow(f"answer is none of {', '.join(LETTERS)}", row["answer"])
    lines = [PROMPTS["videomme_instruction"], field_of(row, "question"), *texts_of(row, "options")]
    prompt = "\n".join([*lines, PROMPTS["videomme"]])
    video = video_of(field_of(row, "videoID"), data)
    return QuestionItem(id, duration, (video,), row, prompt, 16, PROMPTS["system"])


def video_of(name: str, data: Path) -> Path:
    """The first of its files that is there; where none is, the one that is looked for first."""
    places = [data / "data" / f"{name}{suffix}" for suffix in SUFFIXES]
    return next((place for place in places if place.is_file()), places[0])


def truth_of(item: Item) -> str:
    return item.row["answer"]


def options_of(item: Item) -> list[str]:
    """Texts of the options, which are published with their letters: "A. Apples."."""
    return [
        option.removeprefix(f"{letter}.").strip() for letter, option in zip(LETTERS, item.row["options"], strict=False)
    ]


def answered_only(score: Scorer) -> Scorer:
    """The same, but what cannot be read is left out of every denominator."""

    def scored(item: QuestionItem, reply: Reply) -> Outcome:
        outcome = score(item, reply)
        return replace(outcome, status="skipped", scores={}) if outcome.status == "unparsed" else outcome

    return scored


def by_columns(figures: Aggregator) -> Aggregator:
    """Those numbers, and means over groups of other columns."""

    def more(items: Sequence[Item], outcomes: Outcomes) -> list[Figure]:
        counted = with_metric(items, outcomes)
        return figures(items, outcomes) + [
            mean_figure(f"groups/{column}/{group}", outcomes, [[ids]])
            for column in GROUPS
            for group, ids in ids_by(counted, lambda item, column=column: item.row[column]).items()
        ]

    return more


_first_capital = comparing(partial(first_capital, letters=LETTERS), truth_of)
_figures = in_scale(100, by_columns(means))

VIDEO_MME = QuestionBenchmark(
    name="videomme",
    title="Video-MME",
    reference="Fu et al., Video-MME, 2024, arXiv 2405.21075",
    licence="as BradyFU/Video-MME says: for academic research only",
    layout="the hub's lmms-lab/Video-MME, its archives unpacked:\n"
    "  videomme/test-00000-of-00001.parquet\n  data/<videoID>.mp4",
    ids="the column question_id",
    files=("videomme/test-*.parquet", "test-*.parquet", "*.parquet", "*.jsonl"),
    item_of=item_of,
    rules=named(
        QuestionRule(
            CORRECTED,
            "a careful reader of letters, and of the words of an option",
            score=choosing(options_of, truth_of),
            figures=_figures,
        ),
        QuestionRule(
            "public_lmms_eval",
            "EvolvingLMMs-Lab/lmms-eval 0.7.3, lmms_eval/tasks/videomme/utils.py, videomme_process_results (extract_mcq_answer)",
            score=comparing(ranked_letter, truth_of),
            figures=_figures,
        ),
        QuestionRule(
            "public_spatialstack",
            "SpatialStack, src/lmms_eval/tasks/videomme/utils.py of phamquandung/SpatialStack f1c3dd8, videomme_process_results; lmms-eval "
            "read replies in this way until 0696573",
            score=_first_capital,
            figures=_figures,
        ),
        QuestionRule(
            "public_official",
            "BradyFU/Video-MME 4e7566d, evaluation/eval_your_results.py: read like SpatialStack's, but what is not read counts nowhere",
            score=answered_only(_first_capital),
            figures=_figures,
        ),
        public="public_spatialstack",
    ),
)
