"""What all benchmarks of questions share: rows read into items, rules as pairs of functions, means over groups of items."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from g2vlm.data.rows import BadRow
from g2vlm.data.vqa import rows_of
from g2vlm.eval.answers import choice_of
from g2vlm.eval.benchmarks.base import CORRECTED, Figure, Item, Outcome, QuestionItem, Rule

Row = Mapping[str, Any]

Outcomes = Mapping[str, Outcome]
"""Outcomes by the id of their item."""


RANKED, JUDGEMENT = "answer_top10", "judge_reply"
"""Columns beside `prediction`, under the names of those who publish them: ScanQA and OpenEQA."""


@dataclass(frozen=True)
class Reply:
    """What was answered. text: None where nothing was. ranked: all answers of a model that ranks them, best first.

    judgement: what a judge said about the answer, where a benchmark asks one.
    """

    text: str | None
    ranked: tuple[str, ...] = ()
    judgement: str | None = None

    def as_record(self) -> dict[str, Any]:
        """As a line of recorded answers says it, see `recorded_reply`."""
        more = {RANKED: [*self.ranked] or None, JUDGEMENT: self.judgement}
        return {"prediction": self.text} | {name: value for name, value in more.items() if value is not None}


def recorded_reply(record: Mapping[str, Any]) -> Reply:
    """What a line of recorded answers says: `prediction`, and where there are such columns `answer_top10` and `judge_reply`.

    ValueError for what is neither text nor null.
    """
    text, ranked, judgement = record["prediction"], record.get(RANKED) or [], record.get(JUDGEMENT)
    for name, said in (("the prediction", text), (JUDGEMENT, judgement)):
        if not isinstance(said, str | None):
            raise ValueError(f"{name} is {said!r} and no text")  # noqa: TRY004, a file and no type is wrong
    if not isinstance(ranked, list) or not all(isinstance(each, str) for each in ranked):
        raise ValueError(f"{RANKED} is {ranked!r} and no list of texts")
    return Reply(text, tuple(ranked), judgement)


def reply_of(output: str | Reply | None) -> Reply:
    """Models say a text, recorded answers may say more."""
    return output if isinstance(output, Reply) else Reply(output)


Scorer = Callable[[QuestionItem, Reply], Outcome]
Aggregator = Callable[[Sequence[Item], Outcomes], list[Figure]]


@dataclass(frozen=True)
class QuestionRule(Rule):
    """score: what a reply is worth. figures: the numbers over many. is_null_scored: whether it says what an answer of null is worth."""

    score: Scorer = field(kw_only=True, repr=False)
    figures: Aggregator = field(kw_only=True, repr=False)
    is_null_scored: bool = field(default=False, kw_only=True)


def named(*rules: QuestionRule, public: str) -> dict[str, QuestionRule]:
    """Rules by name; `public` is another name of the one that most published numbers were made with."""
    by_name = {rule.name: rule for rule in rules}
    return by_name | {"public": replace(by_name[public], name="public")}


@dataclass(frozen=True)
class QuestionBenchmark:
    """A benchmark of questions; see `base.Benchmark`.

    files: patterns below the data folder; the first that matches anything holds the rows; one such file will do, its folder then holds the
    media. item_of: an item from a row, the folder and the number of the row; None for a row that is not asked here, BadRow for what cannot
    be used. ids: how an item's id follows from its row, for those who record answers.
    """

    name: str
    title: str
    reference: str
    licence: str
    layout: str
    ids: str
    files: tuple[str, ...]
    item_of: Callable[[Row, Path, int], QuestionItem | None] = field(repr=False)
    rules: Mapping[str, QuestionRule] = field(repr=False)
    parser_version: int = 1

    def items(self, data: Path) -> list[QuestionItem]:
        paths, data = ([data], data.parent) if data.is_file() else (self._paths(data), data)
        found: dict[str, QuestionItem] = {}
        for path in paths:
            rows = rows_of(path)
            for index in range(len(rows)):
                place = f"{path}:{index + 1}"
                try:
                    item = self.item_of(rows[index], data, len(found))
                except BadRow as error:
                    raise ValueError(f"{place}: {error}; download the file again") from error
                if item is None:
                    continue
                if item.id in found:
                    raise ValueError(f"{place}: id {item.id} is there twice; keep one of the two rows")
                found[item.id] = item
        if not found:
            raise ValueError(f"{', '.join(map(str, paths))}: no question of {self.title}; wanted is\n{self.layout}")
        return [*found.values()]

    def _paths(self, data: Path) -> list[Path]:
        for pattern in self.files:
            if paths := sorted(data.glob(pattern)):
                return paths
        raise ValueError(f"{data}: holds none of {', '.join(self.files)}; wanted is\n{self.layout}")

    def score(self, item: Item, output: str | Reply | None, rule: str = CORRECTED) -> Outcome:
        reply, chosen = reply_of(output), self._rule(rule)
        assert isinstance(item, QuestionItem), item
        return chosen.score(item, reply)

    def require_usable(self, output: str | Reply | None, rule: str) -> None:
        """ValueError for an answer of null where a rule does not say what that is worth."""
        if reply_of(output).text is None and not self._rule(rule).is_null_scored:
            raise ValueError(f"the prediction is null, and rule {rule} says nothing of that")

    def figures(self, items: Sequence[Item], outcomes: Outcomes, rule: str = CORRECTED) -> list[Figure]:
        return self._rule(rule).figures(items, outcomes)

    def _rule(self, name: str) -> QuestionRule:
        if name not in self.rules:
            raise ValueError(f"rule {name!r} is none of {self.title}'s; choose one of {', '.join(self.rules)}")
        return self.rules[name]


# --- rows -------------------------------------------------------------------------------------------------------------


def field_of(row: Row, key: str, kind: type | tuple[type, ...] = str) -> Any:
    """A value that has to be there and of such a type; BadRow names the column otherwise."""
    if key not in row:
        raise BadRow(f"has no column {key}", f"it has {', '.join(row)}")
    if not isinstance(row[key], kind):
        raise BadRow(f"{key} is no {_names(kind)}", f"it is {row[key]!r}"[:100])
    return row[key]


def texts_of(row: Row, key: str) -> list[str]:
    """A list of texts, such as options, that has to be there; BadRow names the column otherwise."""
    texts = field_of(row, key, list)
    if other := [text for text in texts if not isinstance(text, str)]:
        raise BadRow(f"{key} is no list of texts", f"{other[0]!r} is among them")
    return texts


def _names(kind: type | tuple[type, ...]) -> str:
    return " or ".join(each.__name__ for each in (kind if isinstance(kind, tuple) else (kind,)))


def lettered(options: Iterable[str]) -> list[str]:
    return [f"{chr(ord('A') + i)}. {option}" for i, option in enumerate(options)]


# --- outcomes ---------------------------------------------------------------------------------------------------------


def graded(item: Item, extracted: str | None, score: float | bool, **more: float) -> Outcome:
    """Of an answer that was read, or of none, which is counted as unparsed unless a public rule finds it right."""
    if extracted or score:
        return Outcome(item.kind, "scored", {"score": float(score), **more}, extracted)
    return Outcome(item.kind, "unparsed", {"score": 0.0, **more}, extracted, "no answer could be read")


def failed(item: Item, note: str, extracted: str | None = None) -> Outcome:
    return Outcome(item.kind, "failed", {}, extracted, note)


def choosing(options_of: Callable[[Item], Sequence[str]], truth_of: Callable[[Item], str]) -> Scorer:
    """A careful reader finds the option; truth_of gives its letter."""

    def score(item: QuestionItem, reply: Reply) -> Outcome:
        said = choice_of(reply.text or "", options_of(item))
        return graded(item, said, said == truth_of(item))

    return score


def comparing(extract: Callable[[str], str | None], truth_of: Callable[[Item], str]) -> Scorer:
    """What a harness reads out of a reply has to be the truth to the letter."""

    def score(item: QuestionItem, reply: Reply) -> Outcome:
        said = extract(reply.text or "")
        return graded(item, said, said == truth_of(item))

    return score


# --- figures ----------------------------------------------------------------------------------------------------------


def with_metric(items: Iterable[Item], outcomes: Outcomes, metric: str = "score") -> list[Item]:
    """Items that a mean is over: those that were answered, and neither skipped nor failed."""
    return [item for item in items if item.id in outcomes and metric in outcomes[item.id].scores]


def ids_by(items: Iterable[Item], group_of: Callable[[Item], str | None]) -> dict[str, list[str]]:
    """Ids of items by group, in the order in which groups come; None is of no group."""
    groups: dict[str, list[str]] = {}
    for item in items:
        if (group := group_of(item)) is not None:
            groups.setdefault(group, []).append(item.id)
    return groups


def kind_of(item: Item) -> str:
    return item.kind


Entries = Sequence[Sequence[Sequence[str]]]


def mean_figure(
    name: str, outcomes: Outcomes, entries: Entries, *, metric: str = "score", scale: float = 1.0
) -> Figure:
    """Mean over entries of the mean over kinds of the mean over items; NaN with a note where there is nothing."""
    count = sum(len(kind) for entry in entries for kind in entry)
    if not count:
        return missing_figure(name, "no outcome")
    means = [mean(mean(outcomes[id].scores[metric] for id in kind) for kind in entry) for entry in entries]
    return Figure(name, scale * mean(means), count, metric, scale, entries)


def missing_figure(name: str, why: str) -> Figure:
    return Figure(name, math.nan, 0, note=f"not computed: {why}")


def mean(values: Iterable[float]) -> float:
    found = [*values]
    return sum(found) / len(found)


def means(
    items: Iterable[Item],
    outcomes: Outcomes,
    *,
    group_of: Callable[[Item], str | None] = kind_of,
    overall: str = "micro",
    metric: str = "score",
    scale: float = 1.0,
) -> list[Figure]:
    """The mean over items, over groups, and of each group; "overall", the first, repeats one of the first two."""
    counted = with_metric(items, outcomes, metric)
    groups = ids_by(counted, group_of)
    entries = {"micro": [[[item.id for item in counted]]], "macro": [[ids] for ids in groups.values()]}
    return [
        *(
            mean_figure(name, outcomes, entries[of], metric=metric, scale=scale)
            for name, of in (("overall", overall), ("micro", "micro"), ("macro", "macro"))
        ),
        *(
            mean_figure(f"groups/{group}", outcomes, [[ids]], metric=metric, scale=scale)
            for group, ids in groups.items()
        ),
    ]


def in_scale(scale: float, figures: Aggregator) -> Aggregator:
    """The same numbers in another scale."""

    def scaled(items: Sequence[Item], outcomes: Outcomes) -> list[Figure]:
        return [replace(each, value=each.value * scale, scale=each.scale * scale) for each in figures(items, outcomes)]

    return scaled
