"""ETH3D: point maps of the 13 training scenes of the high-resolution multi-view set, from every 5th picture.

Pictures are those that ETH3D undistorted; its depth was rendered for the distorted originals (raw floats, inf
unknown), so that each pixel's depth is looked up where its ray meets the original picture. Cameras are COLMAP text:
PINHOLE for the undistorted pictures, THIN_PRISM_FISHEYE for the originals. Formats and camera models:
www.eth3d.net/documentation.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float

from g2vlm.data.readers.colmap import PARAMETERS, Camera, intrinsics_of, pose_of, read_model
from g2vlm.data.readers.derived import Derived, npy
from g2vlm.data.recon import DepthFile, File, Frame, Scene
from g2vlm.data.samples import BadSample
from g2vlm.eval.benchmarks.folders import each_sequence
from g2vlm.eval.benchmarks.frames import every
from g2vlm.eval.benchmarks.rules import POINTS
from g2vlm.eval.benchmarks.scenes import SceneBenchmark

ORIGINAL = "THIN_PRISM_FISHEYE"

LAYOUT = """multi_view_training_dslr_undistorted, _jpg (for its calibration) and _depth, unpacked over each other:
  courtyard/images/dslr_images_undistorted/DSC_0286.JPG
  courtyard/dslr_calibration_undistorted/{cameras,images}.txt
  courtyard/dslr_calibration_jpg/{cameras,images}.txt
  courtyard/ground_truth_depth/dslr_images/DSC_0286.JPG     raw floats of the distorted picture, in spite of its name"""


def sequences(data: Path, names: Sequence[str] | None) -> Iterator[Scene]:
    return each_sequence(data, names, _scene)


def _scene(folder: Path, name: str) -> Scene:
    cameras, images = read_model(folder / "dslr_calibration_undistorted")
    originals, original_images = read_model(folder / "dslr_calibration_jpg")
    original_of = {Path(image.name).name: originals[image.camera] for image in original_images}
    frames = []
    for image in sorted(images, key=lambda image: Path(image.name).name):
        picture = folder / "images" / "dslr_images_undistorted" / Path(image.name).name
        if picture.name not in original_of:
            raise BadSample(f"{folder / 'dslr_calibration_jpg'}: has no camera of {picture.name}")
        camera = cameras[image.camera]
        make = partial(_undistorted, original=original_of[picture.name], camera=camera)
        depth = Derived(folder / "ground_truth_depth" / "dslr_images" / picture.name, make=make)
        frames.append(
            Frame(
                f"{name}/{picture.name}",
                File(picture),
                intrinsics_of(f"{name}/{picture.name}", camera),
                pose_of(image),
                DepthFile(depth, "npy"),
            )
        )
    return Scene(name, tuple(frames), is_metric=True, source="ETH3D", licence="CC BY-NC-SA 4.0", is_sequence=False)


def _undistorted(content: bytes, original: Camera, camera: Camera) -> bytes:
    """Depth of each pixel of the undistorted picture; 0 where unknown, or outside the original."""
    stored = np.frombuffer(content, "<f4").reshape(original.height, original.width)
    intrinsics = intrinsics_of("undistorted", camera)
    x = (np.arange(camera.width) + 0.5 - intrinsics[0, 2]) / intrinsics[0, 0]
    y = (np.arange(camera.height) + 0.5 - intrinsics[1, 2]) / intrinsics[1, 1]
    columns, rows = np.floor(distorted(original, *np.meshgrid(x, y))).astype(int)
    is_inside = (rows >= 0) & (rows < original.height) & (columns >= 0) & (columns < original.width)
    depth = stored[np.where(is_inside, rows, 0), np.where(is_inside, columns, 0)]
    return npy(np.where(is_inside & np.isfinite(depth), depth, np.float32(0)))


def distorted(
    camera: Camera, x: Float[np.ndarray, "height width"], y: Float[np.ndarray, "height width"]
) -> Float[np.ndarray, "2 height width"]:
    """Pixels (x, y) at which a camera sees the rays (x, y, 1)."""
    if camera.model != ORIGINAL:
        raise ValueError(f"the camera of an original picture is {camera.model}, not {ORIGINAL}")
    p = dict(zip(PARAMETERS[ORIGINAL], camera.parameters, strict=True))
    radius = np.hypot(x, y)
    shrunk = np.where(radius > 1e-9, np.arctan(radius) / np.where(radius > 1e-9, radius, 1), 1)
    u, v = x * shrunk, y * shrunk
    r2 = u * u + v * v
    radial = r2 * (p["k1"] + r2 * (p["k2"] + r2 * (p["k3"] + r2 * p["k4"])))
    du = u * radial + 2 * p["p1"] * u * v + p["p2"] * (r2 + 2 * u * u) + p["sx1"] * r2
    dv = v * radial + 2 * p["p2"] * u * v + p["p1"] * (r2 + 2 * v * v) + p["sy1"] * r2
    return np.stack([p["fx"] * (u + du) + p["cx"], p["fy"] * (v + dv) + p["cy"]])


BENCHMARKS = (
    SceneBenchmark(
        name="eth3d",
        title="ETH3D, point maps of the training scenes from every 5th picture",
        reference="Schöps et al., A multi-view stereo benchmark with high-resolution images, CVPR 2017",
        licence="CC BY-NC-SA 4.0",
        layout=LAYOUT,
        sequences=sequences,
        selection=every(5),
        listed="eth3d",
        tasks=("points",),
        rules=POINTS,
    ),
)
