"""DL3DV-10K and its benchmark, as downloaded.

SUBSET/HASH/transforms.json (benchmark: HASH/nerfstudio/transforms.json) in nerfstudio's convention, OpenGL poses of
COLMAP, arbitrary unit, no depth. `w h fl_x fl_y cx cy` belong to the full picture, and `file_path` says images/; what is
on disk are images_4 (960 x 540), images_8, images_2 or images, of which the first is taken, its intrinsics scaled.
The wide lenses distort (`camera_model` OPENCV: k1 k2 p1 p2) by several pixels. Where a pixel is further than half a
pixel from where a pinhole camera would have it, pictures are undistorted as they are read, with a focal length just so
much longer that no pixel lacks a colour. Listed pictures that are not there are left out.
Licence: DL3DV-10K Terms of Use. Conventions: github.com/DL3DV-10K/Dataset.
"""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.ndimage import map_coordinates

from g2vlm.data.readers.cameras import pose_of, resized
from g2vlm.data.readers.derived import Derived, pixels, png
from g2vlm.data.readers.listing import holding, natural, picture_size, text
from g2vlm.data.recon import File, Frame, Scene, pinhole
from g2vlm.data.samples import BadSample
from g2vlm.geometry.pose import FLIP

PICTURES = ("images_4", "images_8", "images_2", "images")
TOLERANCE = 0.5  # pixels
ZOOM_STEP, LARGEST_ZOOM = 1.002, 1.5


def scenes(src: Path) -> Iterator[Scene]:
    """One for every scene at, or up to two folders below, `src`."""
    folders = holding(src, ["transforms.json", "nerfstudio/transforms.json"], levels=2)
    return map(_scene, folders)


def _scene(scene: Path) -> Scene:
    name = scene.resolve().name
    folder = scene / "nerfstudio" if (scene / "nerfstudio").is_dir() else scene
    pictures = next((folder / kind for kind in PICTURES if (folder / kind).is_dir()), None)
    if pictures is None:
        raise BadSample(f"{folder}: none of {', '.join(PICTURES)} is there; download images+poses")
    there = {file.name: file for file in pictures.iterdir()}
    try:
        record = json.loads(text(folder / "transforms.json"))
        listed = {Path(frame["file_path"]).name: frame["transform_matrix"] for frame in record["frames"]}
        kept = sorted((there[label] for label in listed.keys() & there.keys()), key=natural)
        if not kept:
            raise BadSample(f"{pictures}: holds none of the {len(listed)} pictures that transforms.json lists")
        size = picture_size(kept[0])
        intrinsics, distortion = _camera(folder, record, size)
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise BadSample(
            f"{folder / 'transforms.json'}: is not as documented ({type(error).__name__}: {error})"
        ) from error
    straight, make = _straightened(name, intrinsics, distortion, size)
    frames = tuple(
        Frame(
            name=f"{name}/{file.name}",
            image=File(file) if make is None else Derived(file, member=f"{file.stem}.png", make=make),
            intrinsics=straight,
            pose=pose_of(f"{name}/{file.name}", listed[file.name]) @ FLIP,
        )
        for file in kept
    )
    return Scene(name, frames, is_metric=False, source="DL3DV-10K", licence="DL3DV-10K Terms of Use")


def _camera(
    folder: Path, record: dict[str, Any], size: tuple[int, int]
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "4"]]:
    """Intrinsics at the size of the pictures on disk, and k1 k2 p1 p2."""
    model, full = record.get("camera_model", "OPENCV"), (int(record["h"]), int(record["w"]))
    if model not in ("OPENCV", "PINHOLE"):
        raise BadSample(f"{folder}: camera model {model}; OPENCV and PINHOLE are known")
    if abs(size[0] * full[1] / (size[1] * full[0]) - 1) > 0.02:
        raise BadSample(f"{folder}: pictures are {size[1]} x {size[0]}, not a smaller {full[1]} x {full[0]}")
    intrinsics = pinhole(record["fl_x"], record["fl_y"], record["cx"], record["cy"])
    return resized(intrinsics, full, size), np.array([record.get(key, 0.0) for key in ("k1", "k2", "p1", "p2")])


def _straightened(
    name: str, intrinsics: Float[np.ndarray, "3 3"], distortion: Float[np.ndarray, "4"], size: tuple[int, int]
) -> tuple[Float[np.ndarray, "3 3"], partial[bytes] | None]:
    """Intrinsics of a pinhole camera, and what makes its pictures; nothing where they are good as they are."""
    rim = _rim(size)
    if np.abs(_distorted(rim, intrinsics, intrinsics, distortion) - rim).max() < TOLERANCE:
        return intrinsics, None
    zoom = 1.0
    while zoom < LARGEST_ZOOM:
        straight = intrinsics * [[zoom, 1, 1], [1, zoom, 1], [1, 1, 1]]
        x, y = _distorted(rim, straight, intrinsics, distortion)
        if min(x.min(), y.min(), size[1] - x.max(), size[0] - y.max()) >= 0:
            return straight, partial(
                _undistorted, straight=straight, intrinsics=intrinsics, distortion=distortion, size=size
            )
        zoom *= ZOOM_STEP
    raise BadSample(f"{name}: its lens distorts too much ({', '.join(f'{value:g}' for value in distortion)})")


def _rim(size: tuple[int, int]) -> Float[np.ndarray, "2 points"]:
    """Points (x, y) along the outer edge of a picture."""
    along = np.linspace(0, 1, 101)
    zero, one = np.zeros_like(along), np.ones_like(along)
    points = np.stack([np.concatenate([along, along, zero, one]), np.concatenate([zero, one, along, along])])
    return points * [[size[1]], [size[0]]]


def _distorted(
    points: Float[np.ndarray, " 2 *more"],
    straight: Float[np.ndarray, "3 3"],
    intrinsics: Float[np.ndarray, "3 3"],
    distortion: Float[np.ndarray, "4"],
) -> Float[np.ndarray, " 2 *more"]:
    """Where the lens puts what a pinhole camera would have at these pixels; OpenCV's model of four numbers."""
    k1, k2, p1, p2 = distortion
    x = (points[0] - straight[0, 2]) / straight[0, 0]
    y = (points[1] - straight[1, 2]) / straight[1, 1]
    square = x**2 + y**2
    radial = 1 + k1 * square + k2 * square**2
    moved_x = x * radial + 2 * p1 * x * y + p2 * (square + 2 * x**2)
    moved_y = y * radial + p1 * (square + 2 * y**2) + 2 * p2 * x * y
    return np.stack([moved_x * intrinsics[0, 0] + intrinsics[0, 2], moved_y * intrinsics[1, 1] + intrinsics[1, 2]])


def _undistorted(
    content: bytes,
    straight: Float[np.ndarray, "3 3"],
    intrinsics: Float[np.ndarray, "3 3"],
    distortion: Float[np.ndarray, "4"],
    size: tuple[int, int],
) -> bytes:
    picture = pixels(content)
    if picture.shape[:2] != size or picture.ndim != 3:
        raise ValueError(f"an array of shape {picture.shape}, the first picture of the scene is {size[1]} x {size[0]}")
    rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
    x, y = _distorted(np.stack([columns, rows]), straight, intrinsics, distortion)
    places = np.stack([y, x]) - 0.5  # scipy counts pixel centres from 0
    channels = [map_coordinates(picture[..., i], places, np.float32, order=1, mode="nearest") for i in range(3)]
    return png(np.stack(channels, axis=-1).round().astype(np.uint8))
