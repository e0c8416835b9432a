"""Ways of training compared on the same questions: scores by what the geometric encoder saw, paired differences, one table.

Scores are in [0, 1] in memory and in percent in tables. Intervals are over questions, whose scores are first averaged over seeds; the
spread over seeds stands beside them, for neither says anything about the other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from g2vlm.eval.metrics.answers import Interval, Scores, macro_mean, paired_difference
from g2vlm.eval.questions import entries_of
from g2vlm.speaking import GeometryInput


@dataclass(frozen=True)
class Cost:
    """parameters: that learn. seconds: of a step, without waiting for data. memory: bytes that tensors hold in a step."""

    parameters: int
    seconds: float
    memory: int


@dataclass(frozen=True)
class Trial:
    """One trained model.

    scores: by what its geometric encoder saw, of every question by kind, in the order asked. loss: cross-entropy of the answers that it
    learnt from in the second half of its run.
    """

    scores: Mapping[GeometryInput, Scores]
    loss: float
    cost: Cost


Trials = Mapping[str, Mapping[int, Trial]]
"""By variant and seed; all were asked the same questions."""

Groups = Mapping[str, Sequence[str]]
"""Kinds of questions by the name of their group."""


@dataclass(frozen=True)
class Claim:
    """What a paper says, as a difference that should be above zero."""

    text: str
    better: str
    worse: str


@dataclass(frozen=True)
class Score:
    """mean: of entries of kinds, over all seeds. spread: standard deviation over seeds; None for a single one."""

    mean: float
    interval: Interval
    spread: float | None


@dataclass(frozen=True)
class Difference:
    """by_seed: the difference of each seed that both variants have."""

    mean: float
    interval: Interval
    by_seed: tuple[float, ...]

    @property
    def verdict(self) -> str:
        """Above or below only where the interval leaves zero out and all seeds, two at least, agree."""
        low, high = self.interval
        if len(self.by_seed) > 1 and low > 0 and min(self.by_seed) > 0:
            return "above"
        if len(self.by_seed) > 1 and high < 0 and max(self.by_seed) < 0:
            return "below"
        return "cannot be told apart"


def score(trials: Mapping[int, Trial], geometry: GeometryInput, kinds: Sequence[str]) -> Score:
    """How well a variant answers these kinds."""
    each = [of_kinds(trial.scores[geometry], kinds) for trial in trials.values()]
    entries = entries_of(kinds)
    mean, interval = macro_mean(averaged(each), entries)
    means = [macro_mean(scores, entries)[0] for scores in each]
    return Score(mean, interval, float(np.std(means, ddof=1)) if len(means) > 1 else None)


def difference(
    ours: Mapping[int, Trial],
    theirs: Mapping[int, Trial],
    kinds: Sequence[str],
    *,
    geometry: GeometryInput = "on",
    their_geometry: GeometryInput = "on",
) -> Difference | None:
    """By how much one variant exceeds another on the same questions with the same seeds; None without a common seed."""
    seeds = [seed for seed in ours if seed in theirs]
    if not seeds:
        return None
    first = [of_kinds(ours[seed].scores[geometry], kinds) for seed in seeds]
    second = [of_kinds(theirs[seed].scores[their_geometry], kinds) for seed in seeds]
    entries = entries_of(kinds)
    mean, interval = paired_difference(averaged(first), averaged(second), entries)
    pairs = zip(first, second, strict=True)
    return Difference(mean, interval, tuple(macro_mean(x, entries)[0] - macro_mean(y, entries)[0] for x, y in pairs))


def of_kinds(scores: Scores, kinds: Sequence[str]) -> Scores:
    return {kind: scores[kind] for kind in kinds}


def averaged(scores: Sequence[Scores]) -> Scores:
    """What each question is worth on average."""
    return {kind: np.mean([each[kind] for each in scores], axis=0) for kind in scores[0]}


# --- as JSON ----------------------------------------------------------------------------------------------------------


def as_record(trials: Trials, groups: Groups, claims: Sequence[Claim], *, baseline: str) -> dict[str, Any]:
    """Everything that the table says, and more digits of it; in percent."""
    return {
        "variants": {
            name: {
                "seeds": sorted(runs),
                "loss": dict(zip(("mean", "spread"), loss_of(runs), strict=True)),
                "cost": asdict(typical_cost(runs)),
                "groups": {
                    group: {
                        "scores": {kind: _score_record(score(runs, kind, kinds)) for kind in inputs_of(runs)},
                        f"minus_{baseline}": _difference_record(against(baseline, trials, name, kinds)),
                        **{
                            f"on_minus_{kind}": _difference_record(difference(runs, runs, kinds, their_geometry=kind))
                            for kind in inputs_of(runs)
                            if kind != "on"
                        },
                    }
                    for group, kinds in groups.items()
                },
            }
            for name, runs in trials.items()
        },
        "claims": [
            asdict(claim) | {group: _difference_record(found) for group, found in tested(claim, trials, groups).items()}
            for claim in claims
        ],
    }


def against(baseline: str, trials: Trials, name: str, kinds: Sequence[str]) -> Difference | None:
    """A variant minus the baseline; None for the baseline itself, and where it is missing."""
    return None if name == baseline or baseline not in trials else difference(trials[name], trials[baseline], kinds)


def tested(claim: Claim, trials: Trials, groups: Groups) -> dict[str, Difference | None]:
    """The difference that a claim is about, in each group."""
    if claim.better not in trials or claim.worse not in trials:
        return dict.fromkeys(groups)
    return {group: difference(trials[claim.better], trials[claim.worse], kinds) for group, kinds in groups.items()}


def inputs_of(runs: Mapping[int, Trial]) -> tuple[GeometryInput, ...]:
    """What the encoder was shown in all of a variant's runs."""
    first, *others = (trial.scores for trial in runs.values())
    return tuple(kind for kind in first if all(kind in other for other in others))


def loss_of(runs: Mapping[int, Trial]) -> tuple[float, float | None]:
    """Mean and standard deviation over seeds; None for a single one."""
    losses = [trial.loss for trial in runs.values()]
    return float(np.mean(losses)), float(np.std(losses, ddof=1)) if len(losses) > 1 else None


def typical_cost(runs: Mapping[int, Trial]) -> Cost:
    """The middle of the seeds."""
    costs = [trial.cost for trial in runs.values()]
    return Cost(
        costs[0].parameters, float(np.median([x.seconds for x in costs])), int(np.median([x.memory for x in costs]))
    )


def _score_record(found: Score) -> dict[str, Any]:
    spread = None if found.spread is None else percent(found.spread)
    return {"mean": percent(found.mean), "interval": [*map(percent, found.interval)], "spread": spread}


def _difference_record(found: Difference | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "mean": percent(found.mean),
        "interval": [*map(percent, found.interval)],
        "by_seed": [*map(percent, found.by_seed)],
        "verdict": found.verdict,
    }


def percent(share: float) -> float:
    return round(100 * share, 2)


# --- as Markdown ------------------------------------------------------------------------------------------------------


def table(trials: Trials, groups: Groups, claims: Sequence[Claim], *, baseline: str) -> str:
    """Variants with their scores by group and their cost, and then what becomes of the claims."""
    inputs: tuple[GeometryInput, ...] = ("on", "blank", "shuffled")
    columns = ["variant", "seeds"]
    columns += [f"{group}: {name}" for group in groups for name in (*inputs, f"on - {baseline}")]
    columns += ["loss", "learn, M", "s/step", "MiB"]
    rows = []
    for name, runs in trials.items():
        cells = [f"`{name}`", str(len(runs))]
        for kinds in groups.values():
            cells += [_cell(score(runs, kind, kinds)) if kind in inputs_of(runs) else "" for kind in inputs]
            cells.append(_signed(against(baseline, trials, name, kinds)))
        (loss, spread), cost = loss_of(runs), typical_cost(runs)
        cells.append(f"{loss:.3f}" if spread is None else f"{loss:.3f} ±{spread:.3f}")
        rows.append([*cells, f"{cost.parameters / 1e6:.2f}", f"{cost.seconds:.2f}", f"{cost.memory / 2**20:.0f}"])
    lines = markdown(columns, rows)
    verdicts = []
    for claim in claims:
        found = tested(claim, trials, groups)
        texts = [f"{_signed(x)}, {x.verdict}" if x else "not run" for x in found.values()]
        verdicts.append([claim.text, f"`{claim.better}` - `{claim.worse}`", *texts])
    return "\n".join([*lines, "", *markdown(["claim", "difference", *groups], verdicts), ""])


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(columns), *rows)]


def _cell(found: Score) -> str:
    low, high = found.interval
    spread = "" if found.spread is None else f" ±{100 * found.spread:.1f}"
    return f"{100 * found.mean:.1f} ({100 * low:.0f}..{100 * high:.0f}){spread}"


def _signed(found: Difference | None) -> str:
    if found is None:
        return ""
    low, high = found.interval
    return f"{100 * found.mean:+.1f} ({100 * low:+.0f}..{100 * high:+.0f})"
