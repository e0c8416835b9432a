"""MPI Sintel: depth of single frames and camera trajectories, of the 14 sequences of which depth papers speak.

camdata_left/SEQUENCE/frame_0001.cam holds a tag, then intrinsics 3x3 (centres at whole pixels) and world-to-camera
3x4 as doubles; depth/SEQUENCE/frame_0001.dpt a tag, width, height and floats. The sky is far but finite, hence
`farthest`. Lengths have an arbitrary unit. Formats: the depth SDK at sintel.is.tue.mpg.de/depth.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from g2vlm.data.readers.cameras import inverse
from g2vlm.data.readers.derived import Derived, npy
from g2vlm.data.readers.listing import files
from g2vlm.data.recon import DepthFile, File, Frame, Scene, pinhole
from g2vlm.data.samples import BadSample
from g2vlm.eval.benchmarks.folders import each_sequence
from g2vlm.eval.benchmarks.frames import all_frames
from g2vlm.eval.benchmarks.rules import DEPTH, POSES
from g2vlm.eval.benchmarks.scenes import SceneBenchmark

TAG = 202021.25

LAYOUT = """training/ of MPI-Sintel-complete with the archives of depth and cameras unpacked over it:
  training/final/alley_2/frame_0001.png
  training/depth/alley_2/frame_0001.dpt
  training/camdata_left/alley_2/frame_0001.cam"""


def sequences(data: Path, names: Sequence[str] | None) -> Iterator[Scene]:
    root = data / "training" if (data / "training").is_dir() else data
    return each_sequence(root / "final", names, lambda folder, name: _scene(root, name))


def _scene(root: Path, name: str) -> Scene:
    frames = tuple(_frame(root, name, picture) for picture in files(root / "final" / name, "frame_*.png"))
    return Scene(name, frames, is_metric=False, source="MPI Sintel", licence="see sintel.is.tue.mpg.de")


def _frame(root: Path, name: str, picture: Path) -> Frame:
    camera = root / "camdata_left" / name / f"{picture.stem}.cam"
    depth = root / "depth" / name / f"{picture.stem}.dpt"
    tag, *numbers = _unpacked("<f21d", File(camera).read(), camera)
    if tag != TAG:
        raise BadSample(f"{camera}: begins with {tag}, not {TAG}; is it a camera of the depth archive?")
    (fx, _, cx), (_, fy, cy), _ = np.reshape(numbers[:9], (3, 3))
    world_to_camera = np.vstack([np.reshape(numbers[9:], (3, 4)), [0, 0, 0, 1]])
    return Frame(
        f"{name}/{picture.name}",
        File(picture),
        pinhole(fx, fy, cx + 0.5, cy + 0.5),
        inverse(world_to_camera),
        DepthFile(Derived(depth, make=_as_npy), "npy"),
    )


def _as_npy(content: bytes) -> bytes:
    """Depth as stored; 0 where it is not finite."""
    tag = np.frombuffer(content, "<f4", 1)[0]
    if tag != TAG:
        raise ValueError(f"begins with {tag}, not {TAG}")
    width, height = np.frombuffer(content, "<i4", 2, offset=4)
    depth = np.frombuffer(content, "<f4", offset=12).reshape(height, width)
    return npy(np.where(np.isfinite(depth), depth, 0))


def _unpacked(layout: str, content: bytes, file: Path) -> tuple[float, ...]:
    try:
        return struct.unpack(layout, content)
    except struct.error as error:
        raise BadSample(f"{file}: is no Sintel camera ({error})") from error


_SINTEL = SceneBenchmark(
    name="sintel-depth",
    title="MPI Sintel, depth of single frames of 14 sequences",
    reference="Butler et al., A naturalistic open source movie for optical flow evaluation, ECCV 2012",
    licence="see sintel.is.tue.mpg.de",
    layout=LAYOUT,
    sequences=sequences,
    selection=all_frames(),
    listed="sintel",
    tasks=("depth",),
    rules=DEPTH,
    has_single_pictures=True,
    farthest=70.0,
)

BENCHMARKS = (
    _SINTEL,
    replace(
        _SINTEL,
        name="sintel-trajectory",
        title="MPI Sintel, camera trajectories of 14 sequences",
        tasks=("trajectory",),
        rules=POSES,
        has_single_pictures=False,
    ),
)
