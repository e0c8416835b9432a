"""SPAR-Bench: 20 tasks about depth, distance, relations and imagined views; choices, numbers, and one task of camera moves."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from g2vlm.data.rows import BadRow
from g2vlm.eval.answers import letter_of, number_of
from g2vlm.eval.benchmarks.asking import (
    Aggregator,
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
    named,
    with_metric,
)
from g2vlm.eval.benchmarks.base import CORRECTED, Figure, Item, Outcome, QuestionItem
from g2vlm.eval.benchmarks.pictures import pictures_of, without
from g2vlm.eval.metrics.answers import mean_relative_accuracy
from g2vlm.prompts import PROMPTS

NUMBERS = (
    *("depth_prediction_oc", "depth_prediction_oo", "distance_prediction_oc", "distance_prediction_oo"),
    *("depth_prediction_oc_mv", "depth_prediction_oo_mv", "distance_prediction_oc_mv", "distance_prediction_oo_mv"),
)
"""Low: tasks that are answered by a number of metres."""

MOVES = "view_change_infer"
"""The task that is answered by moves and turns of the camera, as "move_right:0.3,rotate_up:5"."""

MATCHES = ("position_matching", "camera_motion_infer")
"""Middle, beside the moves; their options are boxes and points."""

IMAGINED = (
    *("obj_spatial_relation_oo", "obj_spatial_relation_oc_mv", "obj_spatial_relation_oo_mv"),
    *("spatial_imagination_oc", "spatial_imagination_oo", "spatial_imagination_oc_mv", "spatial_imagination_oo_mv"),
    *("distance_infer_center_oo", "distance_infer_center_oo_mv"),
)
"""High."""

LEVELS = {"Low": NUMBERS, "Middle": (MOVES, *MATCHES), "High": IMAGINED}
SLIPPED = LEVELS | {"Middle": MATCHES}
"""Levels of the public code, which looks for the moves under the name view_change_infer_vci."""

AXES = (
    ("move_right", "move_left"),
    ("move_up", "move_down"),
    ("move_forward", "move_backward"),
    ("rotate_right", "rotate_left"),
    ("rotate_up", "rotate_down"),
)

NUM_OPTIONS = 4


def item_of(row: Row, data: Path, index: int) -> QuestionItem:
    task, id = field_of(row, "task"), str(field_of(row, "id", (int, str)))
    question = field_of(row, "question")
    field_of(row, "answer")
    if task in NUMBERS:
        prompt = f"\n{question}\n{PROMPTS['number']}"
    elif task == MOVES:
        prompt = f"\n{question}\n\n"
    elif task in (*MATCHES, *IMAGINED):
        prompt = f"\n{question}\n{PROMPTS['spar_boxes'] if task in MATCHES else ''}\n{PROMPTS['choice']}"
    else:
        raise BadRow("its task is none of SPAR-Bench's", task)
    pictures = pictures_of(row, "image", data, id)
    return QuestionItem(id, task, pictures, without(row, "image"), prompt, 100, PROMPTS["system"])


# --- what replies say -------------------------------------------------------------------------------------------------


def public_numbers(reply: str) -> list[float]:
    """Unsigned, and without a digit right behind ^: "10^2" is 10 alone."""
    return [float(found) for found in re.findall(r"(?<!\^)\d+(?:\.\d+)?", reply)]


def public_number(reply: str, task: str) -> float | None:
    """The first number, or the last one where there are several views."""
    numbers = public_numbers(reply)
    return (numbers[-1] if task.endswith("_mv") else numbers[0]) if numbers else None


def public_moves(text: str) -> dict[str, float] | None:
    """Pairs of `name:value` between commas, names with the blanks around them; None where anything is neither."""
    try:
        return {name: float(value) for name, value in (pair.split(":") for pair in text.split(","))}
    except ValueError:
        return None


def careful_moves(text: str) -> dict[str, float] | None:
    """All `name: value` of known names, wherever they stand; a name that is said twice counts as it is said last."""
    names = "|".join(name for axis in AXES for name in axis)
    found = re.findall(rf"\b({names})\b[\"'\s]*[:=][\"'\s]*([-+]?(?:\d+(?:\.\d+)?|\.\d+))", text, re.IGNORECASE)
    return {name.lower(): float(value) for name, value in found} or None


def along_axes(moves: dict[str, float]) -> np.ndarray:
    return np.array([moves.get(there, 0.0) - moves.get(back, 0.0) for there, back in AXES])


# --- rules ------------------------------------------------------------------------------------------------------------


def public_score(item: QuestionItem, reply: Reply) -> Outcome:
    """Any text that the letter contains is right, the empty one too; the moves are measured by what was predicted."""
    if reply.text is None:
        return failed(item, "AttributeError: 'NoneType' object has no attribute 'lower'")
    if item.kind == MOVES:
        return _moves(item, public_moves(reply.text), reply.text, is_swapped=True)
    if item.kind in NUMBERS:
        return _number(
            item, public_number(reply.text, item.kind), else_said=-1.0 if item.kind.endswith("_mv") else None
        )
    said, truth = reply.text.lower(), item.row["answer"].lower()
    return graded(item, reply.text, said in truth or said[0] == truth)


def corrected_score(item: QuestionItem, reply: Reply) -> Outcome:
    """As public, but a reply without content is wrong, and the moves are measured by the truth."""
    text = reply.text or ""
    if item.kind == MOVES:
        return _moves(item, public_moves(text), text)
    if item.kind in NUMBERS:
        return _number(item, public_number(text, item.kind))
    said, truth = text.lower(), item.row["answer"].lower()
    return graded(item, text.strip(), bool(said) and (said in truth or said[0] == truth))


def careful_score(item: QuestionItem, reply: Reply) -> Outcome:
    """As corrected, but a careful reader reads the reply: "Because" is no B, "-3" is not 3."""
    text = reply.text or ""
    if item.kind == MOVES:
        return _moves(item, careful_moves(text), text)
    if item.kind in NUMBERS:
        return _number(item, number_of(text))
    letter = letter_of(text, NUM_OPTIONS)
    return graded(item, letter, letter == item.row["answer"].strip().upper())


def _number(item: QuestionItem, said: float | None, *, else_said: float | None = None) -> Outcome:
    """else_said: what is scored in place of a number that was not said."""
    try:
        truth = float(item.row["answer"])
    except ValueError:
        return failed(item, f"its answer is no number: {item.row['answer']!r}")
    if said is not None:
        return graded(item, str(said), _accuracy(said, truth))
    if else_said is None:
        return graded(item, None, 0)
    return replace(graded(item, None, _accuracy(else_said, truth)), extracted=str(else_said))


def _moves(item: QuestionItem, said: dict[str, float] | None, text: str, *, is_swapped: bool = False) -> Outcome:
    truth = public_moves(item.row["answer"])
    if truth is None:
        return failed(item, f"its answer is no list of moves: {item.row['answer']!r}")
    if said is None:
        return graded(item, None, 0)
    predicted, wanted = along_axes(said), along_axes(truth)
    pair = (wanted, predicted) if is_swapped else (predicted, wanted)
    return graded(item, text, float(np.mean([_accuracy(*each) for each in zip(*pair, strict=True)])))


def _accuracy(said: float, truth: float) -> float:
    with np.errstate(invalid="ignore"):  # a model may say "inf"
        return float(mean_relative_accuracy(np.array([said]), np.array([truth]))[0])


# --- figures ----------------------------------------------------------------------------------------------------------


def figures_with(levels: Mapping[str, Sequence[str]], *, scale: float = 100) -> Aggregator:
    """Mean over tasks times 100; means over items, of levels (over their tasks) and of tasks times `scale`."""

    def figures(items: Sequence[Item], outcomes: Outcomes) -> list[Figure]:
        counted = with_metric(items, outcomes)
        tasks = ids_by(counted, kind_of)
        macro = [[ids] for ids in tasks.values()]
        parts = {level: [[tasks[task]] for task in of if task in tasks] for level, of in levels.items()}
        parts |= {task: [[ids]] for task, ids in tasks.items()}
        return [
            mean_figure("overall", outcomes, macro, scale=100),
            mean_figure("micro", outcomes, [[[item.id for item in counted]]], scale=scale),
            mean_figure("macro", outcomes, macro, scale=scale),
            *(mean_figure(f"groups/{name}", outcomes, entries, scale=scale) for name, entries in parts.items()),
        ]

    return figures


_public_figures = figures_with(SLIPPED, scale=1)

SPAR_BENCH = QuestionBenchmark(
    name="sparbench",
    title="SPAR-Bench",
    reference="Zhang et al., From Flatland to Space, 2025, arXiv 2503.22976",
    licence="as jasonzhango/SPAR-Bench says; ScanNet, ScanNet++ and Structured3D pictures are for research",
    layout="the hub's jasonzhango/SPAR-Bench, or a small version of it:\n  data/test-00000-of-00004.parquet and so on",
    files=("data/test-*.parquet", "test-*.parquet", "*.parquet", "*.jsonl"),
    item_of=item_of,
    rules=named(
        QuestionRule(
            CORRECTED,
            "lmms-eval's rule, but an empty reply is wrong, moves are measured by the truth, and Middle has them",
            score=corrected_score,
            figures=figures_with(LEVELS),
        ),
        QuestionRule(
            "public_lmms_eval",
            "EvolvingLMMs-Lab/lmms-eval 1741440, lmms_eval/tasks/sparbench/utils.py, sparbench_process_results",
            score=public_score,
            figures=_public_figures,
        ),
        QuestionRule(
            "public_spatialstack",
            "SpatialStack, src/lmms_eval/tasks/sparbench/utils.py of phamquandung/SpatialStack f1c3dd8: as lmms-eval",
            score=public_score,
            figures=_public_figures,
        ),
        QuestionRule(
            "careful",
            "as corrected, but replies are read by g2vlm/eval/answers.py",
            score=careful_score,
            figures=figures_with(LEVELS),
        ),
        public="public_lmms_eval",
    ),
)
