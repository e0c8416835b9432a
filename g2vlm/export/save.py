"""Write a reconstruction to a folder: all of the asked formats, or nothing."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from g2vlm.export import arrays, maps
from g2vlm.export.atomic import Content, publish
from g2vlm.export.cloud import Cloud, Selection, cloud_of, confident_pixels, finite_pixels, selected_pixels
from g2vlm.export.colmap import colmap
from g2vlm.export.conventions import OF_POINTS, Y_UP, lines, statement
from g2vlm.export.glb import glb
from g2vlm.export.laz import laz
from g2vlm.export.mesh import Mesh, mesh_of
from g2vlm.export.names import stem
from g2vlm.export.nerfstudio import nerfstudio
from g2vlm.export.overview import overview
from g2vlm.export.ply import ascii_ply, ply
from g2vlm.export.trajectory import tum
from g2vlm.export.usd import usd
from g2vlm.records import Reconstruction

Format = Literal[
    "ply",
    "npz",
    "depth_png",
    "overview",
    "json",
    "glb",
    "colmap",
    "nerfstudio",
    "depth_tiff",
    "normal_png",
    "normal_tiff",
    "tum",
    "laz",
    "usd",
]
FORMATS: tuple[Format, ...] = get_args(Format)
USUAL: tuple[Format, ...] = ("ply", "npz", "depth_png", "overview", "json")
LOADABLE: tuple[Format, ...] = ("npz", "json")
NEEDS = {"laz": ("laspy", "laspy[lazrs]", "export"), "usd": ("pxr", "usd-core", "usd")}
"""Formats that need a package: its module, its name, the extra that brings it."""

ACCOUNT = "reconstruction.json"
CAMERAS = "cameras.json"


@dataclass(frozen=True)
class Style:
    """What a format leaves open. text: PLY, COLMAP and USD as text. mesh: surfaces instead of points in GLB and USD."""

    text: bool = False
    mesh: bool = False


def save(
    reconstruction: Reconstruction,
    folder: str | Path,
    formats: Sequence[str] = USUAL,
    *,
    max_points: int | None = None,
    min_confidence: float = 0.0,
    keep_edges: bool = False,
    seed: int = 0,
    text: bool = False,
    mesh: bool = False,
) -> list[Path]:
    """Write the formats and return the paths of what was written; the reconstruction is not changed.

    ply: points.ply. glb: scene.glb. laz: points.laz. usd: scene.usdc or .usda. colmap: colmap/. nerfstudio: nerfstudio/.
    npz: maps/VIEW.npz. depth_png, depth_tiff: depth/VIEW. normal_png, normal_tiff: normals/VIEW. tum: trajectory.txt.
    overview: overview.png. json: cameras.json and reconstruction.json, which states conventions, scale, PNG units and where it
    all came from. docs/exports.md says which program reads what.

    Files of the same names are replaced, and those of an earlier reconstruction in this folder are removed. `min_confidence`,
    `max_points` (a random subset by `seed`) and `keep_edges` choose the points; maps are always whole, and so are surfaces
    but for `max_points`. `text` and `mesh`: see `Style`.
    """
    folder = Path(folder)
    selection, style = Selection(max_points, min_confidence, keep_edges, seed), Style(text, mesh)
    wanted = check_formats(formats)
    if not reconstruction.names:
        raise ValueError("the reconstruction has no views, so there is nothing to write; reconstruct at least 1 photo")
    earlier = _files_of_earlier(folder)
    written = publish(folder, _files(reconstruction, wanted, selection, style))
    for path in earlier - set(written):
        path.unlink(missing_ok=True)
    return written


def save_reconstruction(
    reconstruction: Reconstruction, folder: str | Path, formats: Sequence[str] = (), **options: Any
) -> list[Path]:
    """A folder that `load_reconstruction` reads again exactly; other formats are written beside, with the options of `save`."""
    return save(reconstruction, folder, (*LOADABLE, *formats), **options)


def check_formats(formats: Sequence[str]) -> tuple[Format, ...]:
    """The formats, each once, in the order in which they are written; the packages they need are there."""
    for name in formats:
        if name not in FORMATS:
            meant = get_close_matches(name, FORMATS, n=1)
            hint = f"did you mean {meant[0]!r}? " if meant else ""
            raise ValueError(f"unknown format {name!r}; {hint}there are {', '.join(FORMATS)}")
        if name in NEEDS and find_spec(NEEDS[name][0]) is None:
            _, package, extra = NEEDS[name]
            raise ValueError(f"{name} needs the package {package}: pip install 'g2vlm[{extra}]'")
    if not formats:
        raise ValueError(f"no format was given; there are {', '.join(FORMATS)}")
    return tuple(name for name in FORMATS if name in formats)


def _files(
    reconstruction: Reconstruction, formats: tuple[Format, ...], selection: Selection, style: Style
) -> Iterator[tuple[str, Content]]:
    """Path below the folder and content, one file at a time, so that only one is held in memory."""
    account = arrays.account(reconstruction) | {"selection": asdict(selection), "files": []}
    for format in formats:
        for name, content in _files_of_format(format, reconstruction, selection, style, account):
            account["files"].append(name)
            yield name, content
    if "json" in formats:
        account["files"].append(ACCOUNT)
        yield ACCOUNT, arrays.as_json(account)


def _files_of_format(
    format: Format, reconstruction: Reconstruction, selection: Selection, style: Style, account: dict
) -> Iterator[tuple[str, Content]]:
    said = statement(reconstruction)
    match format:
        case "ply":
            cloud = _cloud(reconstruction, selection)
            account["num_points"] = len(cloud)
            comments = lines(statement(reconstruction, **OF_POINTS))
            yield "points.ply", (ascii_ply if style.text else ply)(cloud, comments)
        case "glb":
            shape = _shape(reconstruction, selection, style)
            yield "scene.glb", glb(reconstruction, shape, statement(reconstruction, axes=Y_UP, **OF_POINTS))
        case "usd":
            shape = _shape(reconstruction, selection, style)
            content = usd(reconstruction, shape, statement(reconstruction, axes=Y_UP, **OF_POINTS), text=style.text)
            yield ("scene.usda" if style.text else "scene.usdc"), content
        case "laz":
            yield "points.laz", laz(_cloud(reconstruction, selection), lines(statement(reconstruction, **OF_POINTS)))
        case "colmap":
            pixels = selected_pixels(reconstruction, selection)
            said = statement(reconstruction, poses="world-to-camera", intrinsics="in pixels of the original photos")
            for name, content in colmap(reconstruction, pixels, said, text=style.text):
                yield f"colmap/sparse/0/{name}", content
        case "nerfstudio":
            for name, content in nerfstudio(reconstruction, _cloud(reconstruction, selection), said):
                yield f"nerfstudio/{name}", content
        case "npz":
            for view in range(len(reconstruction.names)):
                content = arrays.npz(reconstruction, view, finite_pixels(reconstruction, view))
                yield f"maps/{stem(reconstruction, view)}.npz", content
        case "depth_png":
            step = maps.depth_step(_zero_outside(reconstruction, reconstruction.depth))
            account["depth_png"] = {"depth_of_one_level": step, "invalid": 0}
            for view, depth in enumerate(_zero_outside(reconstruction, reconstruction.depth)):
                yield f"depth/{stem(reconstruction, view)}.png", maps.depth_png(depth, step, said)
        case "depth_tiff":
            for view, depth in enumerate(_zero_outside(reconstruction, reconstruction.depth)):
                yield f"depth/{stem(reconstruction, view)}.tiff", maps.depth_tiff(depth, lines(said))
        case "normal_png":
            for view, normals in enumerate(reconstruction.normals):
                content = maps.normal_png(normals, finite_pixels(reconstruction, view), said)
                yield f"normals/{stem(reconstruction, view)}.png", content
        case "normal_tiff":
            for view, normals in enumerate(_zero_outside(reconstruction, reconstruction.normals)):
                yield f"normals/{stem(reconstruction, view)}.tiff", maps.normal_tiff(normals, lines(said))
        case "tum":
            yield "trajectory.txt", tum(reconstruction, lines(statement(reconstruction, poses="camera-to-world")))
        case "overview":
            yield "overview.png", overview(reconstruction)
        case "json":
            said = {"scale": reconstruction.scale, "world": reconstruction.world}
            yield CAMERAS, arrays.as_json({**said, "cameras": arrays.cameras(reconstruction)})


def _cloud(reconstruction: Reconstruction, selection: Selection) -> Cloud:
    return cloud_of(reconstruction, selected_pixels(reconstruction, selection))


def _shape(reconstruction: Reconstruction, selection: Selection, style: Style) -> Cloud | Mesh:
    if style.mesh:
        return mesh_of(reconstruction, confident_pixels(reconstruction, selection))
    return _cloud(reconstruction, selection)


def _zero_outside(reconstruction: Reconstruction, values: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """View by view, for the maps of a long sequence do not fit into memory together."""
    for view, of_view in enumerate(values):
        yield arrays.zero_outside(of_view, finite_pixels(reconstruction, view))


def _files_of_earlier(folder: Path) -> set[Path]:
    """What the account of an earlier reconstruction lists and the folder still holds."""
    account = folder / ACCOUNT
    if not account.is_file():
        return set()
    try:
        names = json.loads(account.read_bytes())["files"]
    except (ValueError, KeyError, TypeError):
        return set()  # somebody else's file: nothing is ours to remove
    inside = folder.resolve()
    paths = {folder / name for name in names}
    return {path for path in paths if path.is_file() and path.resolve().is_relative_to(inside)}
