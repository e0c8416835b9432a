"""What every file says of itself: frames, axes, units and scale; and the change of axes that some formats ask for."""

import numpy as np
from jaxtyping import Float

from g2vlm.geometry.pose import FLIP
from g2vlm.records import Reconstruction, World

WORLDS: dict[World, str] = {
    "view_0": "camera frame of the first view",
    "gravity": "y down along gravity, floor at y = 0, the first camera above the origin and facing along z",
    "known": "that of the poses that were given",
}
CONVENTIONS = {
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
Y_UP = "x right, y up, z backward: OpenCV axes of the world with y and z negated"

OF_POINTS = {"normals": "unit, world frame", "colours": "sRGB", "confidence": "0 to 1"}


def statement(reconstruction: Reconstruction, **particulars: str) -> dict[str, str]:
    """Lines for a file that can carry text, by name; `particulars` are added, or say what differs in this file."""
    unit = "metres" if reconstruction.scale == "metric" else "unknown: scale_free"
    return {
        "world": WORLDS[reconstruction.world],
        "axes": CONVENTIONS["axes"],
        "scale": f"{reconstruction.scale}, {SCALES[reconstruction.scale]}",
        "unit": unit,
        **particulars,
        "checkpoint_sha256": reconstruction.provenance.checkpoint_sha256,
    }


def lines(said: dict[str, str]) -> tuple[str, ...]:
    """A statement as lines of ASCII."""
    return tuple(f"{name}: {text}".encode("ascii", "backslashreplace").decode() for name, text in said.items())


def y_up(vectors: Float[np.ndarray, "*shape 3"]) -> Float[np.ndarray, "*shape 3"]:
    """Points or directions of the world in axes of which y points up, as glTF and USD have them; a rotation."""
    return vectors * FLIP.diagonal()[:3].astype(vectors.dtype)


def y_up_cameras(poses: Float[np.ndarray, "views 4 4"]) -> Float[np.ndarray, "views 4 4"]:
    """Camera-to-world poses where y points up both in the world and in the camera, which looks along -z."""
    return FLIP @ poses @ FLIP


def opengl_cameras(poses: Float[np.ndarray, "views 4 4"]) -> Float[np.ndarray, "views 4 4"]:
    """Camera-to-world poses of cameras with y up that look along -z, in the world as it is."""
    return poses @ FLIP
