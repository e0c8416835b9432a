"""Hypersim, as unpacked, beside `metadata_camera_parameters.csv` from contrib/mikeroberts3000 of apple/ml-hypersim.

SCENE/images/scene_cam_00_final_preview/frame.0000.tonemap.jpg (1024 x 768) with
scene_cam_00_geometry_hdf5/frame.0000.depth_meters.hdf5: distance along the ray in metres, NaN where nothing was hit.
SCENE/_detail/cam_00/camera_keyframe_{frame_indices,positions,orientations}.hdf5: camera-to-world in asset units and OpenGL
axes (x right, y up, z backward); metadata_scene.csv says how many metres an asset unit is. Each camera is a scene.

Many scenes were rendered through shifted or tilted lenses. The table's `M_cam_from_uv` takes picture coordinates (u to the
right, v up, both from -1 to 1) to rays in the camera's OpenGL axes, whatever the lens. It is split here into intrinsics
and a rotation, which is given to the pose: a tilted sensor is an upright pinhole camera that looks elsewhere. Standard
scenes come out with a focal length of 886.81, and the pixels of all but a few are square. A camera that would be skewed by
more than half a pixel at the edge is refused. Licence CC BY-SA 3.0.
"""

import csv
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.linalg import rq

from g2vlm.data.readers.cameras import pose_from
from g2vlm.data.readers.listing import files, holding, natural, picture_size
from g2vlm.data.recon import DepthFile, File, Frame, Scene
from g2vlm.data.samples import BadSample
from g2vlm.geometry.pose import FLIP

CAMERAS = "metadata_camera_parameters.csv"
SUFFIX = ".tonemap.jpg"
MOST_SKEW = 0.5  # pixels, at the upper and lower edge


def scenes(src: Path) -> Iterator[Scene]:
    """One for every camera of the scenes at, or one folder below, `src`."""
    folders = holding(src, ["_detail/metadata_scene.csv"], levels=1)
    table = next((place / CAMERAS for place in (src, src.resolve().parent) if (place / CAMERAS).is_file()), None)
    if table is None:
        raise ValueError(f"{src}: no {CAMERAS}; put it there from contrib/mikeroberts3000 of apple/ml-hypersim")
    previews = [
        found for folder in folders for found in sorted(folder.glob("images/scene_cam_*_final_preview"), key=natural)
    ]
    if not previews:
        raise ValueError(f"{src}: no images/scene_cam_*_final_preview in any scene; unpack the previews too")
    return map(partial(_scene, table), previews)


def _scene(table: Path, preview: Path) -> Scene:
    images, folder = preview.parent, preview.parent.parent.resolve()
    camera = preview.name.removeprefix("scene_").removesuffix("_final_preview")
    name, detail = f"{folder.name}_{camera}", folder / "_detail" / camera
    pictures = files(preview, f"frame.*{SUFFIX}")
    if not pictures:
        raise BadSample(f"{preview}: no *{SUFFIX}")
    intrinsics, turn = _split_camera(folder.name, _rays(table, folder.name), picture_size(pictures[0]))
    places = _values(detail / "camera_keyframe_positions.hdf5") * _metres_per_unit(folder)
    rotations = _values(detail / "camera_keyframe_orientations.hdf5")
    indices = _values(detail / "camera_keyframe_frame_indices.hdf5").astype(int).tolist()
    if not len(indices) == len(rotations) == len(places):
        raise BadSample(f"{detail}: {len(indices)} frames, {len(rotations)} orientations, {len(places)} positions")
    poses = {i: pose_from(r, p) @ FLIP @ turn for i, r, p in zip(indices, rotations, places, strict=True)}
    depths = images / f"scene_{camera}_geometry_hdf5"
    frames = tuple(_frame(name, file, intrinsics, poses, depths) for file in pictures)
    return Scene(name, frames, is_metric=True, source="Hypersim", licence="CC BY-SA 3.0")


def _frame(
    scene: str, picture: Path, intrinsics: Float[np.ndarray, "3 3"], poses: dict[int, np.ndarray], depths: Path
) -> Frame:
    label = picture.name.removesuffix(SUFFIX)
    number = label.removeprefix("frame.")
    if not number.isdecimal() or int(number) not in poses:
        raise BadSample(f"{picture}: camera_keyframe_frame_indices.hdf5 does not know this frame")
    depth = depths / f"{label}.depth_meters.hdf5"
    return Frame(
        name=f"{scene}/{picture.name}",
        image=File(picture),
        intrinsics=intrinsics,
        pose=poses[int(number)],
        depth=DepthFile(File(depth), "hdf5", measures="ray") if depth.is_file() else None,
    )


@lru_cache(maxsize=1)
def _table(file: Path) -> dict[str, dict[str, str]]:
    with file.open(newline="") as stream:
        return {row["scene_name"]: row for row in csv.DictReader(stream)}


def _rays(table: Path, scene: str) -> Float[np.ndarray, "3 3"]:
    """From (u, v, 1) to a ray in OpenGL axes."""
    try:
        row = _table(table)[scene]
        return np.array([[float(row[f"M_cam_from_uv_{i}{j}"]) for j in range(3)] for i in range(3)])
    except (KeyError, ValueError, TypeError) as error:
        raise BadSample(f"{table}: no camera of {scene} in it ({type(error).__name__}: {error})") from error


def _split_camera(
    scene: str, rays: Float[np.ndarray, "3 3"], size: tuple[int, int]
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "4 4"]]:
    """Intrinsics, and the axes of the pinhole camera in those (OpenCV) of the camera that was tilted."""
    height, width = size
    uv_from_pixels = np.array([[2 / width, 0, -1], [0, -2 / height, 1], [0, 0, 1]])
    scaled, turn = rq(np.linalg.inv(FLIP[:3, :3] @ rays @ uv_from_pixels))
    signs = np.diag(np.sign(np.diag(scaled)))
    scaled, turn = scaled @ signs, signs @ turn
    intrinsics = scaled / scaled[2, 2]
    skew = abs(intrinsics[0, 1]) * height / 2 / intrinsics[1, 1]
    if np.linalg.det(turn) < 0 or skew > MOST_SKEW:
        raise BadSample(f"{scene}: its lens is tilted both ways, so that pixels are skewed by {skew:.1f} at the edge")
    intrinsics[0, 1] = 0
    return intrinsics, pose_from(turn.T, np.zeros(3))


def _metres_per_unit(folder: Path) -> float:
    file = folder / "_detail" / "metadata_scene.csv"
    try:
        with file.open(newline="") as stream:
            rows = {row["parameter_name"]: row["parameter_value"] for row in csv.DictReader(stream)}
        return float(rows["meters_per_asset_unit"])
    except (OSError, KeyError, ValueError) as error:
        raise BadSample(f"{file}: does not say meters_per_asset_unit ({type(error).__name__}: {error})") from error


def _values(file: Path) -> np.ndarray:
    try:
        import h5py
    except ImportError as error:
        raise ValueError("Hypersim needs h5py: pip install 'g2vlm[hdf5]'") from error
    try:
        with h5py.File(file, "r") as stream:
            return np.asarray(stream["dataset"], dtype=np.float64)
    except (OSError, KeyError) as error:
        raise BadSample(f"{file}: cannot be read ({error})") from error
