"""Scenes in tar shards as WebDataset reads them, with an index that opens any scene at once.

A shard holds whole scenes; the key is the scene's name: `room.0000.jpg`, `room.0000.depth.png`, ..., `room.scene.json`.
The last says what is known of each frame and where in the shard its members lie; `index.json` says where it lies itself.
Pictures keep their bytes; depth is z-depth at the picture's pixels, 16 bits, with a unit of its own for each frame.
"""

import io
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
from jaxtyping import Float
from PIL import Image

from g2vlm.atomic import naming, write_whole
from g2vlm.data.recon import DepthFile, File, Frame, Scene, each_good, valid
from g2vlm.data.samples import BadSample
from g2vlm.data.sampling import usable_frames

INDEX = "index.json"
VERSION = 1
BLOCK = 512

LARGEST = 65535
LARGEST_HALF = 60000.0
FINE = 1e-3
"""Relative error of the nearest depth up to which depth is stored in even steps; beyond it, as half floats."""

FEW = 10
"""So many scenes are tried before bad ones stop a conversion."""


@dataclass(frozen=True)
class Report:
    """What a conversion did. num_kept: scenes that an earlier run had finished. bad: what was left out, and why."""

    num_scenes: int
    num_kept: int
    num_frames: int
    num_bytes: int
    num_bad_scenes: int
    bad: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """Where the description of a scene lies, and how many of its frames can be shown alone, and together with others."""

    name: str
    shard: str
    offset: int
    length: int
    num_frames: int
    num_alone: int
    num_together: int

    @property
    def end(self) -> int:
        """Of the scene: its description is its last member."""
        return self.offset + self.length


@dataclass(frozen=True)
class Index:
    """What a folder of shards holds: the size of each shard by name, and the scenes."""

    shards: dict[str, int]
    scenes: tuple[Entry, ...]


class Shards(Sequence[Scene]):
    """The scenes of a folder of shards, each read when asked for.

    damaged: one line for each shard that is not whole. Scenes behind a cut are left out, those before it are there.
    num_lost: how many were left out.
    """

    def __init__(self, folder: Path, entries: tuple[Entry, ...], damaged: tuple[str, ...], num_lost: int) -> None:
        self.folder, self.entries, self.damaged, self.num_lost = folder, entries, damaged, num_lost

    def __len__(self) -> int:
        return len(self.entries)

    @overload
    def __getitem__(self, index: int) -> Scene: ...

    @overload
    def __getitem__(self, index: slice) -> "Shards": ...

    def __getitem__(self, index: int | slice) -> "Scene | Shards":
        if isinstance(index, slice):
            return Shards(self.folder, self.entries[index], self.damaged, self.num_lost)
        return _read_scene(self.folder, self.entries[index])

    @property
    def counts(self) -> list[tuple[int, int]]:
        """Usable frames of each scene, as `g2vlm.data.sampling` counts them, without opening one."""
        return [(entry.num_alone, entry.num_together) for entry in self.entries]

    def each(self) -> Iterator[Scene]:
        """All scenes; after a bad one the next follows."""
        return map(partial(_read_scene, self.folder), self.entries)


def read_shards(folder: Path) -> Shards:
    """Open what `write_shards` wrote, finished or not. Sizes of shards are compared with the index, none is read."""
    index = _read_index(folder)
    if index is None:
        raise ValueError(f"{folder} holds no {INDEX}; name a folder that `g2vlm data convert` wrote")
    sizes = {shard: _size(folder / shard) for shard in index.shards}
    whole = tuple(entry for entry in index.scenes if entry.end <= sizes[entry.shard])
    return Shards(folder, whole, tuple(_damages(folder, index, sizes)), len(index.scenes) - len(whole))


def write_shards(scenes: Iterator[Scene], out: Path, *, max_bytes: int = 1 << 30, limit: int | None = None) -> Report:
    """Write scenes into shards that are closed once they exceed `max_bytes`; scenes already there are kept.

    A shard appears whole, and is entered into the index then: an interrupted conversion goes on from there.
    Frames and scenes that cannot be read are left out. More than half of its frames make a scene bad, more than half of
    the scenes stop the conversion with a ValueError. limit: stop after so many scenes, those kept among them.
    """
    with _Writer(out, max_bytes) as writer:
        for scene in each_good(scenes, writer.refuse):
            writer.add(scene)
            if writer.num_done == limit:
                break
    return writer.report()


def key_of(name: str) -> str:
    """The name of a scene in a shard: WebDataset's key ends at the first dot of a file's name."""
    return re.sub(r"[^\w-]+", "_", name, flags=re.ASCII).strip("_") or "scene"


class _Writer:
    """A conversion under way. After an error, what is finished stays and the shard begun vanishes."""

    def __init__(self, out: Path, max_bytes: int) -> None:
        out.mkdir(parents=True, exist_ok=True)
        for leftover in out.glob(".*.partial"):
            leftover.unlink()
        self.out, self.max_bytes = out, max_bytes
        self.index = _whole_part(out)
        self.kept = {entry.name for entry in self.index.scenes}
        self.done: set[str] = set()
        self.reasons: list[str] = []
        self.bad: list[str] = []
        self.shard: _Shard | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if self.shard is not None and (kind is not None or not self.shard.entries):
            self.shard.discard()
        elif self.shard is not None:
            self._finish(self.shard)
        if kind is None:
            self._stop_if_too_many(f"{self.num_tried}")

    @property
    def num_done(self) -> int:
        return len(self.done)

    @property
    def num_tried(self) -> int:
        return len(self.done) + len(self.bad)

    def add(self, scene: Scene) -> None:
        name = key_of(scene.name)
        if name in self.done:
            self.refuse(f"{scene.name}: a scene named {name} was there before; rename one of them")
            return
        if name not in self.kept:
            self.shard = self.shard or _Shard(self.out / _free_name(self.index))
            try:
                self.shard.add(name, scene, self.reasons.append)
            except BadSample as error:
                self.refuse(str(error))
                return
            if self.shard.size >= self.max_bytes:
                self._finish(self.shard)
                self.shard = None
        self.done.add(name)

    def refuse(self, reason: str) -> None:
        self.reasons.append(reason)
        self.bad.append(reason)
        if self.num_tried >= FEW:
            self._stop_if_too_many(f"the first {self.num_tried}")

    def report(self) -> Report:
        new = [entry for entry in self.index.scenes if entry.name not in self.kept]
        return Report(
            num_scenes=len(new),
            num_kept=len(self.done) - len(new),
            num_frames=sum(entry.num_frames for entry in new),
            num_bytes=sum(self.index.shards[shard] for shard in {entry.shard for entry in new}),
            num_bad_scenes=len(self.bad),
            bad=tuple(self.reasons),
        )

    def _finish(self, shard: "_Shard") -> None:
        size = shard.publish()
        self.index = Index({**self.index.shards, shard.path.name: size}, (*self.index.scenes, *shard.entries))
        _write_index(self.out, self.index)

    def _stop_if_too_many(self, tried: str) -> None:
        if 2 * len(self.bad) > self.num_tried:
            raise ValueError(
                f"{len(self.bad)} of {tried} scenes are bad, more than half; is the data set whole? {self.bad[0]}"
            )


class _Shard:
    """A tar file that is being written under a hidden name."""

    def __init__(self, path: Path) -> None:
        self.path, self.partial = path, path.with_name(f".{path.name}.partial")
        self.entries: list[Entry] = []
        self.stream = self.partial.open("wb")

    @property
    def size(self) -> int:
        return self.stream.tell()

    def add(self, name: str, scene: Scene, bad: Callable[[str], None]) -> None:
        """Write a scene; where it turns out bad, the shard is as before. bad: is told of each frame left out."""
        start, records, frames, reasons = self.size, [], [], []
        for frame in scene.frames:
            try:
                records.append(self._frame(f"{name}.{len(frames):04d}", frame))
                frames.append(frame)
            except BadSample as error:
                reasons.append(str(error))
        if 2 * len(reasons) > len(scene.frames):
            self.stream.seek(start)
            self.stream.truncate()
            raise BadSample(f"{scene.name}: {len(reasons)} of {len(scene.frames)} frames are bad; {reasons[0]}")
        for reason in reasons:
            bad(f"{reason} (frame left out)")
        facts = {field: getattr(scene, field) for field in FACTS}
        content = json.dumps({"version": VERSION, **facts, "frames": records}).encode()
        piece = self._append(f"{name}.scene.json", content)
        alone, together = (len(usable_frames(replace(scene, frames=tuple(frames)), n)) for n in (1, 2))
        place = (self.path.name, piece["offset"], piece["length"])
        self.entries.append(Entry(name, *place, len(frames), alone, together))

    def publish(self) -> int:
        """Let the shard appear; its size."""
        with naming(self.path):
            self.stream.write(bytes(2 * BLOCK))
            self.stream.flush()
            os.fsync(self.stream.fileno())
            size = self.size
            self.stream.close()
            self.partial.replace(self.path)
        return size

    def discard(self) -> None:
        self.partial.unlink(missing_ok=True)
        with suppress(OSError):  # a full disk complains again when the rest is flushed
            self.stream.close()

    def _frame(self, stem: str, frame: Frame) -> dict[str, Any]:
        content = frame.image.read()
        shot = frame.decoded(content)
        picture, suffix = (content, found) if (found := _suffix(content)) else (_png(shot.image), ".png")
        record: dict[str, Any] = {
            "name": frame.name,
            "height": shot.image.shape[0],
            "width": shot.image.shape[1],
            "intrinsics": None if frame.intrinsics is None else frame.intrinsics.tolist(),
            "pose": None if frame.pose is None else frame.pose.tolist(),
            "depth": None,
        }
        depth = None
        if shot.depth is not None and frame.depth is not None:
            depth = _stored_depth(frame.depth, shot.depth)
        record["image"] = self._append(stem + suffix, picture)
        if depth is not None:
            content, coding, unit = depth
            record["depth"] = {**self._append(f"{stem}.depth.png", content), "coding": coding, "unit": unit}
        return record

    def _append(self, member: str, content: bytes) -> dict[str, Any]:
        """A member of the tar, and where its bytes lie."""
        header = tarfile.TarInfo(member)
        header.size = len(content)
        with naming(self.path):
            self.stream.write(header.tobuf())
            offset = self.stream.tell()
            self.stream.write(content)
            self.stream.write(bytes(-len(content) % BLOCK))
        return {"member": member, "offset": offset, "length": len(content)}


FACTS = ("name", "is_metric", "source", "licence", "has_fine_depth", "is_sequence")


def _suffix(content: bytes) -> str:
    """Of a picture whose bytes can be kept; nothing for other formats."""
    if content.startswith(b"\xff\xd8"):
        return ".jpg"
    return ".png" if content.startswith(b"\x89PNG") else ""


def _stored_depth(stored: DepthFile, depth: Float[np.ndarray, "height width"]) -> tuple[bytes, str, float]:
    """(bytes, coding, unit) of a depth map: as it is stored where it is as we store it."""
    if stored.coding == "png16" and stored.measures == "z" and stored.intrinsics is None:
        return stored.file.read(), "png16", stored.unit
    return encoded_depth(depth)


def encoded_depth(depth: Float[np.ndarray, "height width"]) -> tuple[bytes, str, float]:
    """(bytes of a PNG, coding, unit): even steps up to the largest depth, or half floats if these were too coarse nearby."""
    known = depth[valid(depth)]
    near, far = (float(known.min()), float(known.max())) if known.size else (1.0, 1.0)
    unit = far / LARGEST
    if unit / 2 <= FINE * near:
        return _png(np.round(depth / unit).astype(np.uint16)), "png16", unit
    unit = far / LARGEST_HALF
    return _png((depth / unit).astype(np.float16).view(np.uint16)), "png_half", unit


def _png(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "PNG")
    return stream.getvalue()


def _read_scene(folder: Path, entry: Entry) -> Scene:
    shard = folder / entry.shard
    description = File(shard, entry.offset, entry.length, f"{entry.name}.scene.json")
    content = description.read()
    try:
        record = json.loads(content)
        frames = tuple(_read_frame(shard, frame) for frame in record["frames"])
        return Scene(frames=frames, **{field: record[field] for field in FACTS})
    except BadSample:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise BadSample(f"{description.name}: is damaged ({type(error).__name__}: {error})") from error


def _read_frame(shard: Path, record: dict[str, Any]) -> Frame:
    def array(rows: list[list[float]] | None) -> Float[np.ndarray, "_rows _columns"] | None:
        return None if rows is None else np.array(rows, dtype=np.float64)

    def file(piece: dict[str, Any]) -> File:
        return File(shard, piece["offset"], piece["length"], piece["member"])

    depth = record["depth"]
    return Frame(
        record["name"],
        file(record["image"]),
        array(record["intrinsics"]),
        array(record["pose"]),
        None if depth is None else DepthFile(file(depth), depth["coding"], depth["unit"]),
    )


# ---- the index


def _read_index(folder: Path) -> Index | None:
    path = folder / INDEX
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text())
        return Index(record["shards"], tuple(Entry(**entry) for entry in record["scenes"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: is no index of shards ({error}); delete it and convert again") from error


def _write_index(folder: Path, index: Index) -> None:
    record = {"version": VERSION, "shards": index.shards, "scenes": [asdict(entry) for entry in index.scenes]}
    write_whole(folder / INDEX, json.dumps(record, indent=1) + "\n")


def _whole_part(folder: Path) -> Index:
    """What a folder holds of whole shards; scenes of others are to be written again."""
    index = _read_index(folder) or Index({}, ())
    shards = {shard: size for shard, size in index.shards.items() if _size(folder / shard) == size}
    return Index(shards, tuple(entry for entry in index.scenes if entry.shard in shards))


def _damages(folder: Path, index: Index, sizes: dict[str, int]) -> Iterator[str]:
    for shard, expected in index.shards.items():
        if sizes[shard] != expected:
            ends = [entry.end for entry in index.scenes if entry.shard == shard]
            lost = sum(end > sizes[shard] for end in ends)
            yield f"{folder / shard}: {sizes[shard]} of {expected} bytes are there; {lost} of its {len(ends)} scenes are lost"


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _free_name(index: Index) -> str:
    return next(name for i in count() if (name := f"shard-{i:06d}.tar") not in index.shards)
