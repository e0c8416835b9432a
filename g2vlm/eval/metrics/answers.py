"""Scores of answers: how near a number is, and how sure a mean of scores in [0, 1] is."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""Of mean relative accuracy. Built as 0.5 + 0.05 i the last bits differ, and an answer that is 10 % off loses a bin."""

Z = 1.959963984540054
"""Standard deviations on either side that hold 95 % of a normal distribution."""

Scores = Mapping[str, Float[np.ndarray, " _questions"]]
"""Scores of questions by kind."""

Entries = Sequence[Sequence[str]]
"""Kinds that share one entry of a macro mean; VSI-Bench has eight entries, and three kinds (directions) in one of them."""


class Interval(NamedTuple):
    """Where a mean lies with 95 % confidence."""

    low: float
    high: float


def mean_relative_accuracy(
    predictions: Float[np.ndarray, "*shape"], truths: Float[np.ndarray, "*shape"]
) -> Float[np.ndarray, "*shape"]:
    """MRA of each number: the part of `THRESHOLDS` t with |p - g| / |g| <= 1 - t; |p - g| itself where g is 0.

    NaN says that no number was given, and scores 0.
    """
    errors = np.abs(predictions - truths) / np.where(truths == 0, 1, np.abs(truths))
    return (errors[..., None] <= 1 - THRESHOLDS).mean(-1)


def wilson(num_right: int, count: int) -> Interval:
    """Of a proportion; honest for few questions and near 0 and 1, where the normal interval shrinks to nothing."""
    if count == 0:
        return Interval(0.0, 1.0)
    share, slack = num_right / count, Z * Z / count
    middle = (share + slack / 2) / (1 + slack)
    half = math.sqrt(slack * (share * (1 - share) + slack / 4)) / (1 + slack)
    return Interval(max(middle - half, 0.0), min(middle + half, 1.0))


def mean_interval(scores: Float[np.ndarray, " questions"]) -> Interval:
    """Of a mean of scores in [0, 1], by the normal approximation."""
    return _around(float(scores.mean()), _variance_of_mean(scores))


UNIT = Interval(0.0, 1.0)
"""Where scores of answers lie."""


def macro_mean(scores: Scores, entries: Entries, bounds: Interval = UNIT) -> tuple[float, Interval]:
    """Mean over entries, each the mean over its kinds of questions. bounds: of scores."""
    mean = sum(weight * float(scores[kind].mean()) for kind, weight in _weights(entries).items())
    variance = sum(weight**2 * _variance_of_mean(scores[kind], bounds) for kind, weight in _weights(entries).items())
    return mean, _around(mean, variance, bounds)


def paired_difference(
    ours: Scores, theirs: Scores, entries: Entries, *, draws: int = 10_000, seed: int = 0
) -> tuple[float, Interval]:
    """By how much one macro mean exceeds another on the same questions: a bootstrap over questions within each kind.

    Both answer each question of a draw, so that what makes a question hard for both cancels.
    """
    chance = np.random.default_rng(seed)
    mean, drawn = 0.0, np.zeros(draws)
    for kind, weight in _weights(entries).items():
        differences = ours[kind] - theirs[kind]
        mean += weight * float(differences.mean())
        drawn += weight * chance.choice(differences, (draws, len(differences))).mean(1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return mean, Interval(float(low), float(high))


def _weights(entries: Entries) -> dict[str, float]:
    return {kind: 1 / len(entries) / len(entry) for entry in entries for kind in entry}


def _variance_of_mean(scores: Float[np.ndarray, " questions"], bounds: Interval = UNIT) -> float:
    """Unbiased; of a single score, the largest that there can be."""
    largest = ((bounds.high - bounds.low) / 2) ** 2
    return float(scores.var(ddof=1)) / len(scores) if len(scores) > 1 else largest


def _around(mean: float, variance: float, bounds: Interval = UNIT) -> Interval:
    half = Z * math.sqrt(variance)
    return Interval(max(mean - half, bounds.low), min(mean + half, bounds.high))
