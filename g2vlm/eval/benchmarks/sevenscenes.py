"""7-Scenes: point maps of the test sequences, from every 40th (dense) or every 200th (sparse) frame.

Depth of the sensor is not registered to colour. Where `frame-000000.depth.proj.png` lies beside it (made by the
scripts that papers use), that is read; otherwise depth is registered here in the same way, with the calibration of a
Kinect that those scripts took from projet.liris.cnrs.fr. Depth beyond 10 m is unknown.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from g2vlm.data.readers import sevenscenes
from g2vlm.data.readers.derived import Derived, npy, pixels
from g2vlm.data.recon import DepthFile, Frame, Scene
from g2vlm.eval.benchmarks.folders import each_sequence
from g2vlm.eval.benchmarks.frames import every
from g2vlm.eval.benchmarks.rules import POINTS
from g2vlm.eval.benchmarks.scenes import SceneBenchmark

FARTHEST = 10.0

COLOUR_FROM_DEPTH = np.array(
    [
        [9.9996518012567637e-01, 2.6765126468950343e-03, -7.9041012313000904e-03, -2.5558943178152542e-02],
        [-2.7409311281316700e-03, 9.9996302803027592e-01, -8.1504520778013286e-03, 1.0109636268061706e-04],
        [7.8819942130445332e-03, 8.1718328771890631e-03, 9.9993554558014031e-01, 2.0318321729487039e-03],
    ]
)
"""Of a Kinect; metres."""

LAYOUT = """the seven scenes with their sequences unpacked:
  chess/seq-03/frame-000000.color.png, .depth.png (millimetres, 65535 unknown), .pose.txt (camera-to-world)
  chess/seq-03/frame-000000.depth.proj.png     optional: depth registered to colour"""


def sequences(data: Path, names: Sequence[str] | None) -> Iterator[Scene]:
    if names is None:
        names = ["/".join(folder.relative_to(data).parts) for folder in sorted(data.glob("*/seq-*"))]
    return each_sequence(data, names, _scene)


def _scene(folder: Path, name: str) -> Scene:
    (scene,) = sevenscenes.scenes(folder)
    return replace(scene, name=name, frames=tuple(map(_registered, scene.frames)))


def _registered(frame: Frame) -> Frame:
    colour = frame.image.path
    label = colour.name.removesuffix(sevenscenes.COLOUR)
    projected = colour.with_name(f"{label}.depth.proj.png")
    if projected.is_file():
        return replace(frame, depth=DepthFile(Derived(projected, make=_near), "npy"))
    return replace(frame, depth=DepthFile(Derived(colour.with_name(f"{label}.depth.png"), make=_in_colour), "npy"))


def _near(content: bytes) -> bytes:
    """Metres; 0 where unknown or too far."""
    return npy(_metres(content))


def _metres(content: bytes) -> np.ndarray:
    depth = pixels(content).astype(np.float32) * np.float32(sevenscenes.DEPTH_UNIT)
    return np.where(depth > FARTHEST, np.float32(0), depth)


def _in_colour(content: bytes) -> bytes:
    """Each depth at the pixel of the colour camera where its point is seen; of several the nearest one."""
    depth = _metres(content)
    rows, columns = np.nonzero(depth)
    z = depth[rows, columns].astype(np.float64)
    rays = np.linalg.solve(sevenscenes.DEPTH_CAMERA, np.stack([columns + 0.5, rows + 0.5, np.ones_like(z)]))
    x, y, z = COLOUR_FROM_DEPTH[:, :3] @ (rays * z) + COLOUR_FROM_DEPTH[:, 3:]
    columns, rows, _ = np.floor(sevenscenes.COLOUR_CAMERA @ np.stack([x / z, y / z, np.ones_like(z)])).astype(int)
    height, width = depth.shape
    is_inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    registered = np.full(depth.shape, np.inf)
    np.minimum.at(registered, (rows[is_inside], columns[is_inside]), z[is_inside])
    return npy(np.where(np.isfinite(registered), registered, 0).astype(np.float32))


_DENSE = SceneBenchmark(
    name="7scenes-dense",
    title="7-Scenes, point maps from every 40th frame",
    reference="Shotton et al., Scene coordinate regression forests for camera relocalization, CVPR 2013",
    licence="Microsoft Research Licence Agreement, non-commercial",
    layout=LAYOUT,
    sequences=sequences,
    selection=every(40),
    listed="7scenes-dense",
    tasks=("points",),
    rules=POINTS,
)

BENCHMARKS = (
    _DENSE,
    replace(
        _DENSE,
        name="7scenes-sparse",
        title="7-Scenes, point maps from every 200th frame",
        selection=every(200),
        listed="7scenes-sparse",
    ),
)
