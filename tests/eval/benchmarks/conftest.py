"""Fixtures of the tests of benchmarks."""

import pytest
from rooms import Room, small_room

from g2vlm.eval.benchmarks import rules


@pytest.fixture(scope="session")
def room() -> Room:
    """Four views of 48 x 64 pixels."""
    return small_room(num_views=4)


@pytest.fixture(autouse=True)
def _small_point_maps(monkeypatch):
    """Point maps are compared at a width of 70, not 512: clouds of seconds, and the shape of a room is still
    stretched."""
    monkeypatch.setattr(rules, "WIDTH", 70)
