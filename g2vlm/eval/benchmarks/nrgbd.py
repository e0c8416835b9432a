"""Neural RGB-D: point maps of nine rendered rooms, from every 100th (dense) or every 500th (sparse) frame.

SCENE/images/img0.png, depth/depth0.png (16 bits, millimetres) and poses.txt: four rows of camera-to-world for each
frame, OpenGL axes; rows of nan where a frame has no pose. One camera took all: focal length 554.26, centre of a
picture of 640 x 480. Depth beyond 10 m is unknown.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from g2vlm.data.readers.derived import Derived, npy, pixels
from g2vlm.data.readers.listing import files, numbers
from g2vlm.data.recon import DepthFile, File, Frame, Scene, pinhole
from g2vlm.data.samples import BadSample
from g2vlm.eval.benchmarks.folders import each_sequence
from g2vlm.eval.benchmarks.frames import every
from g2vlm.eval.benchmarks.rules import POINTS
from g2vlm.eval.benchmarks.scenes import SceneBenchmark
from g2vlm.geometry.pose import FLIP

CAMERA = pinhole(554.2562584220408, 554.2562584220408, 320, 240)
FARTHEST = 10.0
DEPTH_UNIT = 0.001

LAYOUT = """neural_rgbd_data, unpacked:
  kitchen/images/img0.png, kitchen/depth/depth0.png (millimetres), kitchen/poses.txt (OpenGL camera-to-world)"""


def sequences(data: Path, names: Sequence[str] | None) -> Iterator[Scene]:
    return each_sequence(data, names, _scene)


def _scene(folder: Path, name: str) -> Scene:
    poses = numbers(folder / "poses.txt", -1, 4, 4)
    pictures = files(folder / "images", "img*.png")
    if len(poses) != len(pictures):
        raise BadSample(f"{folder}: {len(pictures)} pictures in images/, but {len(poses)} poses in poses.txt")
    frames = tuple(_frame(folder, name, picture, pose) for picture, pose in zip(pictures, poses, strict=True))
    return Scene(name, frames, is_metric=True, source="Neural RGB-D", licence="see dazinovic.github.io/neural-rgbd")


def _frame(folder: Path, name: str, picture: Path, pose: np.ndarray) -> Frame:
    depth = folder / "depth" / f"depth{picture.stem.removeprefix('img')}.png"
    return Frame(
        f"{name}/{picture.name}",
        File(picture),
        CAMERA,
        pose @ FLIP if np.isfinite(pose).all() else None,
        DepthFile(Derived(depth, make=_near), "npy"),
    )


def _near(content: bytes) -> bytes:
    """Metres; 0 where unknown or too far."""
    depth = pixels(content).astype(np.float32) * np.float32(DEPTH_UNIT)
    return npy(np.where(depth > FARTHEST, np.float32(0), depth))


_DENSE = SceneBenchmark(
    name="nrgbd-dense",
    title="Neural RGB-D, point maps from every 100th frame",
    reference="Azinović et al., Neural RGB-D surface reconstruction, CVPR 2022",
    licence="see dazinovic.github.io/neural-rgbd-surface-reconstruction",
    layout=LAYOUT,
    sequences=sequences,
    selection=every(100),
    listed="nrgbd-dense",
    tasks=("points",),
    rules=POINTS,
)

BENCHMARKS = (
    _DENSE,
    replace(
        _DENSE,
        name="nrgbd-sparse",
        title="Neural RGB-D, point maps from every 500th frame",
        selection=every(500),
        listed="nrgbd-sparse",
    ),
)
