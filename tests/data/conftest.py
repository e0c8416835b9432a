"""Fixtures of the tests of data."""

import pytest
from rooms import Room, small_room


@pytest.fixture(scope="session")
def room() -> Room:
    """Three views of 48 x 64 pixels."""
    return small_room()
