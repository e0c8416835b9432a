"""TartanAir, the left camera, as unpacked from the official archives.

ENVIRONMENT/LEVEL/P000/image_left/000000_left.png, depth_left/000000_left_depth.npy and pose_left.txt, whose line i is
picture i: `tx ty tz qx qy qz qw`, camera-to-world, metres, axes north-east-down: the camera looks along its x, y points
right, z down. Pictures are 640 x 480 with a field of view of 90 degrees (focal length 320, centre 320, 240). Depth is
along the optical axis, in metres; the sky hangs at a large finite distance, so that 80 m and more are taken as unknown.
Data and conventions: github.com/castacks/tartanair_tools.
"""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from g2vlm.data.readers.cameras import pose_from
from g2vlm.data.readers.derived import Derived, npy
from g2vlm.data.readers.listing import files, holding, numbers, picture_size
from g2vlm.data.recon import DepthFile, File, Frame, Scene, pinhole
from g2vlm.data.samples import BadSample

SIZE = (480, 640)
FARTHEST = 80.0

NED = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
"""Our camera axes (columns: right, down, forward) in the camera's own: x forward, y right, z down."""


def scenes(src: Path) -> Iterator[Scene]:
    """One for every trajectory at, or up to four folders below, `src`."""
    return map(_scene, holding(src, ["pose_left.txt"], levels=4))


def _scene(folder: Path) -> Scene:
    name = "_".join(folder.resolve().parts[-3:])
    poses = numbers(folder / "pose_left.txt", -1, 7)
    pictures = files(folder / "image_left", "*_left.png")
    if not pictures:
        raise BadSample(f"{folder / 'image_left'}: no *_left.png; unpack image_left.zip here")
    if picture_size(pictures[0]) != SIZE:
        raise BadSample(f"{pictures[0]}: is not 640 x 480 as published, so that its focal length is unknown")
    return Scene(
        name=name,
        frames=tuple(_frame(folder, name, file, poses) for file in pictures),
        is_metric=True,
        source="TartanAir",
        licence="see theairlab.org/tartanair-dataset",
    )


def _frame(folder: Path, scene: str, picture: Path, poses: Float[np.ndarray, "poses 7"]) -> Frame:
    label = picture.stem.removesuffix("_left")
    if not label.isdecimal() or int(label) >= len(poses):
        raise BadSample(f"{picture}: has no line in pose_left.txt, which has {len(poses)}")
    place, quaternion = poses[int(label), :3], poses[int(label), 3:]
    if not 0.99 < np.linalg.norm(quaternion) < 1.01:
        raise BadSample(f"{folder / 'pose_left.txt'}: line {int(label) + 1} has a quaternion that is not of length 1")
    depth = folder / "depth_left" / f"{label}_left_depth.npy"
    return Frame(
        name=f"{scene}/{picture.name}",
        image=File(picture),
        intrinsics=pinhole(320, 320, 320, 240),
        pose=pose_from(Rotation.from_quat(quaternion).as_matrix() @ NED, place),
        depth=DepthFile(Derived(depth, make=_without_sky), "npy") if depth.is_file() else None,
    )


def _without_sky(content: bytes) -> bytes:
    depth = np.load(io.BytesIO(content), allow_pickle=False)
    return npy(np.where(depth < FARTHEST, depth, 0).astype(np.float32))
