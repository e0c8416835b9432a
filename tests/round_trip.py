"""Every format read back by a package that did not write it: `python tests/round_trip.py RECONSTRUCTION` prints the table.

Each reader returns the worst absolute difference of each quantity to the reconstruction; truth is taken from the records
here, not from the exporters. Lengths are in units of the scene.
"""

import io
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from g2vlm.export.load import load_reconstruction
from g2vlm.export.save import save
from g2vlm.records import Reconstruction

Y_UP = np.array([1, -1, -1])
Errors = dict[str, float]


@dataclass(frozen=True)
class Check:
    """format, text, mesh: as `save` takes them. package: what reads. tolerance: of each error that is not 0."""

    format: str
    package: str
    read: Callable[[Path, Reconstruction], Errors]
    text: bool = False
    tolerance: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.format}{' (text)' if self.text else ''} by {self.package}"


def worst(found: np.ndarray, wanted: np.ndarray) -> float:
    assert found.shape == wanted.shape, (found.shape, wanted.shape)
    return float(np.abs(np.asarray(found, np.float64) - wanted).max())


def truth(r: Reconstruction) -> dict[str, np.ndarray]:
    """Of all points in the masks, in order."""
    views = range(len(r.names))
    return {
        "positions": np.concatenate([r.points[v][r.mask[v]] for v in views]),
        "normals": np.concatenate([r.normals[v][r.mask[v]] @ r.poses[v, :3, :3].T for v in views]),
        "colours": np.concatenate([r.images[v][r.mask[v]] for v in views]),
        "confidence": np.concatenate([r.confidence[v][r.mask[v]] for v in views]),
    }


def known(r: Reconstruction, view: int) -> np.ndarray:
    return np.isfinite(r.depth[view]) & (r.depth[view] > 0)


def stems(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def ply_by_plyfile(out: Path, r: Reconstruction) -> Errors:
    from plyfile import PlyData

    vertex = PlyData.read(out / "points.ply")["vertex"]

    def columns(*names: str) -> np.ndarray:
        return np.stack([vertex[name] for name in names], -1)

    wanted = truth(r)
    return {
        "positions": worst(columns("x", "y", "z"), wanted["positions"]),
        "normals": worst(columns("nx", "ny", "nz"), wanted["normals"]),
        "colours": worst(columns("red", "green", "blue"), wanted["colours"]),
        "confidence": worst(vertex["confidence"], wanted["confidence"]),
    }


def ply_by_trimesh(out: Path, r: Reconstruction) -> Errors:
    import trimesh

    cloud, wanted = trimesh.load(out / "points.ply"), truth(r)
    return {
        "positions": worst(cloud.vertices, wanted["positions"]),
        "colours": worst(cloud.colors[:, :3], wanted["colours"]),
    }


def glb_by_trimesh(out: Path, r: Reconstruction) -> Errors:
    import trimesh

    scene, wanted = trimesh.load(out / "scene.glb"), truth(r)
    points = scene.geometry["points"]
    return {
        "positions": worst(points.vertices * Y_UP, wanted["positions"]),
        "colours": worst(points.colors[:, :3], wanted["colours"]),
    }


def glb_by_pygltflib(out: Path, r: Reconstruction) -> Errors:
    """Also where the frusta begin, at the cameras."""
    from pygltflib import GLTF2

    file, wanted = GLTF2().load(str(out / "scene.glb")), truth(r)
    meshes = {mesh.name: mesh.primitives[0].attributes for mesh in file.meshes}
    frusta = [_accessor(file, a.POSITION) * Y_UP for name, a in meshes.items() if name.startswith("camera")]
    starts = np.stack([lines[0] for lines in frusta])
    return {
        "positions": worst(_accessor(file, meshes["points"].POSITION) * Y_UP, wanted["positions"]),
        "colours": worst(_accessor(file, meshes["points"].COLOR_0)[:, :3], wanted["colours"]),
        "cameras": worst(starts, r.poses[np.isfinite(r.intrinsics).all((1, 2)), :3, 3]),
    }


def _accessor(file, number: int) -> np.ndarray:
    accessor = file.accessors[number]
    view, width = file.bufferViews[accessor.bufferView], {"VEC3": 3, "VEC4": 4}[accessor.type]
    dtype = {5126: "<f4", 5121: "u1"}[accessor.componentType]
    start = (view.byteOffset or 0) + (accessor.byteOffset or 0)
    return np.frombuffer(file.binary_blob(), dtype, accessor.count * width, start).reshape(-1, width)


def colmap_by_pycolmap(out: Path, r: Reconstruction) -> Errors:
    """Tracks, too: each point's track names the view and pixel that predicted it."""
    import pycolmap

    model, wanted = pycolmap.Reconstruction(str(out / "colmap/sparse/0")), truth(r)
    images = [model.images[i + 1] for i in range(len(r.names))]
    poses = np.stack([np.linalg.inv(np.vstack([i.cam_from_world().matrix(), [0, 0, 0, 1]])) for i in images])
    matrices = np.stack([i.camera.calibration_matrix() for i in images])
    points = [model.points3D[i + 1] for i in range(len(wanted["positions"]))]
    pixels = _pixels_by_point(r)
    seen = [
        next(images[e.image_id - 1].points2D[e.point2D_idx].xy for e in p.track.elements if e.image_id == view + 1)
        for p, (view, _) in zip(points, pixels, strict=True)
    ]
    assert [(c.width, c.height) for c in (i.camera for i in images)] == [size[::-1] for size in r.original_sizes]
    return {
        "poses": worst(poses, r.poses),
        "intrinsics": worst(matrices, r.intrinsics),
        "positions": worst(np.stack([p.xyz for p in points]), wanted["positions"]),
        "colours": worst(np.stack([p.color for p in points]), wanted["colours"]),
        "pixels": worst(np.stack(seen), np.stack([xy for _, xy in pixels])),
    }


def _pixels_by_point(r: Reconstruction) -> list[tuple[int, np.ndarray]]:
    """View, and x and y in its photo."""
    return [
        (view, np.array([(column + 0.5) * size[1] / mask.shape[1], (row + 0.5) * size[0] / mask.shape[0]]))
        for view, (mask, size) in enumerate(zip(r.mask, r.original_sizes, strict=True))
        for row, column in np.argwhere(mask)
    ]


def nerfstudio_by_numpy(out: Path, r: Reconstruction) -> Errors:
    """Poses, intrinsics of the pictures that lie beside, and these pictures by PIL."""
    content = json.loads((out / "nerfstudio/transforms.json").read_text())
    frames = content["frames"]
    poses = np.array([frame["transform_matrix"] for frame in frames]) * [1, -1, -1, 1]
    focal = np.array([[f["fl_x"] / f["w"], f["fl_y"] / f["h"], f["cx"] / f["w"], f["cy"] / f["h"]] for f in frames])
    sizes = np.array(r.original_sizes)[:, ::-1]
    k = r.intrinsics
    wanted = np.concatenate([np.stack([k[:, 0, 0], k[:, 1, 1]], 1) / sizes, k[:, :2, 2] / sizes], 1)
    pictures = [np.array(Image.open(out / "nerfstudio" / frame["file_path"])) for frame in frames]
    return {
        "poses": worst(poses, r.poses),
        "intrinsics / size": worst(focal, wanted),
        "pictures": max(worst(a, b) for a, b in zip(pictures, r.images, strict=True)),
    }


def npz_by_numpy(out: Path, r: Reconstruction) -> Errors:
    errors = dict.fromkeys(("depth", "points", "normals", "confidence", "image"), 0.0)
    for view, file in enumerate(stems(out / "maps")):
        with np.load(file) as maps:
            for name in ("depth", "points", "normals"):
                inside = known(r, view)
                errors[name] = max(errors[name], worst(maps[name][inside], getattr(r, name)[view][inside]))
                assert (maps[name][~inside] == 0).all()
            errors["confidence"] = max(errors["confidence"], worst(maps["confidence"], r.confidence[view]))
            errors["image"] = max(errors["image"], worst(maps["image"], r.images[view]))
    return errors


def depth_png_by_pil(out: Path, r: Reconstruction) -> Errors:
    """The unit stands in the picture."""
    errors = []
    for view, file in enumerate(stems(out / "depth")):
        picture = Image.open(file)
        step = float(picture.text["depth"].split("times ")[1].split(";")[0])
        levels, inside = np.array(picture), known(r, view)
        assert (levels[~inside] == 0).all()
        errors.append(worst(levels[inside] * step, r.depth[view][inside]))
    return {"depth": max(errors)}


def depth_tiff_by_pil(out: Path, r: Reconstruction) -> Errors:
    files = stems(out / "depth")
    return {"depth": max(worst(np.array(Image.open(f)), _filled(r, v, r.depth[v])) for v, f in enumerate(files))}


def normal_png_by_pil(out: Path, r: Reconstruction) -> Errors:
    errors = []
    for view, file in enumerate(stems(out / "normals")):
        decoded, inside = (np.array(Image.open(file)) / 127.5 - 1) * Y_UP, known(r, view)
        errors.append(worst(decoded[inside], r.normals[view][inside]))
    return {"normals": max(errors)}


def normal_tiff_by_pil(out: Path, r: Reconstruction) -> Errors:
    errors = []
    for view, file in enumerate(stems(out / "normals")):
        picture, pages = Image.open(file), []
        for page in range(picture.n_frames):
            picture.seek(page)
            pages.append(np.array(picture))
        errors.append(worst(np.stack(pages, -1), _filled(r, view, r.normals[view])))
    return {"normals": max(errors)}


def _filled(r: Reconstruction, view: int, values: np.ndarray) -> np.ndarray:
    inside = known(r, view)
    return np.where(inside if values.ndim == 2 else inside[..., None], values, 0)


def tum_by_numpy(out: Path, r: Reconstruction) -> Errors:
    rows = np.loadtxt(out / "trajectory.txt", ndmin=2)
    return {
        "positions": worst(rows[:, 1:4], r.poses[:, :3, 3]),
        "rotations": worst(Rotation.from_quat(rows[:, 4:]).as_matrix(), r.poses[:, :3, :3]),
    }


def laz_by_laspy(out: Path, r: Reconstruction) -> Errors:
    import laspy

    points, wanted = laspy.read(out / "points.laz"), truth(r)
    return {
        "positions": worst(points.xyz, wanted["positions"]),
        "normals": worst(np.stack([points[n] for n in ("nx", "ny", "nz")], -1), wanted["normals"]),
        "colours": worst(np.stack([points.red, points.green, points.blue], -1) // 257, wanted["colours"]),
        "confidence": worst(np.array(points["confidence"]), wanted["confidence"]),
    }


def usd_by_pxr(out: Path, r: Reconstruction) -> Errors:
    from pxr import Usd, UsdGeom

    (file,) = out.glob("scene.usd*")
    stage, wanted = Usd.Stage.Open(str(file)), truth(r)
    points = UsdGeom.Points.Get(stage, "/scene/points")
    cameras = [UsdGeom.Camera.Get(stage, f"/scene/camera_{view:02d}") for view in range(len(r.names))]
    poses = [np.array(c.ComputeLocalToWorldTransform(Usd.TimeCode.Default())).T for c in cameras]
    flip = np.diag([1, -1, -1, 1])
    angles = [2 * np.arctan(c.GetHorizontalApertureAttr().Get() / 2 / c.GetFocalLengthAttr().Get()) for c in cameras]
    widths = np.array(r.original_sizes)[:, 1]
    confidence = UsdGeom.PrimvarsAPI(points).GetPrimvar("confidence").Get()
    return {
        "positions": worst(np.array(points.GetPointsAttr().Get()) * Y_UP, wanted["positions"]),
        "normals": worst(np.array(points.GetNormalsAttr().Get()) * Y_UP, wanted["normals"]),
        "colours": worst((np.array(points.GetDisplayColorAttr().Get()) * 255).round(), wanted["colours"]),
        "confidence": worst(np.array(confidence), wanted["confidence"]),
        "poses": worst(flip @ np.stack(poses) @ flip, r.poses),
        "horizontal angle": worst(np.array(angles), 2 * np.arctan(widths / 2 / r.intrinsics[:, 0, 0])),
    }


CHECKS = [
    Check("ply", "plyfile", ply_by_plyfile),
    Check("ply", "plyfile", ply_by_plyfile, text=True),
    Check("ply", "trimesh", ply_by_trimesh),
    Check("glb", "trimesh", glb_by_trimesh),
    Check("glb", "pygltflib", glb_by_pygltflib, tolerance=1e-6),
    Check("colmap", "pycolmap", colmap_by_pycolmap, tolerance=1e-6),
    Check("colmap", "pycolmap", colmap_by_pycolmap, text=True, tolerance=1e-6),
    Check("nerfstudio", "json, PIL", nerfstudio_by_numpy, tolerance=1e-6),
    Check("npz", "numpy", npz_by_numpy),
    Check("depth_png", "PIL", depth_png_by_pil, tolerance=2e-4),
    Check("depth_tiff", "PIL", depth_tiff_by_pil),
    Check("normal_png", "PIL", normal_png_by_pil, tolerance=4e-3),
    Check("normal_tiff", "PIL", normal_tiff_by_pil),
    Check("tum", "numpy, scipy", tum_by_numpy, tolerance=1e-6),
    Check("laz", "laspy", laz_by_laspy, tolerance=1e-6),
    Check("usd", "pxr", usd_by_pxr, tolerance=1e-6),
    Check("usd", "pxr", usd_by_pxr, text=True, tolerance=1e-6),
]


def table(reconstruction: Reconstruction) -> str:
    """Markdown: a row for each reader."""
    rows = io.StringIO("| format | reader | worst differences |\n|---|---|---|\n")
    rows.seek(0, io.SEEK_END)
    for check in CHECKS:
        with tempfile.TemporaryDirectory() as folder:
            save(reconstruction, folder, [check.format], text=check.text)
            errors = check.read(Path(folder), reconstruction)
        kind = f"{check.format}, text" if check.text else check.format
        said = ", ".join(f"{name} {error:.2g}" for name, error in errors.items())
        rows.write(f"| {kind} | {check.package} | {said} |\n")
    return rows.getvalue()


if __name__ == "__main__":
    print(table(load_reconstruction(sys.argv[1])))
