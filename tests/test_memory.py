"""What a reconstruction would hold is counted from sizes alone, grows with the views, and is refused where it does not fit."""

import pytest
import torch
from builders import small_config

from g2vlm import presets
from g2vlm.memory import MIB, free_bytes, is_surely_enough, memory_plan, plan_of

CPU = torch.device("cpu")


def plan(num_views: int, monkeypatch, free: float = 1000 * MIB):
    monkeypatch.setattr("g2vlm.memory.free_bytes", lambda device: free)
    config = small_config(text={"vocab_size": 320}, tokens=presets.tiny().tokens)
    return plan_of(config, (64, 64), num_views, 32, CPU, torch.float32)


def test_memory_grows_by_the_same_for_each_view(monkeypatch):
    two, four, eight = (plan(n, monkeypatch).forward for n in (2, 4, 8))
    assert four > two
    assert (eight - four) / (four - two) == pytest.approx(2, rel=0.1)


def test_as_many_views_fit_as_it_says(monkeypatch):
    most = plan(2, monkeypatch, free=20 * MIB).most_views
    assert plan(most, monkeypatch, free=20 * MIB).fits
    assert not plan(most + 2, monkeypatch, free=20 * MIB).fits


def test_what_does_not_fit_is_refused_with_the_numbers_and_the_cure(monkeypatch):
    made = plan(64, monkeypatch, free=4 * MIB)
    with pytest.raises(
        ValueError, match=r"64 views at once need about \d+ MiB, but 4 MiB are free on cpu; at most \d+ fit: do"
    ):
        made.require("do {most}")
    plan(2, monkeypatch).require("nothing")


def test_the_embedded_model_is_planned_by_its_name():
    made = memory_plan(None, (480, 640), 4, resolution=112, device="cpu")
    assert made is not None
    assert made.view_size == (84, 112)
    assert made.tokens == 4 * 48
    assert made.fits
    assert is_surely_enough(None, 4, resolution=112, device="cpu")


def test_this_machine_has_memory():
    assert MIB < free_bytes(CPU) < float("inf")
