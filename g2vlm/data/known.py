"""Known cameras of photos, from whichever file they were kept in."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from g2vlm.data.readers import colmap, scene_json, transforms
from g2vlm.data.recon import Scene
from g2vlm.geometry.camera import rescale_intrinsics
from g2vlm.known import KnownCameras

FORMS = "a cameras.json of `g2vlm predict`, a transforms.json, a scene.json, or a folder of COLMAP (text or binary)"


@dataclass(frozen=True)
class _Camera:
    """One photo's. size: (height, width) that the intrinsics are of; None: of the photo as it is."""

    intrinsics: Float[np.ndarray, "3 3"] | None
    pose: Float[np.ndarray, "4 4"] | None
    size: tuple[int, int] | None = None


def read_known(source: Path, names: Sequence[str], sizes: Sequence[tuple[int, int]]) -> KnownCameras:
    """The cameras of photos by their names (without folders), in their order; sizes: (height, width) of the photos.

    ValueError where the file is of no known form, does not name every photo, or knows neither intrinsics nor poses of all of them.
    """
    cameras, is_metric = _read(source)
    missing = [name for name in names if name not in cameras]
    if missing:
        raise ValueError(
            f"{source} knows no camera of {missing[0]} ({len(missing)} of {len(names)} photos); it names {', '.join(sorted(cameras)[:3])}"
        )
    found = [cameras[name] for name in names]
    intrinsics = [_of_photo(camera, size) for camera, size in zip(found, sizes, strict=True)]
    poses = [camera.pose for camera in found]
    known = KnownCameras(
        None if any(x is None for x in intrinsics) else np.stack([x for x in intrinsics if x is not None]),
        None if any(x is None for x in poses) else np.stack([x for x in poses if x is not None]),
        is_metric,
        str(source),
    )
    if known.intrinsics is None and known.poses is None:
        raise ValueError(
            f"{source} knows neither the intrinsics nor the poses of all photos; leave out those that it lacks"
        )
    return known


def _of_photo(camera: _Camera, size: tuple[int, int]) -> Float[np.ndarray, "3 3"] | None:
    """Intrinsics in pixels of the photo, which may be larger or smaller than the picture they were kept with."""
    if camera.intrinsics is None or camera.size is None:
        return camera.intrinsics
    return rescale_intrinsics(torch.from_numpy(camera.intrinsics), camera.size, size).numpy()


def _read(source: Path) -> tuple[dict[str, _Camera], bool]:
    """Cameras by the name of their photo, and whether their poses are in metres."""
    if source.is_dir():
        return _of_scene(scene_json.read_scene(source)) if (source / "scene.json").is_file() else _of_colmap(source)
    if not source.is_file():
        raise ValueError(f"{source}: there is no such file or folder; give {FORMS}")
    try:
        record = json.loads(source.read_text())
    except ValueError as error:
        raise ValueError(f"{source} is no JSON ({error}); give {FORMS}") from error
    if isinstance(record, dict) and "cameras" in record:
        return _of_prediction(source, record)
    if source.name == "scene.json":
        return _of_scene(scene_json.read_scene(source.parent))
    if isinstance(record, dict) and "frames" in record:
        (scene,) = transforms.scenes(source)
        return _of_scene(scene)
    raise ValueError(f"{source} holds neither cameras nor frames; give {FORMS}")


def _of_scene(scene: Scene) -> tuple[dict[str, _Camera], bool]:
    return {
        Path(frame.image.path).name: _Camera(frame.intrinsics, frame.pose) for frame in scene.frames
    }, scene.is_metric


def _of_colmap(folder: Path) -> tuple[dict[str, _Camera], bool]:
    (model, *others) = colmap.models(folder)
    if others:
        raise ValueError(f"{folder} holds several models ({model}, {others[0]}); name one")
    cameras, images = colmap.read_model(model)
    found = {}
    for image in images:
        camera = cameras[image.camera]
        intrinsics = colmap.intrinsics_of(f"{model}, camera {image.camera}", camera)
        found[Path(image.name).name] = _Camera(intrinsics, colmap.pose_of(image), (camera.height, camera.width))
    return found, False


def _of_prediction(source: Path, record: dict) -> tuple[dict[str, _Camera], bool]:
    try:
        found = {
            entry["name"]: _Camera(
                None if entry["intrinsics"] is None else np.array(entry["intrinsics"], dtype=np.float64),
                np.array(entry["world_from_camera"], dtype=np.float64).reshape(4, 4),
                (entry["height"], entry["width"]),
            )
            for entry in record["cameras"]
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{source} is no cameras.json of `g2vlm predict` ({type(error).__name__}: {error}); write it anew"
        ) from error
    return found, record.get("scale") == "metric"
