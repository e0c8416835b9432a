"""Windows of a long sequence on disk: written whole as each is finished, read back map by map, found again after an interruption."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from jaxtyping import Float

from g2vlm.atomic import whole_folder, write_whole
from g2vlm.records import Reconstruction

MAPS = ("images", "depth", "points", "normals", "confidence", "mask")
SETTINGS, WINDOW = "settings.json", "window.npz"


@dataclass(frozen=True)
class StoredWindow:
    """One window as it was predicted, in its own world: the camera frame of its first view, at its own scale.

    start: which frame of the sequence its first view is. descriptors: what each view looks like, for finding places again.
    size: median depth of all its usable pixels, a length of its world.
    """

    folder: Path
    start: int
    names: tuple[str, ...]
    original_sizes: tuple[tuple[int, int], ...]
    poses: Float[np.ndarray, "views 4 4"]
    intrinsics: Float[np.ndarray, "views 3 3"]
    intrinsics_error: Float[np.ndarray, " views"]
    descriptors: Float[np.ndarray, "views channels"]
    size: float

    @property
    def stop(self) -> int:
        """The frame behind its last."""
        return self.start + len(self.names)

    def map(self, field: str, frame: int) -> np.ndarray:
        """One of MAPS of a frame of the sequence; read from disk each time."""
        with np.load(self.folder / f"{frame - self.start:04d}.npz") as maps:
            return maps[field]


class WindowStore:
    """A folder of windows of one run.

    settings: all that decides what a window is, but for its pictures. A window is found again if those are the same, and the
    digest of its pictures is. Raises ValueError if the folder holds windows of other settings.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]):
        self.folder = folder
        written = folder / SETTINGS
        if written.is_file():
            before = json.loads(written.read_text())
            differing = [name for name in settings if before.get(name) != settings[name]]
            if differing:
                said = ", ".join(f"{name} was {before.get(name)}, now {settings[name]}" for name in differing)
                raise ValueError(f"{folder} holds a run of other settings ({said}); go on with those, or remove it")
            return
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(written, json.dumps(settings))

    def find(self, index: int, digest: str) -> StoredWindow | None:
        """The window of this number, if it was finished and shows these pictures."""
        folder = self.folder / f"{index:05d}"
        if not (folder / WINDOW).is_file():
            return None
        with np.load(folder / WINDOW) as stored:
            if str(stored["digest"]) != digest:
                return None
            return StoredWindow(
                folder=folder,
                start=int(stored["start"]),
                names=tuple(stored["names"].tolist()),
                original_sizes=tuple(map(tuple, stored["original_sizes"].tolist())),
                size=float(stored["size"]),
                **{name: stored[name] for name in ("poses", "intrinsics", "intrinsics_error", "descriptors")},
            )

    def write(
        self,
        index: int,
        digest: str,
        start: int,
        reconstruction: Reconstruction,
        descriptors: Float[np.ndarray, "views channels"],
    ) -> StoredWindow:
        folder = self.folder / f"{index:05d}"
        depths = [depth[mask] for depth, mask in zip(reconstruction.depth, reconstruction.mask, strict=True)]
        usable = np.concatenate(depths)
        with whole_folder(folder, overwrite=True) as partial:
            for view in range(len(reconstruction.names)):
                maps = {field: getattr(reconstruction, field)[view] for field in MAPS}
                np.savez(partial / f"{view:04d}.npz", **maps)
            np.savez(
                partial / WINDOW,
                digest=digest,
                start=start,
                names=np.array(reconstruction.names),
                original_sizes=np.array(reconstruction.original_sizes),
                poses=reconstruction.poses,
                intrinsics=reconstruction.intrinsics,
                intrinsics_error=reconstruction.intrinsics_error,
                descriptors=descriptors,
                size=float(np.median(usable)) if len(usable) else 1.0,
            )
        written = self.find(index, digest)
        assert written is not None
        return written


def digest_of(names: Sequence[str], pictures: Sequence[np.ndarray]) -> str:
    """Of what a window is shown."""
    digest = hashlib.sha256()
    for name, picture in zip(names, pictures, strict=True):
        digest.update(f"{name}\0{picture.shape}\0".encode())
        digest.update(np.ascontiguousarray(picture).tobytes())
    return digest.hexdigest()


class StoredMaps(Sequence[np.ndarray]):
    """Maps of many views that are made when they are asked for, and not kept: a tuple of them would fill the memory."""

    def __init__(self, make: Callable[[int], np.ndarray], count: int):
        self._make, self._count = make, count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[np.ndarray, ...]: ...
    def __getitem__(self, index: int | slice) -> np.ndarray | tuple[np.ndarray, ...]:
        places = range(self._count)[index]
        return self._make(places) if isinstance(places, int) else tuple(map(self._make, places))

    def __iter__(self) -> Iterator[np.ndarray]:
        return map(self._make, range(self._count))
