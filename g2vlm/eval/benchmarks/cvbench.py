"""CV-Bench: counting and relations in two dimensions, depth order and distance in three; single pictures and choices."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from g2vlm.data.rows import BadRow
from g2vlm.eval.benchmarks.asking import (
    Aggregator,
    Outcomes,
    QuestionBenchmark,
    QuestionRule,
    Row,
    choosing,
    comparing,
    field_of,
    ids_by,
    kind_of,
    lettered,
    mean_figure,
    missing_figure,
    named,
    texts_of,
    with_metric,
)
from g2vlm.eval.benchmarks.base import CORRECTED, Figure, Item, QuestionItem
from g2vlm.eval.benchmarks.pictures import pictures_of, without
from g2vlm.eval.public_answers import first_capital, leading_letter
from g2vlm.prompts import PROMPTS

PLANE, SPACE = ("ADE20K", "COCO"), ("Omni3D",)
"""Sources of the questions in two and in three dimensions; an answer counts by its source."""


def item_of(row: Row, data: Path, index: int) -> QuestionItem:
    id, task = str(field_of(row, "idx", (int, str))), field_of(row, "task")
    choices = texts_of(row, "choices")
    field_of(row, "source")
    if len(field_of(row, "answer").strip("()")) != 1:
        raise BadRow("answer is no letter in brackets", row["answer"])
    prompt = [PROMPTS["video_frames"], field_of(row, "question"), "Options:", *lettered(choices), PROMPTS["choice"]]
    pictures = pictures_of(row, "image", data, id)
    return QuestionItem(id, task, pictures, without(row, "image"), "\n".join(prompt), 16, PROMPTS["system"])


def choices_of(item: Item) -> Sequence[str]:
    return item.row["choices"]


def truth_of(item: Item) -> str:
    return item.row["answer"].strip("()")


def source_of(item: Item) -> str:
    return item.row["source"]


def mean_of_sources(
    name: str, halves: Sequence[Sequence[str]], sources: Mapping[str, list[str]], outcomes: Outcomes, *, scale: float
) -> Figure:
    """Mean over halves of the mean over their sources, of those that are there. sources: ids of items."""
    entries = [[sources[source] for source in half if source in sources] for half in halves]
    return mean_figure(name, outcomes, [entry for entry in entries if entry], scale=scale)


def figures_with(
    *, is_halved: bool = True, is_whole: bool = False, scale: float = 100, group_scale: float = 100
) -> Aggregator:
    """Overall is the mean of the halves, or over all items; the halves and tasks are groups.

    is_whole: a half of which a source is missing is no number, nor is their mean.
    """

    def figures(items: Sequence[Item], outcomes: Outcomes) -> list[Figure]:
        counted = with_metric(items, outcomes)
        sources, tasks = ids_by(counted, source_of), ids_by(counted, kind_of)

        def halved(name: str, *halves: Sequence[str], scale: float) -> Figure:
            lost = [source for half in halves for source in half if source not in sources]
            if is_whole and lost:
                return missing_figure(name, f"no question of {', '.join(lost)}")
            return mean_of_sources(name, halves, sources, outcomes, scale=scale)

        micro = [[[item.id for item in counted]]]
        return [
            halved("overall", PLANE, SPACE, scale=scale)
            if is_halved
            else mean_figure("overall", outcomes, micro, scale=scale),
            mean_figure("micro", outcomes, micro, scale=group_scale),
            mean_figure("macro", outcomes, [[ids] for ids in tasks.values()], scale=group_scale),
            halved("groups/accuracy_2d", PLANE, scale=group_scale),
            halved("groups/accuracy_3d", SPACE, scale=group_scale),
            halved("groups/combined_accuracy", PLANE, SPACE, scale=group_scale),
            *(
                mean_figure(f"groups/{name}", outcomes, [[ids]], scale=group_scale)
                for name, ids in {**tasks, **sources}.items()
            ),
        ]

    return figures


CV_BENCH = QuestionBenchmark(
    name="cvbench",
    title="CV-Bench",
    reference="Tong et al., Cambrian-1, 2024, arXiv 2406.16860",
    licence="as nyu-visionx/CV-Bench says; pictures of ADE20K, COCO and Omni3D",
    layout="the hub's nyu-visionx/CV-Bench:\n  test_2d.parquet\n  test_3d.parquet",
    ids="the column idx, as text",
    files=("test*.parquet", "*/test*.parquet", "*.parquet", "*.jsonl"),
    item_of=item_of,
    rules=named(
        QuestionRule(
            CORRECTED,
            "a careful reader of letters, and of the words of a choice",
            score=choosing(choices_of, truth_of),
            figures=figures_with(),
        ),
        QuestionRule(
            "public_lmms_eval",
            "EvolvingLMMs-Lab/lmms-eval bce8e24, lmms_eval/tasks/cv_bench/utils.py, cv_bench_process_results and "
            "cv_bench_aggregate_results: overall is the mean over all items, 0-1",
            score=comparing(leading_letter, truth_of),
            figures=figures_with(is_halved=False, is_whole=True, scale=1, group_scale=1),
        ),
        QuestionRule(
            "public_spatialstack",
            "SpatialStack, src/lmms_eval/tasks/cvbench/utils.py as vgg-llm/Point3R-LLM 7e49242 has it: overall 0-100, groups 0-1",
            score=comparing(first_capital, truth_of),
            figures=figures_with(is_whole=True, group_scale=1),
        ),
        QuestionRule(
            "public_vg_llm",
            "LaVi-Lab/VG-LLM, src/lmms_eval/tasks/cvbench/utils.py, of which SpatialStack's is a copy",
            score=comparing(first_capital, truth_of),
            figures=figures_with(is_whole=True, group_scale=1),
        ),
        public="public_spatialstack",
    ),
)
