"""What two points picked on a screen say: which points of the scene they are, and how far apart they lie."""

import numpy as np
from jaxtyping import Float

from g2vlm.evidence import Measurable

REACH = 0.01
"""How far beside a ray, as a part of the distance from the eye, a point is taken to be picked."""

Vector = Float[np.ndarray, "3"]


def picked(
    positions: Float[np.ndarray, "points 3"], eye: Vector, direction: Vector, *, reach: float = REACH
) -> int | None:
    """Number of the nearest point close to a ray, or None where the ray meets nothing; direction: of any length."""
    ray = direction / np.linalg.norm(direction)
    offsets = positions - eye
    along = offsets @ ray
    beside = np.sqrt(np.maximum(np.einsum("ij,ij->i", offsets, offsets) - along**2, 0))
    met = np.flatnonzero((along > 0) & (beside <= reach * along))
    return int(met[along[met].argmin()]) if met.size else None


def said_length(scene: Measurable, length: float) -> str:
    """A length of the scene for a person; where no scale is known, what it would be in a room of usual height."""
    if scene.scale == "metric":
        return f"{length:.3f} m"
    if not np.isfinite(scene.unit_length):
        return "unknown: no point of this scene is certain"
    said = f"{length / scene.unit_length:.3f} u, scale-free (1 u: mean distance of the points from their cameras)"
    about = length * scene.usual_metres
    return f"{said}; about {about:.1f} m if this is a room of usual height" if np.isfinite(about) else said
