"""How sure figures are that are no means over items, such as pooled ones: they are computed again on items drawn anew."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from g2vlm.eval.benchmarks.base import Benchmark, Figure, Item, Outcome
from g2vlm.eval.metrics.answers import Interval

DRAWS = 400


def resampled(
    benchmark: Benchmark[Any],
    items: Sequence[Item],
    outcomes: Mapping[str, Outcome],
    rule: str,
    figures: Sequence[Figure],
    *,
    seed: int = 0,
    draws: int = DRAWS,
) -> dict[str, Interval]:
    """95 % of the draws, by name, for those of `figures` that need it: a bootstrap over the items that have an outcome.

    Items without one stay in every draw, as rules may count them. Nothing is drawn where one of the figures is costly.
    """
    wanted = {figure.name for figure in figures if figure.entries is None and figure.count > 1}
    if not wanted or any(figure.is_costly for figure in figures):
        return {}
    known = [item for item in items if item.id in outcomes]
    others = [item for item in items if item.id not in outcomes]
    chance = np.random.default_rng(seed)
    found: dict[str, list[float]] = defaultdict(list)
    for _ in range(draws):
        drawn = {
            f"{known[i].id} #{place}": known[i] for place, i in enumerate(chance.integers(len(known), size=len(known)))
        }
        again = [replace(item, id=id) for id, item in drawn.items()]
        theirs = {id: outcomes[item.id] for id, item in drawn.items()}
        for figure in benchmark.figures([*again, *others], theirs, rule):
            if figure.name in wanted and np.isfinite(figure.value):
                found[figure.name].append(figure.value)
    # A small group is not in every draw.
    return {name: _middle(values) for name, values in found.items() if len(values) > draws / 2}


def _middle(values: Sequence[float]) -> Interval:
    low, high = np.quantile(values, (0.025, 0.975))
    return Interval(float(low), float(high))
