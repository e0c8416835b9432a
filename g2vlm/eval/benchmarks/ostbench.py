"""OST-Bench: what an agent that walks through a room has seen so far; judgements, estimates, counts and moments."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from g2vlm.data.rows import BadRow
from g2vlm.eval.answers import number_of, plain
from g2vlm.eval.benchmarks.asking import (
    Aggregator,
    Outcomes,
    QuestionBenchmark,
    QuestionRule,
    Reply,
    Row,
    Scorer,
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
from g2vlm.eval.benchmarks.base import CORRECTED, Figure, Item, Outcome, QuestionItem
from g2vlm.eval.benchmarks.pictures import pictures_of
from g2vlm.prompts import PROMPTS

SHORT = 15
"""Pictures up to which G2VLM's paper asks."""

UNSCORED = "None"
"""The kind of room sizes, which were published and are not asked."""

THRESHOLDS = tuple(1 - (0.5 + 0.05 * i) for i in range(10))
"""Largest relative errors, which are excluded themselves. The last bits differ from VSI-Bench's."""

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

_DIRECTIONS = tuple(f"Agent_object_spatial-direction(Judgement{i})" for i in (1, 2, 3))
_DISTANCES = tuple(f"Agent_object_spatial-distance(Judgement{i})" for i in (1, 2, 3))
_MOMENTS = tuple(f"Agent_visible_info-existence(Temporal-loc{i})" for i in (1, 2))

Entry = tuple[str, ...]
"""Kinds that share one entry of a mean."""


def _single(stem: str, form: str, *whats: str) -> tuple[Entry, ...]:
    return tuple((f"{stem}-{what}({form})",) for what in whats)


PARTS: dict[str, tuple[Entry, ...]] = {
    "A_state(Judge)": _single("Agent_state", "Judgement", "orientation", "position"),
    "A_state(Esti)": _single("Agent_state", "Estimation", "orientation", "position"),
    "A_info(Judge)": _single("Agent_visible_info", "Judgement", "existence", "order", "diversity"),
    "A_info(Temp)": (_MOMENTS,),
    "A_info(Count)": _single("Agent_visible_info", "Counting", "quantity"),
    "AO(Judge)": (_DIRECTIONS, _DISTANCES),
    "AO(Esti)": _single("Agent_object_spatial", "Estimation", "direction", "distance"),
    "AO(Temp)": _single("Agent_object_spatial", "Temporal-loc", "direction", "distance"),
}
"""Eight parts, whose mean is the overall score; each is a mean over entries."""

FORMS: dict[str, tuple[Entry, ...]] = {
    "Judgement": PARTS["AO(Judge)"] + PARTS["A_info(Judge)"] + PARTS["A_state(Judge)"],
    "Estimation": PARTS["AO(Esti)"] + PARTS["A_state(Esti)"],
    "Temporal-loc": PARTS["A_info(Temp)"] + PARTS["AO(Temp)"],
    "Counting": PARTS["A_info(Count)"],
}
"""The same entries by the form of the answer."""

JOINED: dict[str, tuple[Entry, ...]] = {
    "Agent_object_spatial-direction(Judgement)": (_DIRECTIONS,),
    "Agent_object_spatial-distance(Judgement)": (_DISTANCES,),
    "Agent_visible_info-existence(Temporal-loc)": (_MOMENTS,),
}

OVERALL: tuple[Entry, ...] = tuple(tuple(kind for entry in part for kind in entry) for part in PARTS.values())
"""Each part as one entry of kinds: within a part, all entries have equally many."""


# --- rows -------------------------------------------------------------------------------------------------------------


def item_of(row: Row, data: Path, index: int) -> QuestionItem:
    scan, turn = field_of(row, "scan_id"), field_of(row, "turn_id", int)
    kind = kind_named(field_of(row, "type"))
    field_of(row, "answer", (str, int, float))
    if "Judgement" in kind and not texts_of(row, "option"):
        raise BadRow("option is empty")
    asked = field_of(row, "user_message" if "user_message" in row else "origin_question")
    prompt = (
        f"{row['system_prompt']}\n{asked}" if row.get("system_prompt") else asked
    )  # no system line, as in the baselines
    pictures = pictures_of(row, "new_observations", data / "images", f"{scan}_{turn}")
    return QuestionItem(f"{scan}_{turn}", kind, pictures, row, prompt, 4096, PROMPTS["system"])


def kind_named(name: str) -> str:
    """A type in the words of the authors' evaluator; VLMEvalKit's file has older ones, as "AO_direction(option1)"."""
    if name == "A_room-size(float)":
        return UNSCORED
    whole = "Counting" if "quantity" in name else "Temporal-loc"
    for old, new in (
        *(("float", "Estimation"), ("int", whole), ("option", "Judgement")),
        *(("A_object-", "Agent_visible_info-"), ("AO_", "Agent_object_spatial-"), ("A_", "Agent_state-")),
    ):
        name = name.replace(old, new)
    return name


@dataclass(frozen=True)
class OstBenchmark(QuestionBenchmark):
    """Rows have the pictures that are new in a turn; a question is about all that the agent has seen until then."""

    def items(self, data: Path) -> list[QuestionItem]:
        items = super().items(data)
        seen: dict[str, tuple[Path, ...]] = {}
        media = {}
        for item in sorted(items, key=lambda item: item.row["turn_id"]):
            scan = item.row["scan_id"]
            media[item.id] = seen[scan] = seen.get(scan, ()) + item.media
        return [replace(item, media=media[item.id]) for item in items]


# --- what replies say -------------------------------------------------------------------------------------------------


def public_answer(reply: str) -> str:
    """What a reply gives as its answer: behind "answer:" and before the reason, on one line, where it has both; else all of it."""
    text = reply.replace("'", '"')
    if "reason" in text and "answer" in text:
        for mark, reason in (('"answer":', '"reason"'), ("answer:", "reason")):
            if mark in text:
                text = text.split(mark)[1].split(reason)[0].split("\n")[0].strip().strip(",").strip()
                break
        else:
            text = ""
    return text.strip('"')


def common_length(first: str, second: str) -> int:
    """Characters of the longest common subsequence."""
    row = [0] * (len(second) + 1)
    for a in first:
        above = row
        row = [0]
        for i, b in enumerate(second):
            row.append(above[i] + 1 if a == b else max(above[i + 1], row[i]))
    return row[-1]


def likeness(said: str, options: Sequence[str]) -> list[int]:
    said = said.strip().lower()
    return [common_length(said, option.strip().lower()) for option in options]


def number_from_word(said: str) -> int | None:
    """The first of the words from zero to ten that a text holds anywhere: "phone" holds one."""
    return next((i for i, word in enumerate(WORDS) if word in said.lower()), None)


_NOTHING = "#N/A #NA -1.#IND -1.#QNAN -NaN -nan 1.#IND 1.#QNAN <NA> N/A NA NULL NaN None n/a nan null"
MISSING = frozenset(("", "#N/A N/A", *_NOTHING.split()))
"""Cells that pandas reads from a spreadsheet as nothing."""


def reply_in_sheet(reply: str) -> str | None:
    """A reply as VLMEvalKit reads it back; an empty one has become "nan", and a failed call counts nowhere."""
    if "Failed" in reply:
        return None
    return "nan" if reply in MISSING else reply


def relative_score(said: float, truth: float) -> float:
    error = abs(truth - said) / abs(truth)
    return 0.1 * sum(error < most for most in THRESHOLDS)


# --- rules ------------------------------------------------------------------------------------------------------------


def public_score(*, whole_of: Callable[[str], int], reply_of: Callable[[str], str | None]) -> Scorer:
    """whole_of: reads digits as a whole number. reply_of: the reply that is scored, or None where it counts nowhere."""

    def score(item: QuestionItem, reply: Reply) -> Outcome:
        text = reply_of(str(reply.text))
        if text is None or item.kind == UNSCORED:
            return Outcome(item.kind, "skipped", {}, note="no reply" if text is None else "not asked")
        said = public_answer(text)
        if "Estimation" in item.kind:
            return _public_estimate(item, said)
        if "Judgement" in item.kind:
            return _public_judgement(item, said)
        if "Counting" in item.kind or "Temporal-loc" in item.kind:
            return _public_whole(item, said, whole_of)
        return Outcome(item.kind, "skipped", {}, note="no such type")

    return score


official_score = public_score(whole_of=lambda text: int(float(text)), reply_of=lambda text: text or None)


def answered_score(item: QuestionItem, reply: Reply) -> Outcome:
    """As the authors score, but an empty reply is wrong and counts."""
    is_wrong = item.kind != UNSCORED and not (reply.text or "").strip()
    return graded(item, None, 0) if is_wrong else official_score(item, reply)


def _public_judgement(item: QuestionItem, said: str) -> Outcome:
    truth, options = str(item.row["answer"]).replace('"', ""), item.row["option"]
    if truth not in options:
        return failed(item, "AssertionError: ", said)
    like = likeness(said, options)
    return graded(item, said, options[like.index(max(like))] == truth)


def _public_estimate(item: QuestionItem, said: str) -> Outcome:
    try:
        number, truth = float(said), float(item.row["answer"])
    except ValueError:
        return replace(graded(item, None, 0), extracted=said)
    if truth == 0:
        return failed(item, "ZeroDivisionError: float division by zero", said)
    return graded(item, said, relative_score(number, truth))


def _public_whole(item: QuestionItem, said: str, whole_of: Callable[[str], int]) -> Outcome:
    word = number_from_word(said)
    try:
        number = whole_of(said) if word is None else word
        truth = int(float(item.row["answer"]))
    except (ValueError, OverflowError):
        return replace(graded(item, None, 0), extracted=said)
    return graded(item, said, number == truth)


def corrected_score(item: QuestionItem, reply: Reply) -> Outcome:
    """As the authors score, but what is not said scores 0 and is counted, and nothing is taken for an answer that is none.

    An option is the only one that is said, else the one that is most like the reply, if it is alone in that; number words are whole words,
    and 2.9 is not 2.
    """
    said = public_answer(plain(reply.text or ""))
    if "Judgement" in item.kind:
        return _judgement(item, said)
    if item.kind == UNSCORED or not any(form in item.kind for form in FORMS):
        return Outcome(item.kind, "skipped", {}, note="not asked")
    try:
        truth = float(item.row["answer"])
    except ValueError:
        return failed(item, f"its answer is no number: {item.row['answer']!r}")
    number = number_of(said)
    if number is None:
        return graded(item, None, 0)
    is_relative = "Estimation" in item.kind and truth != 0
    return graded(item, f"{number:g}", relative_score(number, truth) if is_relative else number == truth)


def _judgement(item: QuestionItem, said: str) -> Outcome:
    truth, options = str(item.row["answer"]).replace('"', ""), item.row["option"]
    said_ones = [option for option in options if re.search(rf"\b{re.escape(option.strip())}\b", said, re.IGNORECASE)]
    like = likeness(said, options)
    best = [option for option, length in zip(options, like, strict=True) if length == max(like) > 0]
    chosen = next((found[0] for found in (said_ones, best) if len(found) == 1), None)
    return graded(item, chosen, chosen == truth)


# --- figures ----------------------------------------------------------------------------------------------------------


def figures_with(*, is_whole: bool) -> Aggregator:
    """is_whole: where a kind is missing, there is no overall score, nor any part; otherwise means are over the kinds that are there."""

    def figures(items: Sequence[Item], outcomes: Outcomes) -> list[Figure]:
        counted = with_metric(items, outcomes)
        kinds = ids_by(counted, kind_of)
        short = ids_by((item for item in counted if 0 < len(item.media) <= SHORT), kind_of)
        lost = [kind for entry in OVERALL for kind in entry if kind not in kinds] if is_whole else []

        def of(name: str, entries: Sequence[Entry], ids: Mapping[str, Sequence[str]] = kinds) -> Figure:
            if lost:
                return missing_figure(name, f"KeyError: {lost[0]!r}")
            found = [[ids[kind] for kind in entry if kind in ids] for entry in entries]
            return mean_figure(name, outcomes, [entry for entry in found if entry])

        return [
            of("overall", OVERALL),
            mean_figure("micro", outcomes, [[[item.id for item in counted]]]),
            mean_figure("macro", outcomes, [[ids] for ids in kinds.values()]),
            *(of(f"groups/{name}", entries) for name, entries in {**PARTS, **FORMS, **JOINED}.items()),
            *(mean_figure(f"groups/{kind}", outcomes, [[ids]]) for kind, ids in kinds.items()),
            *([of(f"groups/up to {SHORT} pictures", OVERALL, short)] if short else []),
        ]

    return figures


OST_BENCH = OstBenchmark(
    name="ostbench",
    title="OST-Bench",
    reference="Lin et al., OST-Bench, 2025, arXiv 2507.07984",
    licence="CC BY-NC 4.0; pictures of ScanNet, Matterport3D and ARKitScenes",
    layout="the hub's rbler/OST-Bench, its archive unpacked as images:\n  OST_bench.json\n  images/<scan_id>/<picture>.jpg",
    ids="scan_id and turn_id, as in scene0000_00_3",
    files=("OST_bench.json", "*.json", "*.jsonl"),
    item_of=item_of,
    rules=named(
        QuestionRule(
            CORRECTED,
            "the authors' rule, but an empty reply is wrong, no option is guessed, numbers are read by g2vlm/eval/answers.py, and means "
            "are over the kinds that are there",
            score=corrected_score,
            figures=figures_with(is_whole=False),
        ),
        QuestionRule(
            "corrected_empty_only",
            "as public_official, but an empty reply is wrong and counts, and means are over the kinds that are there",
            score=answered_score,
            figures=figures_with(is_whole=False),
        ),
        QuestionRule(
            "public_official",
            "rbler1234/OST-Bench, evaluation/OST_evaluator.py, as of 5437457 but for whole numbers, which are int(float(text))",
            score=official_score,
            figures=figures_with(is_whole=True),
        ),
        QuestionRule(
            "public_vlmevalkit",
            "open-compass/VLMEvalKit, vlmeval/dataset, OSTDataset.evaluate: digits as int(text), replies read back from a spreadsheet",
            score=public_score(whole_of=int, reply_of=reply_in_sheet),
            figures=figures_with(is_whole=True),
        ),
        public="public_official",
    ),
)
