"""Two reports on the same questions side by side: by how much one exceeds the other, question by question."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from g2vlm.eval.comparison import markdown
from g2vlm.eval.metrics.answers import Interval, paired_difference
from g2vlm.eval.report import Report, between, number

DRAWS = 2000
"""Of the bootstrap: more would not fit into memory with the questions of the larger benchmarks."""

SAME = ("question_set_sha256", "frame_list_sha256", "parser_version")
"""What must be equal in two reports for their scores to be pairs; so must the rule's name."""


@dataclass(frozen=True)
class Pair:
    """One figure of both. ours, theirs: over the common items, and difference between them with its interval, in the figure's scale."""

    benchmark: str
    figure: str
    scale: float
    count: int
    ours: float
    theirs: float
    difference: float
    interval: Interval


def pairs(ours: Report, theirs: Report, *, names: tuple[str, str] = ("A", "B")) -> list[Pair]:
    """All figures of all benchmarks that both have and that are means over items, on the items that both have.

    Raises ValueError where there is no common benchmark, and where one was asked other questions or scored by another rule.
    """
    common = [name for name in ours["benchmarks"] if name in theirs["benchmarks"]]
    if not common:
        lists = (", ".join(report["benchmarks"]) for report in (ours, theirs))
        raise ValueError("no benchmark is in both reports: {} is on {}, {} on {}".format(*_zipped(names, lists)))
    return [
        pair for name in common for pair in _pairs_of(name, ours["benchmarks"][name], theirs["benchmarks"][name], names)
    ]


def _zipped(names: tuple[str, str], values: Iterator[Any]) -> list[Any]:
    return [part for both in zip(names, values, strict=True) for part in both]


def _pairs_of(name: str, ours: Mapping[str, Any], theirs: Mapping[str, Any], names: tuple[str, str]) -> Iterator[Pair]:
    terms = [{"rule": part["rule"]["name"], **{key: part[key] for key in SAME}} for part in (ours, theirs)]
    for key, value in terms[0].items():
        if value != terms[1][key]:
            raise ValueError(
                f"{name}: {key} is {value} in {names[0]}, but {terms[1][key]} in {names[1]}; such scores are no pairs: evaluate both "
                "with the same data and rule"
            )
    others = {figure["name"] for figure in theirs["figures"]}
    for figure in ours["figures"]:
        if figure["entries"] and figure["name"] in others:
            pair = _pair(name, figure, ours["scores"], theirs["scores"])
            if pair is not None:
                yield pair


def _pair(
    name: str,
    figure: Mapping[str, Any],
    ours: Mapping[str, Mapping[str, float]],
    theirs: Mapping[str, Mapping[str, float]],
) -> Pair | None:
    """None where a group of the figure has no common item: a mean without it would be another."""
    metric, scale = figure["metric"], figure["scale"]
    groups = {
        f"{i}.{j}": [id for id in ids if metric in ours.get(id, ()) and metric in theirs.get(id, ())]
        for i, entry in enumerate(figure["entries"])
        for j, ids in enumerate(entry)
    }
    if not all(groups.values()):
        return None
    entries = [[f"{i}.{j}" for j in range(len(entry))] for i, entry in enumerate(figure["entries"])]
    scores = [
        {key: np.array([each[id][metric] for id in ids]) for key, ids in groups.items()} for each in (ours, theirs)
    ]
    difference, interval = paired_difference(scores[0], scores[1], entries, draws=DRAWS)
    means = [
        scale * math.fsum(each[key].mean() / len(entry) / len(entries) for entry in entries for key in entry)
        for each in scores
    ]
    count = sum(len(ids) for ids in groups.values())
    low, high = interval
    return Pair(
        name, figure["name"], scale, count, means[0], means[1], scale * difference, Interval(scale * low, scale * high)
    )


def as_table(found: Sequence[Pair], names: tuple[str, str] = ("A", "B")) -> str:
    """Markdown; a difference whose interval leaves out zero is in bold."""
    columns = ["benchmark", "figure", "items", *names, f"{names[0]} - {names[1]}", "95 % interval"]
    rows = []
    for pair in found:
        difference = f"{'+' if pair.difference > 0 else ''}{number(pair.difference, pair.scale)}"
        is_clear = pair.interval.low > 0 or pair.interval.high < 0
        rows.append(
            [
                pair.benchmark,
                pair.figure,
                str(pair.count),
                number(pair.ours, pair.scale),
                number(pair.theirs, pair.scale),
                f"**{difference}**" if is_clear else difference,
                between(pair.interval, pair.scale),
            ]
        )
    return "\n".join(markdown(columns, rows))


def beside(ways: Mapping[str, Sequence[Pair]], of: str) -> str:
    """Markdown: the overall figure of several ways of asking, each paired with the first. of: what was asked."""
    rows = []
    for way, found in ways.items():
        pair = next(pair for pair in found if pair.figure == "overall")
        rows.append(
            [
                way,
                number(pair.theirs, pair.scale),
                number(pair.difference, pair.scale),
                between(pair.interval, pair.scale),
                str(pair.count),
            ]
        )
    first = next(iter(ways))
    return "\n".join([of, "", *markdown(["way", "overall", f"{first} - way", "95 % interval", "items"], rows)])
