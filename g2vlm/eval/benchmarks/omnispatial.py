"""OmniSpatial (Jia et al. 2025): 1533 questions about single pictures, in four tasks and ten parts of them."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from g2vlm.data.rows import BadRow
from g2vlm.eval.benchmarks.asking import (
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
    named,
    texts_of,
    with_metric,
)
from g2vlm.eval.benchmarks.base import Figure, Item, QuestionItem
from g2vlm.eval.public_answers import answer_line, first_character, json_answer, kit_letter, tagged_first_character
from g2vlm.prompts import PROMPTS

EPSILON = 1e-6
"""Which the authors' report adds to every count."""


def item_of(row: Row, data: Path, index: int) -> QuestionItem:
    """The picture follows from the number: 12_3 is the third question about 12.png of its task."""
    number, task = field_of(row, "id"), field_of(row, "task_type")
    options, answer = texts_of(row, "options"), field_of(row, "answer", int)
    if not 0 <= answer < len(options):
        raise BadRow("answer is none of the options", f"{answer} of {len(options)}")
    prompt = "\n".join([field_of(row, "question"), *lettered(options), PROMPTS["answer_line"]])
    return QuestionItem(
        id=f"{task}_{number}",
        kind=f"{task}/{field_of(row, 'sub_task_type')}",
        media=(data / task / f"{number.split('_')[0]}.png",),
        row=row,
        prompt=prompt,
        max_new_tokens=8192,
        system=PROMPTS["system"],
    )


def truth_of(item: Item) -> str:
    return chr(ord("A") + item.row["answer"])


def task_of(item: Item) -> str:
    return item.row["task_type"]


def options_of(item: Item) -> Sequence[str]:
    return item.row["options"]


def line_or_a(reply: str) -> str:
    return answer_line(reply) or "A"


def line_in_capitals(reply: str) -> str | None:
    letter = answer_line(reply)
    return None if letter is None else letter.upper()


def figures(items: Sequence[Item], outcomes: Outcomes, *, scale: float = 1.0, epsilon: float = 0.0) -> list[Figure]:
    """Overall is the mean over all questions; groups are tasks and their parts."""
    counted = with_metric(items, outcomes)
    tasks, parts = ids_by(counted, task_of), ids_by(counted, kind_of)

    def figure(name: str, entries: list[list[list[str]]]) -> Figure:
        count = sum(len(kind) for entry in entries for kind in entry)
        return mean_figure(name, outcomes, entries, scale=scale * count / (count + epsilon) if count else scale)

    everything = [[[item.id for item in counted]]]
    return [
        figure("overall", everything),
        figure("micro", everything),
        figure("macro", [[ids] for ids in parts.values()]),
        *(figure(f"groups/{name}", [[ids]]) for name, ids in (tasks | parts).items()),
    ]


def _official(name: str, extract: Callable[[str], str | None]) -> QuestionRule:
    return QuestionRule(
        f"public_official_{name}",
        f"qizekun/OmniSpatial 208bac2, api_eval.py, process_info with eval_type={name}, one repeat",
        score=comparing(extract, truth_of),
        figures=partial(figures, scale=100.0, epsilon=EPSILON),
    )


def _lmms(name: str, extract: Callable[[str], str | None], task: str = "omnispatial") -> QuestionRule:
    return QuestionRule(
        f"public_lmms_eval_{name}",
        f"EvolvingLMMs-Lab/lmms-eval 75571cf, lmms_eval/tasks/{task}/utils.py, {task}_process_results",
        score=comparing(extract, truth_of),
        figures=figures,
    )


RULES = named(
    QuestionRule(
        "corrected",
        "a careful reader of letters, and of the words of an option",
        score=choosing(options_of, truth_of),
        figures=figures,
    ),
    QuestionRule(
        "corrected_no_match",
        "the authors' answer line; a reply without one is wrong instead of A",
        score=comparing(answer_line, truth_of),
        figures=partial(figures, scale=100.0),
    ),
    QuestionRule(
        "corrected_no_match_case",
        "the same, and the letter counts in either case, as the authors' pattern means it",
        score=comparing(line_in_capitals, truth_of),
        figures=partial(figures, scale=100.0),
    ),
    _official("re", line_or_a),
    _official("json", json_answer),
    _official("direct", first_character),
    _lmms("re", line_or_a),
    _lmms("json", json_answer),
    _lmms("direct", first_character),
    _lmms("omni_spatial", tagged_first_character, "omni_spatial"),
    QuestionRule(
        "public_vlmevalkit",
        "open-compass/VLMEvalKit e8e78f0, vlmeval/dataset/utils/spatial_bench/cal_scores.py, compute_mcq_score",
        score=comparing(kit_letter, truth_of),
        figures=figures,
    ),
    public="public_official_re",
)

OMNISPATIAL = QuestionBenchmark(
    name="omnispatial",
    title="OmniSpatial",
    reference="Jia et al., OmniSpatial, 2025, arXiv:2506.03135",
    licence="as stated by qizekun/OmniSpatial on the hub",
    layout="""DATA/
  data.json                         of the test split (qizekun/OmniSpatial)
  Complex_Logic/12.png, Dynamic_Reasoning/… Perspective_Taking/… Spatial_Interaction/…     its pictures""",
    ids="task_type and id, as in Dynamic_Reasoning_12_3",
    files=("data.json", "data.jsonl"),
    item_of=item_of,
    rules=RULES,
)
