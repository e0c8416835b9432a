"""A procedural room as numbers, and how to write it in the layout of any data set."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from g2vlm.data.scenes import rooms


@dataclass(frozen=True)
class Room:
    """What is known exactly; images RGB, depth along the axis in metres, poses camera-to-world, one camera for all."""

    images: np.ndarray
    depth: np.ndarray
    poses: np.ndarray
    intrinsics: np.ndarray


def small_room(num_views: int = 3) -> Room:
    """Views of 48 x 64 pixels."""
    views = rooms([101_000_003], num_views=num_views, height=48, width=64).views
    return Room(
        (views.images[0] * 255).round().byte().permute(0, 2, 3, 1).numpy(),
        views.depth[0].numpy(),
        views.poses[0].double().numpy(),
        views.intrinsics[0, 0].double().numpy(),
    )


def save(path: Path, values: np.ndarray, **options: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **options)
    return path


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def matrix(values: np.ndarray) -> str:
    return "\n".join(" ".join(f"{value:.12g}" for value in row) for row in values) + "\n"


def millimetres(depth: np.ndarray) -> np.ndarray:
    return (1000 * depth).round().astype(np.uint16)


def pinhole(f: float, cx: float, cy: float) -> np.ndarray:
    return np.array([[f, 0, cx], [0, f, cy], [0, 0, 1.0]])
