from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from g2vlm.eval.benchmarks.base import Figure, Item, Outcome
from g2vlm.eval.resampling import resampled

VALUES = np.random.default_rng(1).normal(5, 2, 60)
ITEMS = [Item(str(i), "rare" if i == 0 else "usual", (), {}) for i in range(60)]
OUTCOMES = {
    item.id: Outcome(item.kind, "scored", {"x": float(value)}) for item, value in zip(ITEMS, VALUES, strict=True)
}


@dataclass
class Pooling:
    """Figures are a mean that does not say so, the share of items that have an outcome, and the mean of one kind."""

    is_costly: bool = False
    calls: list[int] = field(default_factory=list)

    def figures(self, items: Sequence[Item], outcomes: Mapping[str, Outcome], rule: str) -> list[Figure]:
        self.calls.append(len(outcomes))
        found = [outcomes[item.id].scores["x"] for item in items if item.id in outcomes]
        rare = [outcomes[item.id].scores["x"] for item in items if item.id in outcomes and item.kind == "rare"]
        figures = [
            Figure("pooled", float(np.mean(found)), len(found), "x", is_costly=self.is_costly),
            Figure("share", len(found) / len(items), len(found), "x"),
            Figure("mean", float(np.mean(found)), len(found), "x", entries=[[[*outcomes]]]),
        ]
        return figures + ([Figure("rare", float(np.mean(rare)), 2, "x")] if rare else [])


def intervals(benchmark: Pooling, items=ITEMS, **options):
    figures = benchmark.figures(items, OUTCOMES, "corrected")
    return resampled(benchmark, items, OUTCOMES, "corrected", figures, **options)  # pyright: ignore[reportArgumentType]


def test_a_pooled_figure_has_the_interval_of_a_bootstrap():
    low, high = intervals(Pooling())["pooled"]
    half = 1.96 * VALUES.std(ddof=1) / np.sqrt(60)
    assert (low, high) == pytest.approx((VALUES.mean() - half, VALUES.mean() + half), abs=0.25 * half)


def test_the_same_seed_gives_the_same_interval():
    assert intervals(Pooling(), draws=50) == intervals(Pooling(), draws=50)
    assert intervals(Pooling(), draws=50) != intervals(Pooling(), draws=50, seed=1)


def test_items_without_an_outcome_stay_in_every_draw():
    unasked = [Item(f"unasked {i}", "usual", (), {}) for i in range(20)]
    assert intervals(Pooling(), [*ITEMS, *unasked], draws=50)["share"] == (0.75, 0.75)


def test_a_mean_over_items_needs_no_draws_and_nothing_else_does_either():
    benchmark = Pooling()
    figures = [figure for figure in benchmark.figures(ITEMS, OUTCOMES, "") if figure.entries is not None]
    assert resampled(benchmark, ITEMS, OUTCOMES, "", figures) == {}  # pyright: ignore[reportArgumentType]
    assert len(benchmark.calls) == 1


def test_what_is_costly_is_not_computed_again():
    benchmark = Pooling(is_costly=True)
    assert intervals(benchmark) == {}
    assert len(benchmark.calls) == 1


def test_a_group_that_few_draws_have_has_an_interval_of_those_that_have_it():
    assert intervals(Pooling())["rare"] == (VALUES[0], VALUES[0])
    few = {id: outcome for id, outcome in OUTCOMES.items() if id != "0"}
    benchmark = Pooling()
    wanted = benchmark.figures(ITEMS, OUTCOMES, "")
    assert "rare" not in resampled(benchmark, ITEMS, few, "", wanted)  # pyright: ignore[reportArgumentType]
