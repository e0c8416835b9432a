"""DTU: point maps of 22 scans, from every 5th of their 49 pictures, as MVSNet prepared them.

scan1/images/00000000.jpg, depths/00000000.npy (or .pfm; millimetres), binary_masks/00000000.png and
cams/00000000_cam.txt: world-to-camera 4x4 after the word `extrinsic`, 3x3 of the depth map's pixels after
`intrinsic`, centres at whole pixels. Depth counts where the mask, shrunk by a square of 10 x 10 pixels, is white.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.ndimage import binary_erosion

from g2vlm.data.readers.cameras import inverse, resized
from g2vlm.data.readers.derived import Derived, npy, pixels
from g2vlm.data.readers.listing import files, picture_size, text
from g2vlm.data.recon import DEPTH_CODINGS, DepthFile, File, Frame, Scene, pinhole, sample_nearest
from g2vlm.data.samples import BadSample
from g2vlm.eval.benchmarks.folders import each_sequence
from g2vlm.eval.benchmarks.frames import every
from g2vlm.eval.benchmarks.rules import POINTS
from g2vlm.eval.benchmarks.scenes import SceneBenchmark

EROSION = np.ones((10, 10), dtype=bool)
WHITE = 127.5

_pfm = DEPTH_CODINGS["pfm"]

LAYOUT = """dtu_test_mvsnet_release, unpacked:
  scan1/images/00000000.jpg, scan1/cams/00000000_cam.txt (world-to-camera, intrinsics)
  scan1/depths/00000000.npy (or .pfm; millimetres), scan1/binary_masks/00000000.png"""


def sequences(data: Path, names: Sequence[str] | None) -> Iterator[Scene]:
    return each_sequence(data, names, _scene)


def _scene(folder: Path, name: str) -> Scene:
    frames = tuple(_frame(folder, name, picture) for picture in files(folder / "images", "*.jpg"))
    return Scene(name, frames, is_metric=False, source="DTU", licence="see roboimagedata.compute.dtu.dk")


def _frame(folder: Path, name: str, picture: Path) -> Frame:
    depth = folder / "depths" / f"{picture.stem}.npy"
    if not depth.is_file():
        depth = depth.with_suffix(".pfm")
    mask = folder / "binary_masks" / f"{picture.stem}.png"
    own, pose = _camera(folder / "cams" / f"{picture.stem}_cam.txt")
    masked = Derived(depth, make=partial(_masked, coding=depth.suffix.removeprefix("."), mask=File(mask)))
    size, depth_size = picture_size(picture), _size(depth)
    return Frame(
        f"{name}/{picture.name}",
        File(picture),
        resized(own, depth_size, size),
        pose,
        DepthFile(masked, "npy", intrinsics=None if size == depth_size else own),
    )


def _size(depth: Path) -> tuple[int, int]:
    """(height, width), of an npy file from its header alone."""
    try:
        shape = np.load(depth, mmap_mode="r").shape if depth.suffix == ".npy" else _pfm(depth.read_bytes()).shape
        height, width = shape
    except (OSError, ValueError) as error:
        raise BadSample(f"{depth}: is no depth map ({error})") from error
    return height, width


def _camera(file: Path) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "4 4"]]:
    """Intrinsics of the depth map, and the pose."""
    words = text(file).split()
    try:
        outside, inside = words.index("extrinsic") + 1, words.index("intrinsic") + 1
        world_to_camera = np.array(words[outside : outside + 16], dtype=np.float64).reshape(4, 4)
        (fx, _, cx), (_, fy, cy), _ = np.array(words[inside : inside + 9], dtype=np.float64).reshape(3, 3)
    except ValueError as error:
        raise BadSample(f"{file}: is no camera of MVSNet ({error})") from error
    return pinhole(fx, fy, cx + 0.5, cy + 0.5), inverse(world_to_camera)


def _masked(content: bytes, coding: str, mask: File) -> bytes:
    """Depth; 0 outside the mask, near its edge, and where it is not finite."""
    depth = DEPTH_CODINGS[coding](content)
    stored = pixels(mask.read())
    white = stored.astype(np.float32) * (255 if stored.dtype == bool else 1)
    grey = white if white.ndim == 2 else white.mean(-1)
    is_object = sample_nearest(grey, (depth.shape[0], depth.shape[1])) > WHITE
    is_inside = binary_erosion(is_object, EROSION, border_value=1)
    return npy(np.where(is_inside & np.isfinite(depth), depth, 0).astype(np.float32))


BENCHMARKS = (
    SceneBenchmark(
        name="dtu",
        title="DTU, point maps from every 5th picture",
        reference="Jensen et al., Large scale multi-view stereopsis evaluation, CVPR 2014",
        licence="see roboimagedata.compute.dtu.dk",
        layout=LAYOUT,
        sequences=sequences,
        selection=every(5),
        listed="dtu",
        tasks=("points",),
        rules=POINTS,
        reach=100.0,
    ),
)
