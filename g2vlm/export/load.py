"""A saved reconstruction, read again exactly as it was."""

import json
import zipfile
from pathlib import Path
from typing import Any, get_args

import numpy as np

from g2vlm.export.arrays import restored
from g2vlm.export.names import stem_of
from g2vlm.export.save import ACCOUNT, CAMERAS
from g2vlm.records import Provenance, Reconstruction, Scale, World


def load_reconstruction(folder: str | Path) -> Reconstruction:
    """What `save_reconstruction`, or `g2vlm predict` with the formats npz and json, wrote: every array bit for bit.

    ValueError, naming the file and the cure, for what is not there or cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder; name one that g2vlm predict wrote")
    account, cameras = (_json(folder / name) for name in (ACCOUNT, CAMERAS))
    try:
        provenance = Provenance(
            account["model"],
            account["checkpoint_sha256"],
            versions=account["versions"],
            settings=account["settings"],
            seconds=account["seconds"],
        )
        scale: Scale = account["scale"]
        world: World = account["world"]
        names = tuple(camera["name"] for camera in cameras["cameras"])
        sizes = tuple((camera["height"], camera["width"]) for camera in cameras["cameras"])
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{folder}: its {ACCOUNT} or {CAMERAS} is not as g2vlm writes it ({error}); run g2vlm predict again"
        ) from error
    if not names:
        raise ValueError(f"{folder / CAMERAS} names no views; run g2vlm predict again")
    if scale not in get_args(Scale):
        raise ValueError(f"{folder / ACCOUNT}: its scale is {scale!r}; it must be one of {', '.join(get_args(Scale))}")
    if world not in get_args(World):
        raise ValueError(f"{folder / ACCOUNT}: its world is {world!r}; it must be one of {', '.join(get_args(World))}")
    views = [_view(folder / "maps" / f"{stem_of(name, view, len(names))}.npz") for view, name in enumerate(names)]
    return Reconstruction(
        names=names,
        images=tuple(view["image"] for view in views),
        depth=tuple(view["depth"] for view in views),
        points=tuple(view["points"] for view in views),
        normals=tuple(view["normals"] for view in views),
        confidence=tuple(view["confidence"] for view in views),
        mask=tuple(view["mask"] for view in views),
        poses=np.stack([view["world_from_camera"] for view in views]),
        intrinsics=np.stack([view["intrinsics"] for view in views]),
        intrinsics_error=np.stack([view["intrinsics_relative_error"] for view in views]),
        original_sizes=sizes,
        scale=scale,
        provenance=provenance,
        world=world,
    )


def _json(file: Path) -> Any:
    if not file.is_file():
        raise ValueError(f"{file.parent} holds no {file.name}, so it is no reconstruction; save it with npz and json")
    try:
        return json.loads(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file}: is no JSON ({error}); run g2vlm predict again") from error


def _view(file: Path) -> dict[str, np.ndarray]:
    if not file.is_file():
        raise ValueError(f"{file} is not there, so the reconstruction is not whole; save it with npz and json")
    try:
        with np.load(file) as content:
            view = {name: content[name] for name in content}
        finite = view["depth"] > 0
        for name in ("depth", "points", "normals"):
            view[name] = restored(view[name], finite, view.pop(f"outside_{name}"))
    except KeyError as error:
        raise ValueError(
            f"{file}: lacks {error}, as results of g2vlm 0.4 do; run g2vlm predict again to read it back"
        ) from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{file}: cannot be read ({error}); run g2vlm predict again") from error
    return view
