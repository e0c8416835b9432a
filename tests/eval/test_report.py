import json
import math

import numpy as np
import pytest
from inventions import SUMS, Reckoner, write_sums

from g2vlm.eval.benchmarks.base import Figure, Outcome
from g2vlm.eval.metrics.answers import wilson
from g2vlm.eval.report import interval_of, number, page_of, read_report, write_report
from g2vlm.eval.run import evaluate, versions


@pytest.fixture
def report(tmp_path) -> dict:
    data = write_sums(tmp_path / "data")
    found = evaluate(SUMS, SUMS.items(data), Reckoner(), tmp_path / "out" / "sums", data=data)
    return write_report(tmp_path / "out", [found], "reckoner")  # pyright: ignore[reportReturnType]


def test_a_report_states_what_its_numbers_depend_on(report, tmp_path):
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == json.loads(json.dumps(report))
    assert report["complete"]
    assert report["versions"] == versions()
    assert set(report["versions"]) == {"g2vlm", "torch", "transformers", "numpy", "python"}
    assert report["system"] == {
        "source": "reckoner",
        "kind": "invented",
        "sha256": "0" * 64,
        "settings": {"skill": 1},
    }
    part = report["benchmarks"]["sums"]
    assert part["rule"] == {"name": "corrected", "source": "the number"}
    assert part["parser_version"] == 3
    assert (part["num_items"], part["num_asked"]) == (12, 12)
    assert part["told"]["unparsed"] == {"sum_6": "no answer could be read"}
    assert report["cost"]["sums"]["memory"] > 0


def test_every_figure_has_count_and_interval(report):
    figures = {figure["name"]: figure for figure in report["benchmarks"]["sums"]["figures"]}
    assert {"overall", "micro", "macro", "groups/even", "groups/odd"} == set(figures)
    assert figures["micro"]["value"] == pytest.approx(100 * 9 / 12)  # 4 and 9 are wrong, 6 cannot be read
    assert figures["micro"]["interval"] == [pytest.approx(100 * end) for end in wilson(9, 12)]
    assert figures["groups/even"]["count"] == 6
    low, high = figures["macro"]["interval"]
    assert low < figures["macro"]["value"] < high


def test_the_page_for_people_says_the_same(report):
    page = page_of(report)
    assert "Complete: every item was asked, and none failed." in page
    assert "| micro | 75.00 | 46.77 .. 91.11 | 12 |" in page
    assert "12 of 12 items: 11 scored, 1 unparsed." in page
    assert f"| torch | `{report['versions']['torch']}` |" in page


def outcomes(**values: float) -> dict[str, Outcome]:
    return {id: Outcome("k", "scored", {"absrel": value, "score": value}) for id, value in values.items()}


def test_a_measure_without_bounds_has_an_interval_without_bounds():
    found = outcomes(a=0.1, b=4.0, c=2.0)
    interval = interval_of(Figure("absrel", 2.03, 3, "absrel", entries=[[["a", "b", "c"]]]), found)
    assert interval is not None
    half = 1.959964 * np.std([0.1, 4.0, 2.0], ddof=1) / math.sqrt(3)
    assert interval == pytest.approx((6.1 / 3 - half, 6.1 / 3 + half), abs=1e-5)
    assert interval_of(Figure("absrel", 4.0, 1, "absrel", entries=[[["b"]]]), found) is None  # one says nothing


def test_what_is_no_mean_over_items_has_no_interval():
    assert interval_of(Figure("CIDEr", 80.0, 3, "CIDEr"), outcomes(a=1.0)) is None


def test_numbers_keep_the_digits_that_mean_something():
    assert [number(7.0, 100.0), number(0.04612345, 1.0), number(None, 1.0)] == ["7.00", "0.04612", "-"]


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is not JSON"), ("{}", "is no report"), ('{"benchmarks": {}, "format": 0}', "has format 0, but")],
)
def test_what_is_no_report_is_refused(tmp_path, text, message):
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_report(tmp_path)
