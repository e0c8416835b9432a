"""Fixtures of the tests of benchmarks."""

import pytest
from rooms import Room, small_room


@pytest.fixture(scope="session")
def room() -> Room:
    """Four views of 48 x 64 pixels."""
    return small_room(num_views=4)
