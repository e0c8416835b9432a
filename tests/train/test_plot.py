"""Curves of runs can be drawn from what their folders hold."""

import pytest
from PIL import Image

from g2vlm.train.metrics import append_row
from g2vlm.train.plot import plot


def run_folder(folder, **parts):
    folder.mkdir()
    for step in (10, 20, 30):
        row = {"step": step, "total": 5.0 / step, "lr": 10.0**-step, "gradient_norm": 1.0, "tokens_per_second": 900}
        append_row(folder / "metrics.jsonl", row | parts)
    return folder


def size_of(*arguments) -> tuple[int, int]:
    with Image.open(plot(*arguments)) as picture:
        assert picture.format == "PNG"
        return picture.size


def test_every_loss_has_a_panel_even_if_only_one_run_has_it(tmp_path):
    few = run_folder(tmp_path / "few")
    many = run_folder(tmp_path / "many", points=1.0, text=None, rotation=0.5, camera=0.1)
    alone = size_of([few], tmp_path / "alone.png")
    together = size_of([few, many / "metrics.jsonl"], tmp_path / "both.png")
    assert together[0] == alone[0]
    assert together[1] > alone[1]


def test_wide_ranges_have_a_logarithmic_axis_and_narrow_ones_not(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    scales = {}

    def remember(figure, *_, **__):
        scales.update({axes.get_title(): axes.get_yscale() for axes in figure.axes})

    monkeypatch.setattr(Figure, "savefig", remember)
    plot([run_folder(tmp_path / "run")], tmp_path / "curves.png")
    assert scales["learning rate"] == "log"
    assert scales["total loss"] == scales["tokens/s"] == "linear"


def test_a_folder_without_metrics_and_one_that_has_just_begun_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"nothing holds no metrics.jsonl"):
        plot([tmp_path / "nothing"], tmp_path / "curves.png")
    (tmp_path / "metrics.jsonl").touch()
    with pytest.raises(ValueError, match=r"metrics.jsonl is empty as yet"):
        plot([tmp_path], tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(ValueError, match=r"pip install 'g2vlm\[plot\]'"):
        plot([run_folder(tmp_path / "run")], tmp_path / "curves.png")
