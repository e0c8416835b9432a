"""Scenes on disk, with whatever truth they carry: the readers behind evaluation and training."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from g2vlm.pictures import read_photo


@dataclass(frozen=True)
class Frame:
    """One picture of a scene, and what is known about it; what is not known is None.

    intrinsics: in pixels of `image`, pixel centres at +0.5. pose: camera-to-world, OpenCV axes. depth: z-depth, 0 where
    unknown. Units are the scene's.
    """

    image: UInt8[np.ndarray, "height width 3"]
    intrinsics: Float[np.ndarray, "3 3"] | None = None
    pose: Float[np.ndarray, "4 4"] | None = None
    depth: Float[np.ndarray, "height width"] | None = None


@dataclass(frozen=True)
class Scene:
    """A posed set of pictures. is_metric: lengths are metres; otherwise their unit is arbitrary."""

    name: str
    frames: tuple[Frame, ...]
    is_metric: bool
    licence: str


def read_scene(folder: Path, max_frames: int | None = None) -> Scene:
    """Read a `scene.json` folder: images, 16-bit depth PNG, intrinsics with pixel (0, 0) at the first pixel's centre.

    max_frames: take so many, evenly spaced, the first and the last among them.
    """
    file = folder / "scene.json"
    if not file.is_file():
        raise ValueError(f"{folder} holds no scene.json; give the folder of one scene")
    record = json.loads(file.read_text())
    frames = record["frames"]
    if max_frames is not None and len(frames) > max_frames:
        chosen = np.linspace(0, len(frames) - 1, max_frames).round().astype(int)
        frames = [frames[i] for i in chosen]
    unit = (record.get("depth") or {}).get("unit_m", 0.001)
    licence = record["license"].get("upstream_data") or record["license"].get("repository") or "unknown"
    return Scene(
        name=record["scene"],
        frames=tuple(_frame(folder, frame, unit) for frame in frames),
        is_metric=bool(record["metric_scale"]),
        licence=licence,
    )


def _frame(folder: Path, record: dict, depth_unit: float) -> Frame:
    depth = record.get("depth")
    return Frame(
        image=read_photo(folder / record["image"]).rgb,
        intrinsics=None if record["intrinsics"] is None else _intrinsics(*record["intrinsics"]),
        pose=None if record["T_world_camera"] is None else np.array(record["T_world_camera"], dtype=np.float64),
        depth=None if depth is None else np.asarray(Image.open(folder / depth), dtype=np.float32) * depth_unit,
    )


def _intrinsics(fx: float, fy: float, cx: float, cy: float) -> Float[np.ndarray, "3 3"]:
    """From integer pixel centres to centres at +0.5."""
    return np.array([[fx, 0, cx + 0.5], [0, fy, cy + 0.5], [0, 0, 1]])


def sample_nearest(
    values: Float[np.ndarray, "height width"], size: tuple[int, int]
) -> Float[np.ndarray, "rows columns"]:
    """A map at another size, each value taken from the nearest pixel; never a mixture of two depths."""
    height, width = values.shape
    rows = ((np.arange(size[0]) + 0.5) * height / size[0]).astype(int)
    columns = ((np.arange(size[1]) + 0.5) * width / size[1]).astype(int)
    return values[rows][:, columns]


def valid(depth: Float[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """Where depth is known: positive and finite."""
    return np.isfinite(depth) & (depth > 0)
