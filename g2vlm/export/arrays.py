"""What programs read: maps as PNG and NPZ, cameras and the account of the whole result as JSON."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from g2vlm.records import Reconstruction

CONVENTIONS = {
    "world": "camera frame of the first view",
    "axes": "OpenCV: x right, y down, z forward",
    "poses": "world_from_camera, 4x4, camera-to-world",
    "intrinsics": "3x3, in pixels of the original photo, pixel centres at +0.5; null if none fits the points",
    "depth": "z-depth, 0 where nothing finite was predicted",
    "points": "world frame",
    "mask": "False also at depth edges, which are left out of the PLY unless kept",
    "normals": "unit, towards the camera; camera frame in NPZ, world frame in PLY",
    "confidence": "0 to 1",
}
SCALES = {
    "scale_free": "true up to one positive factor common to all depths, points and camera positions",
    "metric": "metres",
}
LARGEST_UINT16 = 65535


def stem(reconstruction: Reconstruction, view: int) -> str:
    """Name of a view's files: its number and the name of its photo, without the ending."""
    digits = max(2, len(str(len(reconstruction.names) - 1)))
    return f"{view:0{digits}d}_{Path(reconstruction.names[view]).stem}"


def finite_pixels(reconstruction: Reconstruction) -> list[Bool[np.ndarray, "height width"]]:
    """Per view, where a depth and a point were predicted, depth edges included."""
    return [
        np.isfinite(depth) & (depth > 0) & np.isfinite(points).all(-1)
        for depth, points in zip(reconstruction.depth, reconstruction.points, strict=True)
    ]


def depth_step(depths: list[Float[np.ndarray, "height width"]]) -> float:
    """Depth of one grey level of the 16-bit PNGs: the farthest point of all views is white."""
    farthest = max(float(depth.max()) for depth in depths)
    return farthest / LARGEST_UINT16 if farthest > 0 else 1.0


def depth_png(depth: Float[np.ndarray, "height width"], step: float) -> bytes:
    """16-bit grey PNG of depth / step; 0 stays 0 (nothing predicted), and what is more never rounds to 0."""
    levels = np.clip((depth / step).round(), depth > 0, LARGEST_UINT16).astype(np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "PNG")
    return buffer.getvalue()


def npz(reconstruction: Reconstruction, view: int, finite: Bool[np.ndarray, "height width"]) -> bytes:
    """Every map of one view in float32, and its mask; depth, points and normals are 0 where not finite."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        depth=np.where(finite, reconstruction.depth[view], 0).astype(np.float32),
        points=np.where(finite[..., None], reconstruction.points[view], 0).astype(np.float32),
        normals=np.where(finite[..., None], reconstruction.normals[view], 0).astype(np.float32),
        confidence=reconstruction.confidence[view].astype(np.float32),
        mask=reconstruction.mask[view],
    )
    return buffer.getvalue()


def cameras(reconstruction: Reconstruction) -> list[dict[str, Any]]:
    """One entry per view: whose photo, at which sizes, with which pose and intrinsics."""
    return [
        {
            "name": name,
            "width": reconstruction.original_sizes[view][1],
            "height": reconstruction.original_sizes[view][0],
            "map_width": reconstruction.depth[view].shape[1],
            "map_height": reconstruction.depth[view].shape[0],
            "intrinsics": _known(reconstruction.intrinsics[view]),
            "intrinsics_relative_error": _known(reconstruction.intrinsics_error[view]),
            "world_from_camera": reconstruction.poses[view].tolist(),
        }
        for view, name in enumerate(reconstruction.names)
    ]


def _known(numbers: np.ndarray | np.floating) -> Any:
    """Numbers for JSON, or None: no camera fits the points of a view that is noise, or all depth edges."""
    return numbers.tolist() if np.isfinite(numbers).all() else None


def account(reconstruction: Reconstruction) -> dict[str, Any]:
    """How to read the result and how to get it again."""
    provenance = reconstruction.provenance
    return {
        "scale": reconstruction.scale,
        "scale_means": SCALES[reconstruction.scale],
        "conventions": CONVENTIONS,
        "model": provenance.model,
        "checkpoint_sha256": provenance.checkpoint_sha256,
        "versions": provenance.versions,
        "settings": provenance.settings,
        "seconds": provenance.seconds,
        "num_views": len(reconstruction.names),
    }


def as_json(value: Any) -> bytes:
    """Readable JSON; NaN, which JSON does not know, is refused."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
