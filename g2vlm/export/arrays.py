"""What programs read: arrays of each view as NPZ, cameras and the account of the whole result as JSON."""

import io
import json
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from g2vlm.export.conventions import CONVENTIONS, SCALES, WORLDS
from g2vlm.records import Reconstruction


def npz(reconstruction: Reconstruction, view: int, finite: Bool[np.ndarray, "height width"]) -> bytes:
    """Everything of one view, bit for bit; depth, points and normals are 0 where not finite.

    outside_depth, outside_points and outside_normals say what stood there, pixel by pixel, so that nothing is lost.
    """
    maps = {name: getattr(reconstruction, name)[view] for name in ("depth", "points", "normals")}
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        **{name: zero_outside(values, finite) for name, values in maps.items()},
        confidence=reconstruction.confidence[view],
        mask=reconstruction.mask[view],
        image=reconstruction.images[view],
        world_from_camera=reconstruction.poses[view],
        intrinsics=reconstruction.intrinsics[view],
        intrinsics_relative_error=reconstruction.intrinsics_error[view],
        **{f"outside_{name}": values[~finite] for name, values in maps.items()},
    )
    return buffer.getvalue()


def zero_outside(values: np.ndarray, finite: Bool[np.ndarray, "height width"]) -> np.ndarray:
    """A map for a file: 0 where nothing finite was predicted."""
    is_known = finite if values.ndim == 2 else finite[..., None]
    return np.where(is_known, values, np.zeros((), values.dtype))


def restored(values: np.ndarray, finite: Bool[np.ndarray, "height width"], outside: np.ndarray) -> np.ndarray:
    """The map again that `zero_outside` was given."""
    whole = values.copy()
    whole[~finite] = outside
    return whole


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


def _known(numbers: Float[np.ndarray, "*shape"] | np.floating) -> Any:
    """Numbers for JSON, or None: no camera fits the points of a view that is noise, or all depth edges."""
    return numbers.tolist() if np.isfinite(numbers).all() else None


def account(reconstruction: Reconstruction) -> dict[str, Any]:
    """How to read the result and how to get it again."""
    provenance = reconstruction.provenance
    return {
        "scale": reconstruction.scale,
        "scale_means": SCALES[reconstruction.scale],
        "world": reconstruction.world,
        "world_means": WORLDS[reconstruction.world],
        "conventions": CONVENTIONS,
        "model": provenance.model,
        "checkpoint_sha256": provenance.checkpoint_sha256,
        "versions": provenance.versions,
        "settings": provenance.settings,
        "seconds": provenance.seconds,
        "num_views": len(reconstruction.names),
    }


def as_json(value: Any) -> bytes:
    """Readable JSON; NaN, which JSON does not know, is refused. Half a surrogate, as in a name that is no Unicode, is escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode(errors="backslashreplace")
