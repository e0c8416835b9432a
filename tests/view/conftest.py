"""A room to look at."""

import pytest
from true_rooms import true_reconstruction

from g2vlm.records import Reconstruction


@pytest.fixture(scope="session")
def room() -> Reconstruction:
    return true_reconstruction()
