"""VSI-Bench (Yang et al. 2024): 5130 questions about videos of rooms, of eight kinds, half of them answered by numbers."""

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np

from g2vlm.data.rows import BadRow
from g2vlm.data.vqa import bare
from g2vlm.eval.answers import choice_of, number_of
from g2vlm.eval.benchmarks.asking import (
    Outcomes,
    QuestionBenchmark,
    QuestionRule,
    Reply,
    Row,
    failed,
    field_of,
    graded,
    ids_by,
    kind_of,
    mean_figure,
    missing_figure,
    named,
    texts_of,
    with_metric,
)
from g2vlm.eval.benchmarks.base import Figure, Item, Outcome, QuestionItem
from g2vlm.eval.metrics.answers import THRESHOLDS, mean_relative_accuracy
from g2vlm.eval.public_answers import as_float, first_number, first_word, kit_letter, kit_number
from g2vlm.prompts import PROMPTS

DIRECTION = "object_rel_direction"
DIRECTIONS = tuple(f"{DIRECTION}_{level}" for level in ("easy", "medium", "hard"))
CHOICES = (*DIRECTIONS, "object_rel_distance", "route_planning", "obj_appearance_order")
NUMBERS = ("object_abs_distance", "object_counting", "object_size_estimation", "room_size_estimation")


def item_of(row: Row, data: Path, index: int) -> QuestionItem:
    kind, question = field_of(row, "question_type"), field_of(row, "question")
    if kind not in CHOICES + NUMBERS:
        raise BadRow("question_type is unknown", kind)
    asked = [PROMPTS["video_frames"], question]
    if kind in CHOICES:
        asked += ["Options:", *texts_of(row, "options"), PROMPTS["choice"]]
    else:
        asked.append(PROMPTS["number"])
    field_of(row, "ground_truth", (str, int, float))
    video = data / field_of(row, "dataset") / f"{field_of(row, 'scene_name')}.mp4"
    return QuestionItem(str(row.get("id", index)), kind, (video,), row, "\n".join(asked), 16, PROMPTS["system"])


# --- what a reply is worth --------------------------------------------------------------------------------------------


def truth_of(item: Item) -> str:
    return str(item.row["ground_truth"])


def is_choice(item: Item) -> bool:
    return item.kind in CHOICES


def published_accuracy(said: float, truth: float) -> float:
    """MRA as published: the error is divided by the truth itself, so that a truth of 0 stops the run."""
    return float((abs(said - truth) / truth <= 1 - THRESHOLDS).mean())


def accuracy(said: float, truth: float) -> float:
    return float(mean_relative_accuracy(np.array([said]), np.array([truth]))[0])


def exact_accuracy(said: float, truth: str) -> float:
    """MRA of the decimal digits as they are written: an answer that is 10 % off passes the bins that it should, whatever its bits."""
    wanted = Fraction(truth)
    error = abs(Fraction(repr(said)) - wanted) / (abs(wanted) or 1)
    return sum(error <= 1 - Fraction(50 + 5 * i, 100) for i in range(10)) / 10


def read(reply: Reply, item: Item) -> str | float | None:
    """The letter, or the number, that a careful reader finds."""
    if is_choice(item):
        return choice_of(reply.text or "", [bare(option) for option in item.row["options"]])
    return number_of(reply.text or "")


def corrected(item: QuestionItem, reply: Reply, *, is_exact: bool = False) -> Outcome:
    said = read(reply, item)
    if said is None or isinstance(said, str):
        return graded(item, said, said == truth_of(item))
    truth = as_float(truth_of(item))
    if truth is None or not math.isfinite(truth):
        return failed(item, f"its answer is no number: {truth_of(item)!r}", f"{said:.15g}")
    score = exact_accuracy(said, truth_of(item)) if is_exact else accuracy(said, truth)
    return graded(item, f"{said:.15g}", score)


def first_words(item: QuestionItem, reply: Reply, number: Callable[[str], float | None]) -> Outcome:
    """As lmms-eval and its forks: the first word is the choice; a number that none can be divided by stops the run."""
    text = reply.text or ""
    if is_choice(item):
        word = first_word(text)
        return graded(item, word, word.lower() == truth_of(item).lower())
    said, truth = number(text), as_float(truth_of(item))
    extracted = first_word(text) if number is number_in_first_word else None if said is None else f"{said}"
    if said is None or truth is None:
        return graded(item, extracted, 0.0)
    if truth == 0:
        return failed(item, "ZeroDivisionError: float division by zero", extracted)
    return graded(item, extracted, published_accuracy(said, truth))


def number_in_first_word(text: str) -> float | None:
    return as_float(first_word(text))


def kit(item: QuestionItem, reply: Reply) -> Outcome:
    """As VLMEvalKit, which reads the truth by the rules for replies too."""
    if is_choice(item):
        said, wanted = kit_letter(reply.text or ""), kit_letter(truth_of(item))
        return graded(item, said, said == wanted)
    number, truth = kit_number(reply.text or ""), as_float(truth_of(item))
    if number is None or truth is None or math.isnan(truth):
        return graded(item, None if number is None else f"{number}", 0.0)
    return graded(item, f"{number}", accuracy(number, truth))


# --- figures ----------------------------------------------------------------------------------------------------------


def entries_by_group(types: Mapping[str, list[str]]) -> dict[str, list[list[str]]]:
    """Ids of items by entry of the overall mean, and in it by type: the directions, as many as there are, share one."""
    entries: dict[str, list[list[str]]] = {}
    for kind in (*NUMBERS, *CHOICES):
        if kind in types:
            entries.setdefault(DIRECTION if kind in DIRECTIONS else kind, []).append(types[kind])
    return entries


def figures(items: Sequence[Item], outcomes: Outcomes, *, scale: float = 1.0) -> list[Figure]:
    """Overall is the mean over the eight groups, or over those that there are."""
    types = ids_by(with_metric(items, outcomes), kind_of)
    return figures_of(types, entries_by_group(types), outcomes, scale)


def figures_of(
    types: Mapping[str, list[str]], groups: Mapping[str, list[list[str]]], outcomes: Outcomes, scale: float
) -> list[Figure]:
    everything = [id for ids in types.values() for id in ids]
    make = partial(mean_figure, outcomes=outcomes, scale=scale)
    return [
        make("overall", entries=[*groups.values()]),
        make("micro", entries=[[everything]]),
        make("macro", entries=[[ids] for ids in types.values()]),
        *(make(f"groups/{name}", entries=[entry]) for name, entry in groups.items()),
        *(make(f"types/{name}", entries=[[ids]]) for name, ids in types.items()),
    ]


def first_figures(items: Sequence[Item], outcomes: Outcomes) -> list[Figure]:
    """As thinking-in-space: without easy directions, those that there are count as groups of their own."""
    types = ids_by(with_metric(items, outcomes), kind_of)
    groups = entries_by_group(types)
    missing = [kind for kind in DIRECTIONS if kind not in types]
    if DIRECTIONS[0] in missing:
        groups = {name: entry for name, entry in groups.items() if name != DIRECTION}
        groups |= {kind: [types[kind]] for kind in DIRECTIONS if kind in types}
    elif missing:
        return stopped(types, outcomes, missing, 100.0)
    return figures_of(types, groups, outcomes, 100.0)


def lmms_figures(items: Sequence[Item], outcomes: Outcomes) -> list[Figure]:
    """As lmms-eval, which stops where any direction is missing; it rounds to six digits, which is left out here."""
    types = ids_by(with_metric(items, outcomes), kind_of)
    if missing := [kind for kind in DIRECTIONS if kind not in types]:
        return stopped(types, outcomes, missing, 1.0)
    return figures_of(types, entries_by_group(types), outcomes, 1.0)


def stopped(types: Mapping[str, list[str]], outcomes: Outcomes, missing: Sequence[str], scale: float) -> list[Figure]:
    overall = missing_figure("overall", f"KeyError: the harness stops without {missing[0]}")
    return [overall, *(mean_figure(f"types/{name}", outcomes, [[ids]], scale=scale) for name, ids in types.items())]


_LMMS = "lmms_eval/tasks/vsibench/utils.py, vsibench_process_results, "

RULES = named(
    QuestionRule(
        "corrected",
        "a careful reader of letters and numbers; a truth of 0 is compared by the error itself; directions that are missing are left out",
        score=corrected,
        figures=figures,
    ),
    QuestionRule(
        "corrected_exact_boundary",
        "as corrected, numbers compared in exact arithmetic of their decimal digits",
        score=partial(corrected, is_exact=True),
        figures=figures,
    ),
    QuestionRule(
        "public_thinking_in_space",
        f"vision-x-nyu/thinking-in-space 51e089c, {_LMMS}vsibench_aggregate_results",
        score=partial(first_words, number=number_in_first_word),
        figures=first_figures,
    ),
    QuestionRule(
        "public_spatialstack",
        f"jzh15/SpatialStack af810b2, src/{_LMMS}vsibench_aggregate_results",
        score=partial(first_words, number=number_in_first_word),
        figures=partial(figures, scale=100.0),
    ),
    QuestionRule(
        "public_lmms_eval",
        f"EvolvingLMMs-Lab/lmms-eval 75571cf, {_LMMS}vsibench_aggregate_overall",
        score=partial(first_words, number=first_number),
        figures=lmms_figures,
    ),
    QuestionRule(
        "public_vlmevalkit",
        "open-compass/VLMEvalKit e8e78f0, vlmeval/dataset/utils/spatial_bench/cal_scores.py, compute_mcq_score and compute_na_score",
        score=kit,
        figures=figures,
    ),
    public="public_thinking_in_space",
)

VSIBENCH = QuestionBenchmark(
    name="vsibench",
    title="VSI-Bench",
    reference="Yang et al., Thinking in Space, 2024, arXiv:2412.14171",
    licence="questions Apache-2.0 (nyu-visionx/VSI-Bench); videos of ScanNet, ScanNet++ and ARKitScenes under their own terms",
    layout="""DATA/
  test.jsonl, or test-*.parquet     as on the hub (nyu-visionx/VSI-Bench)
  scannet/scene0011_00.mp4          videos by data set and scene; a folder of frames of that name will do
  scannetpp/… arkitscenes/…""",
    ids="the column id; the number of the row, from 0, where there is none",
    files=("test.jsonl", "test-*.parquet", "data/test-*.parquet"),
    item_of=item_of,
    rules=RULES,
)
