import pytest

from g2vlm.eval.benchmarks.frames import shipped
from g2vlm.eval.benchmarks.geometry import GEOMETRY
from g2vlm.eval.benchmarks.tasks import METRICS, SCORERS, TASKS


def test_every_data_set_has_its_benchmarks():
    assert list(GEOMETRY) == [
        "sintel-depth",
        "sintel-trajectory",
        "nyu-v2-depth",
        "7scenes-dense",
        "7scenes-sparse",
        "nrgbd-dense",
        "nrgbd-sparse",
        "eth3d",
        "dtu",
        "co3dv2",
        "realestate10k",
        "scannet",
        "tum",
        "scenes",
    ]


@pytest.mark.parametrize("benchmark", GEOMETRY.values(), ids=GEOMETRY)
def test_every_benchmark_has_both_rules_and_says_how_it_is_laid_out(benchmark):
    assert {"corrected", "g2vlm-release"} <= set(benchmark.rules)
    assert all(rule.source for rule in benchmark.rules.values())
    assert benchmark.layout.count("\n") >= 1
    assert benchmark.title
    assert benchmark.reference
    assert benchmark.licence
    assert benchmark.listed is None or shipped(benchmark.listed)


@pytest.mark.parametrize("benchmark", GEOMETRY.values(), ids=GEOMETRY)
def test_a_folder_that_is_not_there_is_answered_with_the_layout(benchmark, tmp_path):
    with pytest.raises(ValueError, match="there is no such folder") as error:
        benchmark.items(tmp_path / "nowhere")
    assert benchmark.layout in str(error.value)


def test_every_task_has_a_scorer_and_metrics():
    assert set(TASKS) == set(SCORERS) == set(METRICS)
