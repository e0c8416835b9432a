"""COLMAP models (cameras and images, text or binary) with their pictures, and dense depth where stereo was run.

Each folder that holds `cameras.bin` or `cameras.txt` is a scene; its pictures lie in `images` beside `sparse`. COLMAP has
pixel centres at +0.5, as we do, and stores world-to-camera poses.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float

from g2vlm.data.readers.cameras import inverse, pose_from
from g2vlm.data.readers.listing import holding
from g2vlm.data.recon import DepthFile, File, Frame, Scene, pinhole
from g2vlm.data.samples import BadSample

# By number: name and parameters. Those after the focal lengths and the principal point are distortion.
MODELS = (
    ("SIMPLE_PINHOLE", "f cx cy"),
    ("PINHOLE", "fx fy cx cy"),
    ("SIMPLE_RADIAL", "f cx cy k1"),
    ("RADIAL", "f cx cy k1 k2"),
    ("OPENCV", "fx fy cx cy k1 k2 p1 p2"),
    ("OPENCV_FISHEYE", "fx fy cx cy k1 k2 k3 k4"),
    ("FULL_OPENCV", "fx fy cx cy k1 k2 p1 p2 k3 k4 k5 k6"),
    ("FOV", "fx fy cx cy omega"),
    ("SIMPLE_RADIAL_FISHEYE", "f cx cy k1"),
    ("RADIAL_FISHEYE", "f cx cy k1 k2"),
    ("THIN_PRISM_FISHEYE", "fx fy cx cy k1 k2 p1 p2 k3 k4 sx1 sy1"),
    ("RAD_TAN_THIN_PRISM_FISHEYE", "fx fy cx cy k0 k1 k2 k3 k4 k5 p0 p1 s0 s1 s2 s3"),
)
PARAMETERS = {name: parameters.split() for name, parameters in MODELS}


@dataclass(frozen=True)
class Camera:
    """A camera of a model. parameters: as `PARAMETERS` orders them."""

    model: str
    width: int
    height: int
    parameters: tuple[float, ...]


@dataclass(frozen=True)
class Image:
    """A picture of a model. rotation: quaternion, real part first; both it and translation take world to camera."""

    name: str
    camera: int
    rotation: tuple[float, ...]
    translation: tuple[float, ...]


def scenes(src: Path) -> Iterator[Scene]:
    """Every model at or below a folder, named after the folder that holds its pictures."""
    return map(partial(_scene, src), models(src))


def models(src: Path) -> list[Path]:
    """Folders of models at or below a folder."""
    return holding(src, ["cameras.bin", "cameras.txt"], levels=4)


def read_model(folder: Path) -> tuple[dict[int, Camera], list[Image]]:
    """Cameras by number, and pictures by name; binary files are preferred to text."""
    try:
        if (folder / "cameras.bin").is_file():
            cameras, images = _binary_cameras(folder / "cameras.bin"), _binary_images(folder / "images.bin")
        else:
            cameras, images = _text_cameras(folder / "cameras.txt"), _text_images(folder / "images.txt")
    except (OSError, struct.error, IndexError, KeyError, ValueError) as error:
        raise BadSample(f"{folder}: is no COLMAP model that can be read ({error})") from error
    return cameras, sorted(images, key=lambda image: image.name)


def intrinsics_of(name: str, camera: Camera) -> Float[np.ndarray, "3 3"]:
    """Of a camera without distortion; any other is refused."""
    numbers = dict(zip(PARAMETERS[camera.model], camera.parameters, strict=True))
    is_pinhole = camera.model in ("SIMPLE_PINHOLE", "PINHOLE")
    fx, fy = numbers.pop("fx", numbers.get("f")), numbers.pop("fy", numbers.pop("f", None))
    cx, cy = numbers.pop("cx"), numbers.pop("cy")
    if not is_pinhole and (any(numbers.values()) or "FISHEYE" in camera.model):
        raise BadSample(f"{name}: camera {camera.model} distorts; run colmap image_undistorter and read its output")
    assert fx is not None
    assert fy is not None
    return pinhole(fx, fy, cx, cy)


def pose_of(image: Image) -> Float[np.ndarray, "4 4"]:
    """Camera-to-world."""
    w, x, y, z = np.array(image.rotation) / np.linalg.norm(image.rotation)
    to_camera = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    return inverse(pose_from(to_camera, np.array(image.translation)))


def _scene(src: Path, model: Path) -> Scene:
    root = next((folder for folder in (model, *model.parents[:2]) if (folder / "images").is_dir()), None)
    if root is None:
        raise BadSample(f"{model}: no folder of images beside it or up to two levels above")
    parts = [part for part in model.resolve().relative_to(src.resolve()).parts if part not in ("sparse", "0")]
    name = "_".join(parts) or src.resolve().name
    cameras, images = read_model(model)
    intrinsics = {number: intrinsics_of(f"{name}, camera {number}", camera) for number, camera in cameras.items()}
    if unknown := {image.camera for image in images} - set(cameras):
        raise BadSample(f"{name}: pictures name camera {min(unknown)}, which the model does not have")
    frames = [
        Frame(
            f"{name}/{image.name}",
            File(root / "images" / image.name),
            intrinsics[image.camera],
            pose_of(image),
            _depth(root, image.name),
        )
        for image in images
    ]
    return Scene(name, tuple(frames), is_metric=False, source="COLMAP", licence="unknown", is_sequence=False)


def _depth(root: Path, image: str) -> DepthFile | None:
    path = root / "stereo" / "depth_maps" / f"{image}.geometric.bin"
    return DepthFile(File(path), "colmap") if path.is_file() else None


def _binary_cameras(path: Path) -> dict[int, Camera]:
    content = path.read_bytes()
    (count,), offset, cameras = struct.unpack_from("<Q", content), 8, {}
    for _ in range(count):
        number, model, width, height = struct.unpack_from("<iiQQ", content, offset)
        name = MODELS[model][0]
        layout = f"<{len(PARAMETERS[name])}d"
        cameras[number] = Camera(name, width, height, struct.unpack_from(layout, content, offset + 24))
        offset += 24 + struct.calcsize(layout)
    return cameras


def _binary_images(path: Path) -> list[Image]:
    content = path.read_bytes()
    (count,), offset, images = struct.unpack_from("<Q", content), 8, []
    for _ in range(count):
        _, *pose, camera = struct.unpack_from("<i7di", content, offset)
        end = content.index(b"\0", offset + 64)
        images.append(Image(content[offset + 64 : end].decode(), camera, tuple(pose[:4]), tuple(pose[4:])))
        (points,) = struct.unpack_from("<Q", content, end + 1)
        offset = end + 9 + 24 * points
    return images


def _text_cameras(path: Path) -> dict[int, Camera]:
    cameras = {}
    for line in path.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            number, model, width, height, *parameters = line.split()
            if len(parameters) != len(PARAMETERS[model]):
                raise ValueError(
                    f"camera {number}: {model} has {len(PARAMETERS[model])} parameters, not {len(parameters)}"
                )
            cameras[int(number)] = Camera(model, int(width), int(height), tuple(float(x) for x in parameters))
    return cameras


def _text_images(path: Path) -> list[Image]:
    """Two lines for each picture: its pose, and its points, which may be none."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    images = []
    for line in lines[0::2]:
        if line.strip():
            _, *pose, camera, name = line.strip().split(" ", maxsplit=9)
            numbers = tuple(float(x) for x in pose)
            images.append(Image(name, int(camera), numbers[:4], numbers[4:]))
    return images
