"""Questions about rooms that the embedded models never saw, and how many they answer; the last line is JSON.

    python benchmarks/qa.py [--count 960] [--seed 0] [--weights PATH] [--no-geometry PATH] [--only COLUMN ...]

As many questions of one kind as of another. Choices are scored by accuracy, numbers by mean relative accuracy, in percent;
the last row is the mean over kinds, the three directions together as one. The columns:

    on           the model with its geometry, which states what it measured before it answers (reasoning="geometry")
    direct       the model with its geometry, which answers at once
    no_geometry  other weights, trained on the same questions with the pictures but without the geometric expert
    blank        as on, the geometric encoder shown grey views
    shuffled     as on, the geometric encoder shown the patches of all views dealt out anew over all places
    text_only    the weights of no_geometry, asked without any picture
    majority     for each kind one answer for all, chosen on these very questions
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from g2vlm import hub
from g2vlm.data.questions import KINDS, NUMERIC
from g2vlm.eval.metrics.answers import Interval, paired_difference
from g2vlm.eval.questions import (
    Answerer,
    KindScore,
    Quiz,
    Report,
    asking,
    asking_blindly,
    entries_of,
    evaluate,
    held_out,
    majority,
)

VIEWS = 4

load = cache(hub.load)

COLUMNS: dict[str, Callable[[argparse.Namespace, Sequence[Quiz]], Answerer]] = {
    "on": lambda options, _: asking(load(options.weights), reasoning="geometry"),
    "direct": lambda options, _: asking(load(options.weights)),
    "no_geometry": lambda options, _: asking(load(options.no_geometry), geometry="off"),
    "blank": lambda options, _: asking(load(options.weights), geometry="blank", reasoning="geometry"),
    "shuffled": lambda options, _: asking(load(options.weights), geometry="shuffled", reasoning="geometry"),
    "text_only": lambda options, _: asking_blindly(load(options.no_geometry)),
    "majority": lambda _, quizzes: majority(quizzes),
}


@dataclass(frozen=True)
class Run:
    report: Report
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=960, help="questions in all")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of rooms and questions")
    parser.add_argument("--weights", default=hub.EMBEDDED, help="the model; the embedded one unless given")
    parser.add_argument("--no-geometry", default=hub.EMBEDDED_NO_GEOMETRY, help="the weights trained without geometry")
    parser.add_argument(
        "--only", nargs="+", choices=COLUMNS, default=COLUMNS, metavar="COLUMN", help=", ".join(COLUMNS)
    )
    options = parser.parse_args()
    model = load(options.weights)
    quizzes = held_out(options.count, seed=options.seed, num_views=VIEWS, size=model.model.config.resolution)
    print(
        f"{options.count} questions about {len(quizzes)} held-out rooms, {VIEWS} views each; percent and 95 % intervals"
    )
    answerers = {name: COLUMNS[name](options, quizzes) for name in COLUMNS if name in options.only}
    runs = {name: timed(answerer, quizzes) for name, answerer in answerers.items()}
    table(runs)
    differences = against_the_rest(runs)
    for name, (mean, interval) in differences.items():
        print(f"on minus {name:21s}{cell(mean, interval)}")
    print(json.dumps(record(runs, differences, options, quizzes)))


def timed(answerer: Answerer, quizzes: Sequence[Quiz]) -> Run:
    started = time.perf_counter()
    return Run(evaluate(answerer, quizzes), time.perf_counter() - started)


def against_the_rest(runs: dict[str, Run]) -> dict[str, tuple[float, Interval]]:
    """By how much the model with its geometry exceeds every other column, question by question."""
    if "on" not in runs:
        return {}
    ours = runs["on"].report.scores
    return {
        name: paired_difference(ours, run.report.scores, entries_of(ours)) for name, run in runs.items() if name != "on"
    }


def table(runs: dict[str, Run]) -> None:
    print(f"{'':30s}count" + "".join(f"{name:>16s}" for name in runs))
    for kind in KINDS:
        rows = [run.report.kinds[kind] for run in runs.values()]
        print(f"{kind:30s}{rows[0].count:5d}" + "".join(cell(row.score, row.interval) for row in rows))
    reports = [run.report for run in runs.values()]
    count = sum(row.count for row in reports[0].kinds.values())
    print(f"{'overall':30s}{count:5d}" + "".join(cell(report.overall, report.interval) for report in reports))
    print(f"{'seconds':35s}" + "".join(f"{run.seconds:16.1f}" for run in runs.values()))


def cell(score: float, interval: Interval) -> str:
    low, high = interval
    return f"{100 * score:7.1f} {f'{100 * low:.0f}..{100 * high:.0f}':>8s}"


def record(
    runs: dict[str, Run],
    differences: dict[str, tuple[float, Interval]],
    options: argparse.Namespace,
    quizzes: Sequence[Quiz],
) -> dict:
    """What the last line says; `overall` is the model with its geometry, every score is in percent."""
    key = {name: "overall" if name == "on" else name for name in runs}
    weights = [options.weights, *([options.no_geometry] if {"no_geometry", "text_only"} & {*runs} else [])]
    return {
        **{key[name]: percent(run.report.overall) for name, run in runs.items()},
        "intervals": {key[name]: percents(run.report.interval) for name, run in runs.items()},
        "minus": {name: {"mean": percent(m), "interval": percents(i)} for name, (m, i) in differences.items()},
        "per_type": {
            kind: of_kind(kind, {key[name]: run.report.kinds[kind] for name, run in runs.items()}) for kind in KINDS
        },
        "questions": options.count,
        "rooms": len(quizzes),
        "seed": options.seed,
        "seconds": {key[name]: round(run.seconds, 1) for name, run in runs.items()},
        "checkpoint_sha256": {name: load(name).checkpoint_sha256 for name in weights},
    }


def of_kind(kind: str, rows: dict[str, KindScore]) -> dict:
    return {
        "count": next(iter(rows.values())).count,
        "measure": "mean relative accuracy" if kind in NUMERIC else "accuracy",
        **{name: percent(row.score) for name, row in rows.items()},
        "intervals": {name: percents(row.interval) for name, row in rows.items()},
    }


def percent(share: float) -> float:
    return round(100 * share, 2)


def percents(interval: Interval) -> list[float]:
    return [percent(bound) for bound in interval]


if __name__ == "__main__":
    main()
