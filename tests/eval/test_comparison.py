import numpy as np
import pytest

from g2vlm.eval.comparison import Claim, Cost, Trial, as_record, difference, score, table
from g2vlm.eval.metrics.answers import macro_mean, paired_difference

COST = Cost(1_500_000, 0.25, 64 * 2**20)
KINDS = ("depth_prediction", "camera_motion")
GROUPS = {"low": KINDS, "high": ("spatial_relation",)}
CLAIM = Claim("forward beats reversed", "forward", "reverse")


def scores(level, seed=0, count=40):
    """Right or wrong by chance, `level` of the answers right; the same seed finds the same questions hard."""
    return {
        kind: (np.random.default_rng([seed, i]).random(count) < level).astype(float)
        for i, kind in enumerate((*KINDS, "spatial_relation"))
    }


def trial(level, seed=0, inputs=("on", "blank", "shuffled"), cost=COST):
    return Trial({kind: scores(level if kind == "on" else 0.2, seed) for kind in inputs}, 2 - level + seed / 10, cost)


@pytest.fixture
def trials():
    return {
        "none": {seed: trial(0.2, seed, inputs=("on",)) for seed in range(3)},
        "forward": {seed: trial(0.7, seed) for seed in range(3)},
        "reverse": {seed: trial(0.4, seed) for seed in range(2)},
    }


def test_questions_are_averaged_over_seeds_and_their_means_spread(trials):
    found = score(trials["forward"], "on", KINDS)
    means = [np.mean([scores(0.7, seed)[kind].mean() for kind in KINDS]) for seed in range(3)]
    assert found.mean == pytest.approx(np.mean(means))
    assert found.spread == pytest.approx(np.std(means, ddof=1))
    together = {kind: np.mean([scores(0.7, seed)[kind] for seed in range(3)], 0) for kind in KINDS}
    assert found.interval == macro_mean(together, [[kind] for kind in KINDS])[1]
    assert score({0: trial(0.7)}, "on", KINDS).spread is None


def test_differences_are_paired_by_question_and_by_seed(trials):
    found = difference(trials["forward"], trials["reverse"], KINDS)
    assert len(found.by_seed) == 2
    assert np.mean(found.by_seed) == pytest.approx(found.mean)
    ours, theirs = (
        {kind: np.mean([scores(level, seed)[kind] for seed in range(2)], 0) for kind in KINDS} for level in (0.7, 0.4)
    )
    mean, interval = paired_difference(ours, theirs, [[kind] for kind in KINDS])
    assert (found.mean, found.interval) == (pytest.approx(mean), interval)
    same = difference(trials["forward"], trials["forward"], KINDS)
    assert (same.mean, same.interval, same.verdict) == (0, (0, 0), "cannot be told apart")
    assert difference(trials["forward"], {7: trial(0.1)}, KINDS) is None


def test_a_claim_needs_two_seeds_that_agree(trials):
    forward, reverse = trials["forward"], trials["reverse"]
    assert difference(forward, reverse, KINDS).verdict == "above"
    assert difference(reverse, forward, KINDS).verdict == "below"
    assert difference({0: forward[0]}, reverse, KINDS).verdict == "cannot be told apart"
    odd = {0: forward[0], 1: trial(0.3, 1)}
    assert difference(odd, reverse, KINDS).interval[0] > 0
    assert difference(odd, reverse, KINDS).verdict == "cannot be told apart"


def test_the_table_has_every_variant_group_input_and_cost(trials):
    text = table(trials, GROUPS, [CLAIM, Claim("other", "missing", "none")], baseline="none")
    head, _, *rows = [line.strip("|").split("|") for line in text.split("\n\n")[0].splitlines()]
    head = [cell.strip() for cell in head]
    assert head[:6] == ["variant", "seeds", "low: on", "low: blank", "low: shuffled", "low: on - none"]
    assert head[-4:] == ["loss", "learn, M", "s/step", "MiB"]
    rows = {cells[0].strip(): dict(zip(head, map(str.strip, cells), strict=True)) for cells in rows}
    assert list(rows) == ["`none`", "`forward`", "`reverse`"]
    assert rows["`none`"]["low: blank"] == rows["`none`"]["low: on - none"] == ""
    mean = 100 * score(trials["forward"], "on", KINDS).mean
    assert rows["`forward`"]["low: on"].startswith(f"{mean:.1f} (")
    assert "±" in rows["`forward`"]["low: on"]
    assert rows["`forward`"]["loss"] == "1.400 ±0.100"
    assert [rows["`reverse`"][name] for name in ("seeds", "learn, M", "s/step", "MiB")] == ["2", "1.50", "0.25", "64"]
    claims = text.split("\n\n")[1].splitlines()[2:]
    assert claims[0].count("above") == 2
    assert claims[1] == "| other | `missing` - `none` | not run | not run |"


def test_the_record_says_the_same(trials):
    record = as_record(trials, GROUPS, [CLAIM], baseline="none")
    forward = record["variants"]["forward"]
    assert forward["seeds"] == [0, 1, 2]
    low = forward["groups"]["low"]
    assert low["scores"]["on"]["mean"] == round(100 * score(trials["forward"], "on", KINDS).mean, 2)
    assert low["minus_none"]["verdict"] == low["on_minus_blank"]["verdict"] == "above"
    assert record["variants"]["none"]["groups"]["low"]["minus_none"] is None
    assert record["claims"][0]["better"] == "forward"
    assert record["claims"][0]["high"]["verdict"] == "above"


def test_the_cost_of_several_seeds_is_the_middle_one():
    runs = {i: trial(0.5, i, cost=Cost(7, seconds, 10)) for i, seconds in enumerate((0.2, 0.9, 0.3))}
    assert as_record({"none": runs}, GROUPS, (), baseline="none")["variants"]["none"]["cost"]["seconds"] == 0.3
