"""CO3Dv2, as unpacked by the official download script.

CATEGORY/frame_annotations.jgz and sequence_annotations.jgz (gzipped JSON) beside CATEGORY/SEQUENCE/images, depths,
depth_masks. Cameras are PyTorch3D's: X_camera = X_world R + T with row vectors, x left, y up, z forward; focal length and
principal point in normalised coordinates (+x left, +y up), `ndc_isotropic` (half the shorter side is 1) or
`ndc_norm_image_bounds` (half of each side is 1). Depth is a 16-bit PNG whose bits are half floats, times
`scale_adjustment`, and counts where `depth_masks` is not black. It comes from COLMAP: arbitrary unit, noisy.
Sequences whose `viewpoint_quality_score` is below 0.5 are left out: their cameras are doubtful. Licence CC BY-NC 4.0.
"""

import gzip
import json
import zlib
from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from g2vlm.data.readers.cameras import pose_from
from g2vlm.data.readers.derived import Derived, pixels, png
from g2vlm.data.readers.listing import holding, natural, picture_size
from g2vlm.data.recon import DepthFile, File, Frame, Scene, pinhole
from g2vlm.data.samples import BadSample

LEAST_QUALITY = 0.5
PYTORCH3D = np.array([-1.0, -1.0, 1.0])
"""Signs that turn x left, y up, z forward into our axes."""


def scenes(src: Path) -> Iterator[Scene]:
    """One for every sequence of the categories at, or one folder below, `src`."""
    categories = holding(src, ["frame_annotations.jgz"], levels=1)
    folders = [images.parent for category in categories for images in sorted(category.glob("*/images"), key=natural)]
    return filter(None, map(_scene, folders))


def _scene(folder: Path) -> Scene | None:
    name = f"{folder.parent.name}_{folder.name}"
    try:
        frames, qualities = _annotations(folder.parent)
        quality = qualities.get(folder.name)
        if folder.name not in frames or (quality is not None and quality < LEAST_QUALITY):
            return None
        root = folder.parent.parent
        known = [record for record in frames[folder.name] if record.get("viewpoint") is not None]
        if known and picture_size(root / known[0]["image"]["path"]) != tuple(known[0]["image"]["size"]):
            raise BadSample(f"{name}: pictures have another size than their annotation; unpack the originals")
        made = [_frame(root, name, record) for record in sorted(known, key=lambda record: record["frame_number"])]
    except (KeyError, TypeError) as error:
        raise BadSample(f"{name}: is not annotated as documented ({type(error).__name__}: {error})") from error
    return Scene(name, tuple(made), is_metric=False, source="CO3Dv2", licence="CC BY-NC 4.0", has_fine_depth=False)


# One category at a time: its annotations are hundreds of megabytes, and its sequences follow each other.
@lru_cache(maxsize=1)
def _annotations(category: Path) -> tuple[dict[str, list[dict[str, Any]]], dict[str, float | None]]:
    """Frames of each sequence, and how good its cameras are."""
    frames = defaultdict(list)
    for record in _unpacked(category / "frame_annotations.jgz"):
        frames[record["sequence_name"]].append(record)
    sequences = _unpacked(category / "sequence_annotations.jgz")
    return dict(frames), {record["sequence_name"]: record.get("viewpoint_quality_score") for record in sequences}


def _unpacked(file: Path) -> list[dict[str, Any]]:
    try:
        with gzip.open(file) as stream:
            return json.load(stream)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BadSample(f"{file}: cannot be read ({error}); download it again") from error


def _frame(root: Path, scene: str, record: dict[str, Any]) -> Frame:
    picture, view = root / record["image"]["path"], record["viewpoint"]
    rotation, translation = np.array(view["R"], dtype=np.float64), np.array(view["T"], dtype=np.float64)
    return Frame(
        name=f"{scene}/{picture.name}",
        image=File(picture),
        intrinsics=_intrinsics(view, *record["image"]["size"]),
        pose=pose_from(rotation * PYTORCH3D, -rotation @ translation),
        depth=_depth(root, record.get("depth")),
    )


def _intrinsics(view: dict[str, Any], height: int, width: int) -> Float[np.ndarray, "3 3"]:
    half = np.array([width, height]) / 2
    units = {"ndc_isotropic": half.min(), "ndc_norm_image_bounds": half}
    layout = view.get("intrinsics_format", "ndc_norm_image_bounds")
    if layout not in units:
        raise BadSample(f"intrinsics of the format {layout}; known are {', '.join(units)}")
    focal = np.array(view["focal_length"]) * units[layout]
    centre = half - np.array(view["principal_point"]) * units[layout]
    return pinhole(*focal, *centre)


def _depth(root: Path, record: dict[str, Any] | None) -> DepthFile | None:
    if record is None or not (root / record["path"]).is_file():
        return None
    path, mask = root / record["path"], record.get("mask_path")
    file = File(path) if mask is None else Derived(path, make=partial(_masked, mask=File(root / mask)))
    return DepthFile(file, "png_half", record["scale_adjustment"])


def _masked(content: bytes, mask: File) -> bytes:
    """Zero bits, which are the half float 0, where the mask is black."""
    depth, is_known = pixels(content), pixels(mask.read()) > 0
    if depth.shape != is_known.shape:
        raise BadSample(f"{mask.name}: has the size {is_known.shape}, its depth {depth.shape}")
    return png(np.where(is_known, depth, 0).astype(np.uint16))
