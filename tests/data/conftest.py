"""A procedural room as numbers, to be written in the layout of any data set."""

from dataclasses import dataclass

import numpy as np
import pytest

from g2vlm.data.scenes import rooms


@dataclass(frozen=True)
class Truth:
    """What is known exactly; images RGB, depth along the axis in metres, poses camera-to-world, one camera for all."""

    images: np.ndarray
    depth: np.ndarray
    poses: np.ndarray
    intrinsics: np.ndarray


@pytest.fixture(scope="session")
def room() -> Truth:
    """Three views of 48 x 64 pixels."""
    views = rooms([101_000_003], num_views=3, height=48, width=64).views
    return Truth(
        (views.images[0] * 255).round().byte().permute(0, 2, 3, 1).numpy(),
        views.depth[0].numpy(),
        views.poses[0].double().numpy(),
        views.intrinsics[0, 0].double().numpy(),
    )
