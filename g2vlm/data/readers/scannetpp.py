"""ScanNet++: the iPhone video with its depth, and the undistorted DSLR pictures, each a scene of its own.

data/SCENE/iphone: rgb/frame_000000.jpg and depth/frame_000000.png (256 x 192, millimetres, LIDAR), as the official
toolkit's `iphone.prepare_iphone_data` extracts them, and pose_intrinsic_imu.json, of which `aligned_pose` (camera-to-world,
OpenCV axes, metres, as the toolkit's arkit_pcl.py uses it) and `intrinsic` (pixels of the full picture) are read.
data/SCENE/dslr: nerfstudio/transforms_undistorted.json with resized_undistorted_images (downloaded) or undistorted_images
(made by the toolkit's `dslr.undistort`): a pinhole camera, OpenGL poses, metres; no depth. Frames marked `is_bad` and
pictures that are not there are left out. Masks of anonymised regions are not applied. Licence: ScanNet++ Terms of Use.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from g2vlm.data.readers.cameras import check_fits, pose_of, resized
from g2vlm.data.readers.listing import holding, picture_size, text
from g2vlm.data.recon import DepthFile, File, Frame, Scene, pinhole
from g2vlm.data.samples import BadSample
from g2vlm.geometry.pose import FLIP

IPHONE = Path("iphone", "pose_intrinsic_imu.json")
DSLR = Path("dslr", "nerfstudio", "transforms_undistorted.json")
DSLR_PICTURES = ("resized_undistorted_images", "undistorted_images")
DEPTH_SIZE = (192, 256)
LICENCE = "ScanNet++ Terms of Use"


def scenes(src: Path) -> Iterator[Scene]:
    """One or two for every scene at, or up to two folders below, `src`."""
    folders = holding(src, [str(IPHONE), str(DSLR)], levels=2)
    return map(_scene, (file for folder in folders for file in (folder / IPHONE, folder / DSLR) if file.is_file()))


def _scene(file: Path) -> Scene:
    try:
        record = json.loads(text(file))
        return _iphone(file.parent, record) if file.name == IPHONE.name else _dslr(file.parent.parent, record)
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise BadSample(f"{file}: is not as documented ({type(error).__name__}: {error})") from error


def _iphone(folder: Path, record: dict[str, Any]) -> Scene:
    name = f"{folder.resolve().parent.name}_iphone"
    pictures = {file.stem: file for file in (folder / "rgb").glob("*.jpg")}
    depths = {file.stem: file for file in (folder / "depth").glob("*.png")}
    labels = sorted(record.keys() & pictures.keys())
    if not labels:
        raise BadSample(f"{folder / 'rgb'}: no picture; extract the video: python -m iphone.prepare_iphone_data")
    size = picture_size(pictures[labels[0]])
    frames = []
    for label in labels:
        intrinsics = np.array(record[label]["intrinsic"], dtype=np.float64)
        check_fits(f"{name}/{label}", intrinsics, size)
        own = resized(intrinsics, size, DEPTH_SIZE)
        frames.append(
            Frame(
                name=f"{name}/{label}.jpg",
                image=File(pictures[label]),
                intrinsics=intrinsics,
                pose=pose_of(f"{name}/{label}", record[label]["aligned_pose"]),
                depth=DepthFile(File(depths[label]), "png16", 0.001, intrinsics=own) if label in depths else None,
            )
        )
    return Scene(name, tuple(frames), is_metric=True, source="ScanNet++", licence=LICENCE, has_fine_depth=False)


def _dslr(folder: Path, record: dict[str, Any]) -> Scene:
    name = f"{folder.resolve().parent.name}_dslr"
    pictures = next((folder / kind for kind in DSLR_PICTURES if (folder / kind).is_dir()), None)
    if pictures is None:
        raise BadSample(f"{folder}: neither {' nor '.join(DSLR_PICTURES)}; make them: python -m dslr.undistort")
    if any(record.get(key, 0) for key in ("k1", "k2", "k3", "k4")):
        raise BadSample(f"{folder / DSLR.name}: describes a lens with distortion; make it by python -m dslr.undistort")
    intrinsics = pinhole(record["fl_x"], record["fl_y"], record["cx"], record["cy"])
    size = (int(record["h"]), int(record["w"]))
    listed = sorted([*record["frames"], *record.get("test_frames", ())], key=lambda frame: frame["file_path"])
    kept = [frame for frame in listed if not frame.get("is_bad", False) and (pictures / frame["file_path"]).is_file()]
    if kept and picture_size(pictures / kept[0]["file_path"]) != size:
        raise BadSample(f"{pictures / kept[0]['file_path']}: is not {size[1]} x {size[0]} as {DSLR.name} says")
    frames = tuple(
        Frame(
            name=f"{name}/{frame['file_path']}",
            image=File(pictures / frame["file_path"]),
            intrinsics=intrinsics,
            pose=pose_of(f"{name}/{frame['file_path']}", frame["transform_matrix"]) @ FLIP,
        )
        for frame in kept
    )
    return Scene(name, frames, is_metric=True, source="ScanNet++", licence=LICENCE)
