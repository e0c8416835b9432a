"""What came of benchmarks, as report.json for programs and report.md for people: every number with its count and interval.

A report is a function of logs and terms alone, so that a run that was killed and went on gives the same one, byte for byte, but for
what it cost. Scores of single items are in it, too: two reports can be compared without their logs.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from g2vlm.atomic import write_whole
from g2vlm.eval.adapters import named
from g2vlm.eval.benchmarks.base import Figure, Outcome
from g2vlm.eval.comparison import markdown
from g2vlm.eval.metrics.answers import UNIT, Interval, Scores, macro_mean, wilson
from g2vlm.eval.run import MISSING, Evaluation

FORMAT = 1
"""Raised whenever a field of report.json changes its meaning."""

REPORT, PAGE = "report.json", "report.md"

STATUSES = ("scored", "unparsed", "skipped", "failed", MISSING)
TOLD = ("unparsed", "failed", MISSING)
"""Whose ids a report lists, with what was wrong."""

MOST_SHOWN = 20
"""Of these on the page for people."""

ANY = Interval(-math.inf, math.inf)

Report = Mapping[str, Any]


def write_report(
    folder: Path, evaluations: Sequence[Evaluation], source: str, *, limit: int | None = None, notes: Sequence[str] = ()
) -> Report:
    """Both files, and what is in the first; see `report_of`."""
    report = report_of(evaluations, source, limit=limit, notes=notes)
    write_whole(folder / REPORT, json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    write_whole(folder / PAGE, page_of(report))
    return report


def report_of(
    evaluations: Sequence[Evaluation], source: str, *, limit: int | None = None, notes: Sequence[str] = ()
) -> Report:
    """All of report.json. source: the system's, as it was given. notes: what else a reader has to know."""
    first = evaluations[0].terms
    parts = {each.benchmark.name: _part(each, limit) for each in evaluations}
    incomplete = [f"{name}: {reason}" for name, part in parts.items() for reason in part["incomplete"]]
    return {
        "format": FORMAT,
        "complete": not incomplete,
        "incomplete": incomplete,
        "notes": [*notes],
        "system": {"source": source, **first["system"]},
        "versions": first["versions"],
        "seed": first["seed"],
        "limit": limit,
        "benchmarks": parts,
        "cost": {each.benchmark.name: _cost(each) for each in evaluations},
    }


def read_report(file: Path) -> Report:
    """ValueError for a file that is no report."""
    file = file / REPORT if file.is_dir() else file
    try:
        report = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file} is not JSON ({error}); name a {REPORT}, or its folder") from error
    if not isinstance(report, dict) or "benchmarks" not in report:
        raise ValueError(f"{file} is no report; name the {REPORT} that g2vlm eval wrote, or its folder")
    if report["format"] != FORMAT:
        raise ValueError(f"{file} has format {report['format']}, but this version reads {FORMAT}; evaluate again")
    return report


def _part(evaluation: Evaluation, limit: int | None) -> dict[str, Any]:
    """What is said of one benchmark."""
    benchmark, terms, rows = evaluation.benchmark, evaluation.terms, evaluation.rows
    counts = Counter(rows[id]["status"] for id in evaluation.asked)
    rule = benchmark.rules[evaluation.rule]
    outcomes = evaluation.outcomes
    figures = benchmark.figures(evaluation.items, outcomes, evaluation.rule)
    return {
        "title": benchmark.title,
        "reference": benchmark.reference,
        "licence": benchmark.licence,
        "rule": {"name": rule.name, "source": rule.source},
        "parser_version": benchmark.parser_version,
        "question_set_sha256": terms["question_set_sha256"],
        "frame_list_sha256": terms.get("frame_list_sha256"),
        "num_items": len(evaluation.items),
        "num_asked": len(evaluation.asked),
        "incomplete": _incomplete(evaluation, counts, limit),
        "statuses": {status: counts[status] for status in STATUSES},
        "told": {
            status: {id: rows[id]["note"] for id in evaluation.asked if rows[id]["status"] == status} for status in TOLD
        },
        "figures": [_figure(figure, outcomes) for figure in figures],
        "scores": {id: dict(outcome.scores) for id, outcome in outcomes.items()},
    }


def _incomplete(evaluation: Evaluation, counts: Mapping[str, int], limit: int | None) -> list[str]:
    """Why its numbers are not those of the whole benchmark; nothing if they are."""
    asked, total = len(evaluation.asked), len(evaluation.items)
    reasons = [] if asked == total else [f"{asked} of {total} items, by limit {limit}"]
    for status, words in ((MISSING, "have no output"), ("failed", "failed")):
        ids = [id for id in evaluation.asked if evaluation.rows[id]["status"] == status]
        if ids:
            reasons.append(f"{counts[status]} of {asked} items {words}: {named(ids)}")
    return reasons


def _cost(evaluation: Evaluation) -> dict[str, float | int]:
    """Of what is in the log: seconds in all processes together, and the most memory that one of them had taken."""
    rows = [evaluation.rows[id] for id in evaluation.asked]
    return {"seconds": round(sum(row["seconds"] for row in rows), 2), "memory": max(row["memory"] for row in rows)}


# --- figures ----------------------------------------------------------------------------------------------------------


def _figure(figure: Figure, outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    found = interval_of(figure, outcomes)
    return {
        "name": figure.name,
        "value": figure.value if math.isfinite(figure.value) else None,
        "count": figure.count,
        "interval": None if found is None else [*found],
        "metric": figure.metric,
        "scale": figure.scale,
        "entries": figure.entries,
        "note": figure.note,
    }


def interval_of(figure: Figure, outcomes: Mapping[str, Outcome]) -> Interval | None:
    """With 95 % confidence, over items, in the scale of the figure; None where it is no mean over items, or over too few of them.

    Wilson's for a share of right answers in one group; the normal approximation otherwise. Scores of answers lie in [0, 1].
    """
    if not figure.entries or not figure.count:
        return None
    scores, entries = values_of(figure.entries, outcomes, figure.metric)
    each = np.concatenate([*scores.values()])
    is_answer = figure.metric == "score"
    if is_answer and len(scores) == 1 and np.isin(each, (0.0, 1.0)).all():
        found = wilson(round(float(each.sum())), len(each))
    else:
        found = macro_mean(scores, entries, UNIT if is_answer else ANY)[1]
    low, high = found
    return Interval(figure.scale * low, figure.scale * high) if math.isfinite(low) and math.isfinite(high) else None


def values_of(
    entries: Sequence[Sequence[Sequence[str]]], outcomes: Mapping[str, Outcome], metric: str
) -> tuple[Scores, list[list[str]]]:
    """Scores by a name for each group of items, and those names by entry: what means and intervals are taken of."""
    groups = {f"{i}.{j}": ids for i, entry in enumerate(entries) for j, ids in enumerate(entry)}
    scores = {name: np.array([outcomes[id].scores[metric] for id in ids]) for name, ids in groups.items()}
    return scores, [[f"{i}.{j}" for j in range(len(entry))] for i, entry in enumerate(entries)]


# --- for people -------------------------------------------------------------------------------------------------------


def page_of(report: Report) -> str:
    system = report["system"]
    lines = [f"# {system['source']}", ""]
    if report["complete"]:
        lines += ["Complete: every item was asked, and none failed."]
    else:
        lines += ["**Not complete:**", "", *(f"- {reason}" for reason in report["incomplete"])]
    lines += ["", *(f"Note: {note}" for note in report["notes"])] if report["notes"] else []
    for name, part in report["benchmarks"].items():
        lines += ["", *_section(name, part)]
    settings = {
        "system": system["kind"],
        "checkpoint": system["sha256"],
        **system["settings"],
        "order": f"seed {report['seed']}",
        **report["versions"],
    }
    lines += ["", "## Settings", "", *markdown(["", ""], [[name, _text(value)] for name, value in settings.items()])]
    costs = [[name, f"{cost['seconds']:.2f}", f"{cost['memory'] / 2**20:.0f}"] for name, cost in report["cost"].items()]
    lines += ["", "## Cost", "", *markdown(["benchmark", "seconds", "peak memory, MiB"], costs)]
    return "\n".join([*lines, ""])


def _section(name: str, part: Mapping[str, Any]) -> list[str]:
    rule = part["rule"]
    counts = ", ".join(f"{count} {status}" for status, count in part["statuses"].items() if count)
    lines = [
        f"## {name}: {part['title']}",
        "",
        f"{part['num_asked']} of {part['num_items']} items: {counts}.",
        f"Rule `{rule['name']}` ({rule['source']}), parser version {part['parser_version']}.",
        f"Question set `{part['question_set_sha256']}`.",
    ]
    lines += [f"Frame list `{part['frame_list_sha256']}`."] if part["frame_list_sha256"] else []
    rows = [
        [
            x["name"],
            number(x["value"], x["scale"]),
            between(x["interval"], x["scale"]),
            str(x["count"]),
            x["note"] or "",
        ]
        for x in part["figures"]
    ]
    lines += ["", *markdown(["figure", "value", "95 % interval", "items", ""], rows)]
    for status, notes in part["told"].items():
        shown = [f"- `{id}`: {note}" for id, note in [*notes.items()][:MOST_SHOWN]]
        more = [f"- and {len(notes) - MOST_SHOWN} more, in {REPORT}"] if len(notes) > MOST_SHOWN else []
        lines += ["", f"{status}:", "", *shown, *more] if notes else []
    return lines


def number(value: float | None, scale: float) -> str:
    """A percentage with two places, anything else with four digits."""
    if value is None:
        return "-"
    return f"{value:.2f}" if scale == 100 else f"{value:.4g}"


def between(interval: Iterable[float] | None, scale: float) -> str:
    return "-" if interval is None else " .. ".join(number(value, scale) for value in interval)


def _text(value: object) -> str:
    return "-" if value is None else f"`{value}`"
