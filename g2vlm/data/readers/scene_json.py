"""Folders with a `scene.json`: pictures, 16-bit depth PNG, poses; pixel (0, 0) is the centre of the first pixel."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from g2vlm.data.readers.listing import holding
from g2vlm.data.recon import DepthFile, File, Frame, Scene, pinhole
from g2vlm.data.samples import BadSample


def scenes(src: Path) -> Iterator[Scene]:
    """Every folder with a scene.json, at `src` or below it."""
    return map(read_scene, holding(src, ["scene.json"], levels=3))


def read_scene(folder: Path, max_frames: int | None = None) -> Scene:
    """The scene of one folder. max_frames: take so many, evenly spaced, the first and the last among them."""
    file = folder / "scene.json"
    if not file.is_file():
        raise ValueError(f"{folder} holds no scene.json; give the folder of one scene")
    try:
        return _scene(folder, json.loads(file.read_text()), max_frames)
    except BadSample:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise BadSample(f"{file}: is not a scene as documented ({type(error).__name__}: {error})") from error


def _scene(folder: Path, record: dict[str, Any], max_frames: int | None) -> Scene:
    frames = record["frames"]
    if max_frames is not None and len(frames) > max_frames:
        chosen = np.linspace(0, len(frames) - 1, max_frames).round().astype(int)
        frames = [frames[i] for i in chosen]
    depth = record.get("depth") or {}
    sources = [source["dataset"] for source in record.get("source", ()) if "dataset" in source]
    return Scene(
        name=record["scene"],
        frames=tuple(_frame(folder, record["scene"], frame, depth.get("unit_m", 0.001)) for frame in frames),
        is_metric=bool(record["metric_scale"]),
        source="; ".join(sources) or "unknown",
        licence=record["license"].get("upstream_data") or record["license"].get("repository") or "unknown",
        has_fine_depth=not depth.get("sparse", False),
        is_sequence=record.get("ordering") == "video",
    )


def _frame(folder: Path, scene: str, record: dict[str, Any], unit: float) -> Frame:
    depth, camera, pose = record["depth"], record["intrinsics"], record["T_world_camera"]
    return Frame(
        name=f"{scene}/{record['image']}",
        image=File(folder / record["image"]),
        intrinsics=None if camera is None else _intrinsics(*camera),
        pose=None if pose is None else np.array(pose, dtype=np.float64),
        depth=None if depth is None else DepthFile(File(folder / depth), "png16", unit),
    )


def _intrinsics(fx: float, fy: float, cx: float, cy: float) -> Float[np.ndarray, "3 3"]:
    """From centres at whole pixels to centres at +0.5."""
    return pinhole(fx, fy, cx + 0.5, cy + 0.5)
