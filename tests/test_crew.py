"""Processes share work without loss; a process alone does all of it. Two that meet: tests/eval/test_run.py, tests/test_batch.py."""

import pytest

from g2vlm.crew import Crew, join


@pytest.mark.parametrize("world", [1, 2, 5, 20])
def test_processes_share_the_items_without_loss(world):
    assert [item for rank in range(world) for item in Crew(rank, world).share(range(12))] == list(range(12))


def test_a_process_alone_waits_for_nobody(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    crew = join()
    crew.wait()
    assert (crew, crew.is_first) == (Crew(0, 1), True)
