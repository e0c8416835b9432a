"""ScanNet: scans exported by the official SensReader, or the .sens files themselves.

Exported: SCAN/color/0.jpg, SCAN/depth/0.png (millimetres, 0 unknown), SCAN/pose/0.txt (camera-to-world, 4x4, metres,
OpenCV axes; -inf where tracking was lost: such a frame is left out), SCAN/intrinsic/intrinsic_color.txt and
intrinsic_depth.txt (4x4). Colour (1296 x 968) and depth (640 x 480) differ in size and intrinsics and are taken to look
from one place, as the official extrinsics (identity) say. Intrinsics count pixel centres from 0 (the depth camera's
principal point is 319.5, 239.5), hence the half pixel added here. Licence: ScanNet Terms of Use.

.sens: a header, then for each frame pose, two times, two sizes, a JPEG and zlib-packed 16-bit depth; read in place.
"""

import struct
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float

from g2vlm.data.readers.cameras import check_fits
from g2vlm.data.readers.derived import Derived, npy
from g2vlm.data.readers.listing import files, holding, numbers, picture_size
from g2vlm.data.recon import DepthFile, File, Frame, Scene
from g2vlm.data.samples import BadSample

JPEG, ZLIB = 2, 1  # how colour and depth of a .sens file are packed


def scenes(src: Path) -> Iterator[Scene]:
    """One for every scan at, or up to two folders below, `src`; exported pictures are preferred to a .sens file."""
    return map(_scene, holding(src, ["pose", "*.sens"], levels=2))


def _scene(folder: Path) -> Scene:
    frames = _exported(folder) if (folder / "pose").is_dir() else _packed(next(iter(files(folder, "*.sens"))))
    if not frames:
        raise BadSample(f"{folder}: no frame has a picture and a pose; were colour and poses exported?")
    return Scene(folder.name, tuple(frames), is_metric=True, source="ScanNet", licence="ScanNet Terms of Use")


def _exported(folder: Path) -> list[Frame]:
    color = _centred(numbers(folder / "intrinsic" / "intrinsic_color.txt", 4, 4))
    own = _centred(numbers(folder / "intrinsic" / "intrinsic_depth.txt", 4, 4))
    pictures, frames = files(folder / "color", "*.jpg"), []
    if pictures:
        check_fits(str(pictures[0]), color, picture_size(pictures[0]))
    for picture in pictures:
        file = folder / "pose" / f"{picture.stem}.txt"
        pose = numbers(file, 4, 4) if file.is_file() else None
        if pose is None or np.isinf(pose).any():
            continue
        depth = folder / "depth" / f"{picture.stem}.png"
        frames.append(
            Frame(
                name=f"{folder.name}/{picture.name}",
                image=File(picture),
                intrinsics=color,
                pose=pose,
                depth=DepthFile(File(depth), "png16", 0.001, intrinsics=own) if depth.is_file() else None,
            )
        )
    return frames


def _packed(file: Path) -> list[Frame]:
    try:
        with file.open("rb") as stream:
            return list(_sens(file, stream))
    except OSError as error:
        raise BadSample(f"{file}: cannot be read ({error.strerror})") from error
    except struct.error as error:
        raise BadSample(f"{file}: ends before its last frame; download it again") from error


def _sens(file: Path, stream: BinaryIO) -> Iterator[Frame]:
    (version,) = _unpacked(stream, "I")
    if version != 4:
        raise BadSample(f"{file}: is not a .sens file of version 4")
    stream.seek(_unpacked(stream, "Q")[0], 1)  # the name of the sensor
    color, _, own, _ = np.array(_unpacked(stream, "64f"), dtype=np.float64).reshape(4, 4, 4)
    color_packing, depth_packing, _, _, width, height = _unpacked(stream, "2i4I")
    if (color_packing, depth_packing) != (JPEG, ZLIB):
        raise BadSample(f"{file}: holds neither JPEG nor zlib; export it with the official SensReader")
    (stored_in_a_metre,) = _unpacked(stream, "f")
    (num_frames,) = _unpacked(stream, "Q")
    end = file.stat().st_size
    for number in range(num_frames):
        pose = np.array(_unpacked(stream, "16f"), dtype=np.float64).reshape(4, 4)
        _, _, color_bytes, depth_bytes = _unpacked(stream, "4Q")
        start = stream.tell()
        if start + color_bytes + depth_bytes > end:
            raise BadSample(f"{file}: ends in frame {number} of {num_frames}; download it again")
        stream.seek(color_bytes + depth_bytes, 1)
        if np.isinf(pose).any():
            continue
        depth = Derived(
            file, start + color_bytes, depth_bytes, f"{number}.npy", make=partial(_inflated, size=(height, width))
        )
        yield Frame(
            name=f"{file.stem}/{number}.jpg",
            image=File(file, start, color_bytes, f"{number}.jpg"),
            intrinsics=_centred(color),
            pose=pose,
            depth=DepthFile(depth, "npy", 1 / stored_in_a_metre, intrinsics=_centred(own)),
        )


def _unpacked(stream: BinaryIO, layout: str) -> tuple:
    return struct.unpack(f"<{layout}", stream.read(struct.calcsize(f"<{layout}")))


def _inflated(content: bytes, size: tuple[int, int]) -> bytes:
    try:
        return npy(np.frombuffer(zlib.decompress(content), dtype="<u2").reshape(size))
    except zlib.error as error:
        raise ValueError(str(error)) from error


def _centred(intrinsics: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "3 3"]:
    """From integer pixel centres to centres at +0.5."""
    centred = intrinsics[:3, :3].copy()
    centred[:2, 2] += 0.5
    return centred
