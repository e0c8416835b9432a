"""Scenes on disk: what is known of them before a pixel is read, and how pixels are read.

Readers (`g2vlm.data.readers`) make scenes of every layout; what is not known is None. Whatever is wrong with a file is a
BadSample, one line that names it.
"""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt8
from PIL import Image

from g2vlm.data.samples import BadSample
from g2vlm.pictures import UNREADABLE, read_photo

ROTATION_TOLERANCE = 1e-3


@dataclass(frozen=True)
class File:
    """Bytes on disk: a whole file, or a piece of one, which then has a name of its own (`member`)."""

    path: Path
    offset: int = 0
    length: int | None = None
    member: str = ""

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.path}: {self.member}" if self.member else str(self.path)

    @property
    def suffix(self) -> str:
        """The kind of file, ".jpg" for one."""
        return Path(self.member or self.path).suffix.lower()

    def read(self) -> bytes:
        try:
            with self.path.open("rb") as stream:
                stream.seek(self.offset)
                content = stream.read(-1 if self.length is None else self.length)
        except OSError as error:
            raise BadSample(f"{self.name}: cannot be read ({error.strerror})") from error
        if self.length is not None and len(content) < self.length:
            raise BadSample(f"{self.name}: {len(content)} of {self.length} bytes are there; the file was cut off")
        return content


@dataclass(frozen=True)
class DepthFile:
    """A depth map on disk.

    coding: a key of `DEPTH_CODINGS`. unit: scene units in one stored unit. measures: depth along the optical axis, or
    distance along the ray. intrinsics: of the depth map, where its pixels are not those of the image (same place, same
    direction, other lens or size); None where they are.
    """

    file: File
    coding: str
    unit: float = 1.0
    measures: Literal["z", "ray"] = "z"
    intrinsics: Float[np.ndarray, "3 3"] | None = None

    def __post_init__(self) -> None:
        if self.coding not in DEPTH_CODINGS:
            raise ValueError(f"{self.coding} is no coding of depth; there are {', '.join(DEPTH_CODINGS)}")
        if not 0 < self.unit < inf:
            raise ValueError(f"the unit of depth is {self.unit}; it must be positive and finite")

    def read(self) -> Float[np.ndarray, "height width"]:
        """Stored depth in scene units, at its own size; 0 where unknown."""
        try:
            stored = DEPTH_CODINGS[self.coding](self.file.read())
        except BadSample:
            raise
        except UNREADABLE as error:
            raise BadSample(f"{self.file.name}: cannot be read as {self.coding} depth ({error})") from error
        if not np.isfinite(stored).all():
            count = np.count_nonzero(~np.isfinite(stored))
            raise BadSample(f"{self.file.name}: {count} of {stored.size} depths are NaN or infinite")
        return np.maximum(stored * np.float32(self.unit), 0)


@dataclass(frozen=True)
class Shot:
    """The pixels of a frame. depth: z-depth in scene units, 0 where unknown."""

    image: UInt8[np.ndarray, "height width 3"]
    depth: Float[np.ndarray, "height width"] | None


@dataclass(frozen=True)
class Frame:
    """One picture of a scene before it is read; what is not known is None.

    intrinsics: in pixels of the stored image, pixel centres at +0.5. pose: camera-to-world, OpenCV axes, scene units.
    """

    name: str
    image: File
    intrinsics: Float[np.ndarray, "3 3"] | None = None
    pose: Float[np.ndarray, "4 4"] | None = None
    depth: DepthFile | None = None

    def __post_init__(self) -> None:
        if self.pose is not None:
            check_pose(self.name, self.pose)
        if self.intrinsics is not None:
            check_intrinsics(self.name, self.intrinsics)
        if self.depth is not None and self.intrinsics is None:
            needed = self.depth.measures == "ray" or self.depth.intrinsics is not None
            if needed:
                raise BadSample(f"{self.name}: its depth cannot be brought to the image without the image's intrinsics")

    def read(self) -> Shot:
        """Pixels of the image, and depth at the same pixels."""
        return self.decoded(self.image.read())

    def decoded(self, content: bytes) -> Shot:
        """As `read`, where the bytes of the image are at hand."""
        image = _pixels(content, self.image.name)
        return Shot(image, None if self.depth is None else self._registered((image.shape[0], image.shape[1])))

    def _registered(self, size: tuple[int, int]) -> Float[np.ndarray, "height width"]:
        assert self.depth is not None
        depth, own = self.depth.read(), self.depth.intrinsics
        if own is None and depth.shape != size:
            found, wanted = (f"{width} x {height}" for height, width in (depth.shape, size))
            raise BadSample(f"{self.depth.file.name}: depth is {found} pixels, its image {wanted}")
        if self.depth.measures == "ray":
            assert self.intrinsics is not None
            depth = depth / ray_lengths(self.intrinsics if own is None else own, depth.shape)
        if own is None:
            return depth
        assert self.intrinsics is not None
        return _looked_up(depth, own, self.intrinsics, size)


@dataclass(frozen=True)
class Scene:
    """Pictures of one static scene. is_metric: lengths are metres; otherwise their unit is arbitrary.

    source: the data set. has_fine_depth: good enough for normals (rendered, or a dense sensor), not LIDAR-like or sparse.
    is_sequence: frames are ordered in time.
    """

    name: str
    frames: tuple[Frame, ...]
    is_metric: bool
    source: str
    licence: str
    has_fine_depth: bool = True
    is_sequence: bool = True

    def __post_init__(self) -> None:
        if not self.frames:
            raise BadSample(f"{self.name}: a scene without pictures")


def each_good(scenes: Iterator[Scene], bad: Callable[[str], None]) -> Iterator[Scene]:
    """The scenes that can be read; `bad` is told what is wrong with each of the others.

    A reader goes on after a bad scene because it is a `map` over scenes, not a generator.
    """
    while True:
        try:
            yield next(scenes)
        except StopIteration:
            return
        except BadSample as error:
            bad(str(error))


def check_pose(name: str, pose: Float[np.ndarray, "4 4"]) -> None:
    """Refuse what is not a rotation and a translation, naming the frame and how far off it is."""
    if not np.isfinite(pose).all():
        raise BadSample(f"{name}: its pose has NaN or infinite numbers")
    rotation = pose[:3, :3]
    residual = np.abs(rotation @ rotation.T - np.eye(3)).max()
    if residual > ROTATION_TOLERANCE:
        raise BadSample(
            f"{name}: its pose is not a rotation, R times its transpose is off the identity by {residual:.2g}"
        )
    if np.linalg.det(rotation) < 0:
        raise BadSample(f"{name}: its pose is a mirror image (determinant -1), not a rotation; flip one axis")
    if not np.allclose(pose[3], [0, 0, 0, 1], atol=ROTATION_TOLERANCE):
        raise BadSample(f"{name}: the last row of its pose is {pose[3].tolist()}, not 0 0 0 1; transposed?")


def check_intrinsics(name: str, intrinsics: Float[np.ndarray, "3 3"]) -> None:
    """Refuse what is not a pinhole camera without skew."""
    if not np.isfinite(intrinsics).all():
        raise BadSample(f"{name}: its intrinsics have NaN or infinite numbers")
    fx, fy = intrinsics[0, 0], intrinsics[1, 1]
    if fx <= 0 or fy <= 0:
        raise BadSample(f"{name}: its focal lengths are {fx:g} and {fy:g} pixels; they must be positive")
    if not np.array_equal(intrinsics[2], [0, 0, 1]):
        raise BadSample(f"{name}: the last row of its intrinsics is {intrinsics[2].tolist()}, not 0 0 1")


def pinhole(fx: float, fy: float, cx: float, cy: float) -> Float[np.ndarray, "3 3"]:
    """Intrinsics as a matrix; pixel centres at +0.5."""
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=np.float64)


def sample_nearest(
    values: Shaped[np.ndarray, "height width *channels"], size: tuple[int, int]
) -> Shaped[np.ndarray, "rows columns *channels"]:
    """A map at another size, each value taken from the nearest pixel; never a mixture of two depths."""
    height, width = values.shape[:2]
    rows = ((np.arange(size[0]) + 0.5) * height / size[0]).astype(int)
    columns = ((np.arange(size[1]) + 0.5) * width / size[1]).astype(int)
    return values[rows][:, columns]


def valid(depth: Float[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """Where depth is known: positive and finite."""
    return np.isfinite(depth) & (depth > 0)


def _pixels(content: bytes, name: str) -> UInt8[np.ndarray, "height width 3"]:
    try:
        return read_photo(io.BytesIO(content), name=name, turn=False).rgb
    except ValueError as error:
        raise BadSample(str(error)) from error


def ray_lengths(intrinsics: Float[np.ndarray, "3 3"], size: tuple[int, ...]) -> Float[np.ndarray, "height width"]:
    """Distance along each pixel's ray of the point at depth 1."""
    x = (np.arange(size[1]) + 0.5 - intrinsics[0, 2]) / intrinsics[0, 0]
    y = (np.arange(size[0]) + 0.5 - intrinsics[1, 2]) / intrinsics[1, 1]
    return np.sqrt(1 + x**2 + y[:, None] ** 2).astype(np.float32)


def _looked_up(
    depth: Float[np.ndarray, "rows columns"],
    own: Float[np.ndarray, "3 3"],
    intrinsics: Float[np.ndarray, "3 3"],
    size: tuple[int, int],
) -> Float[np.ndarray, "height width"]:
    """Depth of the pixel of another lens that looks along the same ray; 0 outside its picture."""
    x = (np.arange(size[1]) + 0.5 - intrinsics[0, 2]) / intrinsics[0, 0]
    y = (np.arange(size[0]) + 0.5 - intrinsics[1, 2]) / intrinsics[1, 1]
    columns = np.floor(x * own[0, 0] + own[0, 2]).astype(int)
    rows = np.floor(y * own[1, 1] + own[1, 2]).astype(int)
    is_row, is_column = (rows >= 0) & (rows < depth.shape[0]), (columns >= 0) & (columns < depth.shape[1])
    looked_up = depth[np.where(is_row, rows, 0)][:, np.where(is_column, columns, 0)]
    return np.where(is_row[:, None] & is_column, looked_up, np.float32(0))


# ---- codings of depth: bytes -> float32 [height, width] in stored units


def _png16(content: bytes) -> Float[np.ndarray, "height width"]:
    return _stored_png(content).astype(np.float32)


def _png16_65535(content: bytes) -> Float[np.ndarray, "height width"]:
    stored = _stored_png(content)
    return np.where(stored == 65535, 0, stored).astype(np.float32)


def _png_half(content: bytes) -> Float[np.ndarray, "height width"]:
    """The 16 bits of each pixel are a half float (Co3Dv2); not finite where unknown."""
    return _known(_stored_png(content).astype(np.uint16).view(np.float16))


def _stored_png(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
        stored = np.asarray(image)
    if stored.ndim != 2 or stored.dtype == np.uint8:
        raise ValueError(f"PNG of mode {image.mode}, not 16-bit grey")
    return stored


def _npy(content: bytes) -> Float[np.ndarray, "height width"]:
    stored = np.load(io.BytesIO(content), allow_pickle=False)
    if stored.ndim != 2:
        raise ValueError(f"an array of shape {stored.shape}, not height x width")
    return stored.astype(np.float32)


def _pfm(content: bytes) -> Float[np.ndarray, "height width"]:
    """Grey portable float map: rows from the bottom upwards, a negative scale says little-endian."""
    stream = io.BytesIO(content)
    if stream.readline().strip() != b"Pf":
        raise ValueError("does not begin with Pf")
    width, height = (int(number) for number in stream.readline().split())
    order = "<" if float(stream.readline()) < 0 else ">"
    stored = np.frombuffer(stream.read(), dtype=f"{order}f4").reshape(height, width)
    return _known(np.flipud(stored))


def _colmap(content: bytes) -> Float[np.ndarray, "height width"]:
    """Dense stereo of COLMAP: "width&height&channels&" in letters, then floats, row by row."""
    width, height, channels, values = content.split(b"&", maxsplit=3)
    if int(channels) != 1:
        raise ValueError(f"{int(channels)} channels, not 1")
    return np.frombuffer(values, dtype="<f4").reshape(int(height), int(width)).copy()


def _hdf5(content: bytes) -> Float[np.ndarray, "height width"]:
    """The data set named `dataset` (Hypersim); NaN where unknown."""
    try:
        import h5py
    except ImportError as error:
        raise ValueError("needs the package h5py: pip install 'g2vlm[hdf5]'") from error
    with h5py.File(io.BytesIO(content), "r") as file:
        return _known(np.asarray(file["dataset"]))


def _known(stored: np.ndarray) -> Float[np.ndarray, "height width"]:
    """For formats that mark unknown depth by a number that is not finite."""
    return np.where(np.isfinite(stored), stored, 0).astype(np.float32)


DEPTH_CODINGS: dict[str, Callable[[bytes], Float[np.ndarray, "height width"]]] = {
    "png16": _png16,
    "png16_65535": _png16_65535,  # 65535 where unknown (7-Scenes)
    "png_half": _png_half,
    "npy": _npy,
    "pfm": _pfm,
    "colmap": _colmap,
    "hdf5": _hdf5,
}
