import pytest

from g2vlm.eval.benchmarks.catalogue import BENCHMARKS
from g2vlm.eval.published import published, tables


def test_every_published_number_has_a_source_and_is_finite():
    systems = published()
    assert len({(system.name, system.source) for system in systems}) == len(systems)
    for system in systems:
        assert "arXiv" in system.source
        assert system.numbers
        assert all(0 <= value < 200 for figures in system.numbers.values() for value in figures.values())


def test_the_overall_numbers_of_the_two_papers_are_there():
    overall = {
        (system.name, name): figures.get("overall")
        for system in published()
        for name, figures in system.numbers.items()
    }
    assert overall["G2VLM-SR", "sparbench"] == 54.87
    assert overall["SpatialStack-5B (Qwen3.5)", "vsibench"] == 67.5
    assert overall["GeoAlign-4B", "vsibench"] == 71.4
    assert {"vsibench", "sparbench", "mindcube", "sqa3d"} <= set(BENCHMARKS)


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_a_report_stands_beside_them_in_their_scale(scale):
    figure = {"name": "overall", "value": 0.5 * scale, "scale": scale, "metric": "score"}
    part = {
        "title": "VSI-Bench",
        "figures": [figure],
        "statuses": {"scored": 3},
        "num_items": 4,
        "rule": {"name": "public"},
    }
    report = {"system": {"source": "ours", "settings": {"geometry": "off"}}, "benchmarks": {"vsibench": part}}
    lines = tables([report]).splitlines()
    assert lines[0] == "## vsibench: VSI-Bench"
    assert lines[2].startswith("| system | overall | groups/object_counting |")
    assert lines[4].startswith("| **ours, geometry off** | 50.00 |")
    assert lines[4].endswith("| this report, 3 of 4 items, rule public |")
    assert any(line.startswith("| VLM-3R-7B | 60.9 | 70.2 | 49.4 |") for line in lines)
