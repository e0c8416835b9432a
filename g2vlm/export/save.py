"""Write a reconstruction to a folder: all of the asked formats, or nothing."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from g2vlm.export import arrays
from g2vlm.export.atomic import publish
from g2vlm.export.overview import overview
from g2vlm.export.ply import Selection, ply, point_cloud
from g2vlm.records import Reconstruction

Format = Literal["ply", "npz", "depth_png", "overview", "json"]
FORMATS: tuple[Format, ...] = get_args(Format)
ACCOUNT = "reconstruction.json"


def save(
    reconstruction: Reconstruction,
    folder: str | Path,
    formats: Sequence[str] = FORMATS,
    *,
    max_points: int | None = None,
    min_confidence: float = 0.0,
    keep_edges: bool = False,
    seed: int = 0,
) -> list[Path]:
    """Write the formats and return the paths of what was written.

    ply: points.ply. npz: maps/VIEW.npz. depth_png: depth/VIEW.png, 16 bits. overview: overview.png.
    json: cameras.json and reconstruction.json, which states conventions, scale, PNG units and where it all came from.

    Files of the same names are replaced, and those of an earlier reconstruction in this folder are removed. `min_confidence`,
    `max_points` (a random subset by `seed`) and `keep_edges` choose the points of the PLY; maps are always whole.
    """
    folder = Path(folder)
    selection = Selection(max_points, min_confidence, keep_edges, seed)
    earlier = _files_of_earlier(folder)
    written = publish(folder, _files(reconstruction, check_formats(formats), selection))
    for path in earlier - set(written):
        path.unlink(missing_ok=True)
    return written


def check_formats(formats: Sequence[str]) -> tuple[Format, ...]:
    """The formats, each once, in the order in which they are written."""
    for name in formats:
        if name not in FORMATS:
            meant = get_close_matches(name, FORMATS, n=1)
            hint = f"did you mean {meant[0]!r}? " if meant else ""
            raise ValueError(f"unknown format {name!r}; {hint}there are {', '.join(FORMATS)}")
    if not formats:
        raise ValueError(f"no format was given; there are {', '.join(FORMATS)}")
    return tuple(name for name in FORMATS if name in formats)


def _files(
    reconstruction: Reconstruction, formats: tuple[Format, ...], selection: Selection
) -> Iterator[tuple[str, bytes]]:
    """Path below the folder and content, one file at a time, so that only one is held in memory."""
    account = arrays.account(reconstruction) | {"selection": asdict(selection), "files": []}
    for format in formats:
        for name, content in _files_of_format(format, reconstruction, selection, account):
            account["files"].append(name)
            yield name, content
    if "json" in formats:
        account["files"].append(ACCOUNT)
        yield ACCOUNT, arrays.as_json(account)


def _files_of_format(
    format: Format, reconstruction: Reconstruction, selection: Selection, account: dict
) -> Iterator[tuple[str, bytes]]:
    match format:
        case "ply":
            cloud = point_cloud(reconstruction, selection)
            account["num_points"] = len(cloud)
            yield "points.ply", ply(cloud, _comments(reconstruction))
        case "npz":
            for view, finite in enumerate(arrays.finite_pixels(reconstruction)):
                yield f"maps/{arrays.stem(reconstruction, view)}.npz", arrays.npz(reconstruction, view, finite)
        case "depth_png":
            finite = arrays.finite_pixels(reconstruction)
            depths = [np.where(f, depth, 0) for f, depth in zip(finite, reconstruction.depth, strict=True)]
            step = arrays.depth_step(depths)
            account["depth_png"] = {"depth_of_one_level": step, "invalid": 0}
            for view, depth in enumerate(depths):
                yield f"depth/{arrays.stem(reconstruction, view)}.png", arrays.depth_png(depth, step)
        case "overview":
            yield "overview.png", overview(reconstruction)
        case "json":
            yield "cameras.json", arrays.as_json({"cameras": arrays.cameras(reconstruction)})


def _comments(reconstruction: Reconstruction) -> tuple[str, ...]:
    return (
        f"world frame: {arrays.CONVENTIONS['world']}; axes {arrays.CONVENTIONS['axes']}",
        f"scale: {reconstruction.scale}, {arrays.SCALES[reconstruction.scale]}",
        "normals: unit, world frame; confidence: 0 to 1",
        f"checkpoint sha256: {reconstruction.provenance.checkpoint_sha256}",
    )


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
