"""A COLMAP model, binary or text: cameras and pictures in pixels of the original photos, points with their tracks.

Written as COLMAP writes it: world-to-camera poses, quaternions with the real part first, pixel centres at +0.5. Every point
is seen by the view that predicted it, at its pixel, and by each view whose own depth agrees where the point falls.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation

from g2vlm.data.readers.cameras import inverse
from g2vlm.data.readers.colmap import MODELS
from g2vlm.export.cloud import Cloud, Pixels, cloud_of
from g2vlm.export.conventions import lines
from g2vlm.export.names import photo_names
from g2vlm.records import Reconstruction

PINHOLE = [name for name, _ in MODELS].index("PINHOLE")
AGREES = 0.03
"""Of a point's depth in another view: how far that view's own depth may be off for it to see the point."""

POINT2D = np.dtype([("xy", "<f8", 2), ("point", "<u8")])
POINT3D = np.dtype([("number", "<u8"), ("xyz", "<f8", 3), ("rgb", "u1", 3), ("error", "<f8"), ("track_length", "<u8")])
ELEMENT = np.dtype([("image", "<u4"), ("index", "<u4")])
BLOCK = 1 << 16


@dataclass(frozen=True)
class Observations:
    """Which view sees which point where, in order of point and view, all counted from 0.

    xy: pixels of the original photo. index: the how manieth point it is in its view. error: pixels between xy and the point.
    """

    point: Int[np.ndarray, " observations"]
    view: Int[np.ndarray, " observations"]
    xy: Float[np.ndarray, "observations 2"]
    index: Int[np.ndarray, " observations"]
    error: Float[np.ndarray, " observations"]


@dataclass(frozen=True)
class Model:
    """All of a COLMAP model. poses: world-to-camera. errors: mean distance of a point to where it is seen, in pixels."""

    names: list[str]
    sizes: tuple[tuple[int, int], ...]
    intrinsics: Float[np.ndarray, "views 3 3"]
    poses: Float[np.ndarray, "views 4 4"]
    cloud: Cloud
    seen: Observations
    errors: Float[np.ndarray, " points"]


def colmap(
    reconstruction: Reconstruction, pixels: Pixels, said: dict[str, str], *, text: bool
) -> Iterator[tuple[str, bytes]]:
    """The three files of a model; binary ones have no place for what is said."""
    model = model_of(reconstruction, pixels)
    if text:
        head = "".join(f"# {line}\n" for line in lines(said))
        yield "cameras.txt", (head + _cameras_text(model)).encode()
        yield "images.txt", (head + _images_text(model)).encode()
        yield "points3D.txt", (head + _points_text(model)).encode()
    else:
        yield "cameras.bin", _cameras_binary(model)
        yield "images.bin", _images_binary(model)
        yield "points3D.bin", _points_binary(model)


def model_of(reconstruction: Reconstruction, pixels: Pixels) -> Model:
    """The chosen points, and who sees them; every view needs intrinsics."""
    require_cameras(reconstruction, "colmap")
    intrinsics = reconstruction.intrinsics.astype(np.float64)
    poses = np.stack([inverse(pose.astype(np.float64)) for pose in reconstruction.poses])
    cloud = cloud_of(reconstruction, pixels)
    seen = _observations(reconstruction, pixels, cloud, intrinsics, poses)
    errors = np.bincount(seen.point, seen.error, len(cloud)) / np.bincount(seen.point, minlength=len(cloud))
    return Model(photo_names(reconstruction), reconstruction.original_sizes, intrinsics, poses, cloud, seen, errors)


def require_cameras(reconstruction: Reconstruction, format: str) -> None:
    """Refuse, for a format that cannot do without, views whose intrinsics could not be fitted."""
    for name, intrinsics in zip(reconstruction.names, reconstruction.intrinsics, strict=True):
        if not np.isfinite(intrinsics).all():
            raise ValueError(
                f"{name}: no camera fits its points, and {format} needs one; leave that photo out, or {format}"
            )


def _observations(
    reconstruction: Reconstruction,
    pixels: Pixels,
    cloud: Cloud,
    intrinsics: Float[np.ndarray, "views 3 3"],
    poses: Float[np.ndarray, "views 4 4"],
) -> Observations:
    owner = np.repeat(np.arange(len(pixels)), [int(chosen.sum()) for chosen in pixels])
    positions = cloud.positions.astype(np.float64)
    parts = []
    for view, (chosen, mask, size) in enumerate(
        zip(pixels, reconstruction.mask, reconstruction.original_sizes, strict=True)
    ):
        pixel_size = np.array(size) / mask.shape
        local = positions @ poses[view, :3, :3].T + poses[view, :3, 3]
        is_ahead = local[:, 2] > 0
        z = np.where(is_ahead, local[:, 2], 1)
        projected = local[:, :2] / z[:, None] * intrinsics[view].diagonal()[:2] + intrinsics[view, :2, 2]
        is_inside = is_ahead & ((projected >= 0) & (projected < size[::-1])).all(1)
        row, column = np.where(is_inside, (projected[:, ::-1] / pixel_size).T, 0).astype(int)
        depth = reconstruction.depth[view][row, column]
        is_seen = is_inside & mask[row, column] & (np.abs(depth - z) <= AGREES * z)
        is_own = owner == view
        at = projected.copy()
        at[is_own] = ((np.argwhere(chosen) + 0.5) * pixel_size)[:, ::-1]
        point = np.flatnonzero(is_seen | is_own)
        off = np.where(is_ahead, np.linalg.norm(projected - at, axis=1), 0)
        parts.append((point, np.full(len(point), view), at[point], np.arange(len(point)), off[point]))
    point, view, xy, index, error = (np.concatenate(values) for values in zip(*parts, strict=True))
    order = np.lexsort((view, point))
    return Observations(point[order], view[order], xy[order], index[order], error[order])


def _quaternions(model: Model) -> Float[np.ndarray, "views 4"]:
    """Real part first."""
    return Rotation.from_matrix(model.poses[:, :3, :3]).as_quat(canonical=True, scalar_first=True)


def _parameters(intrinsics: Float[np.ndarray, "3 3"]) -> list[float]:
    (fx, _, cx), (_, fy, cy) = intrinsics[:2].tolist()
    return [fx, fy, cx, cy]


def _points_of_view(model: Model, view: int) -> np.ndarray:
    """POINT2D records, in order of their index."""
    is_here = model.seen.view == view
    points = np.empty(int(is_here.sum()), POINT2D)
    points["xy"], points["point"] = model.seen.xy[is_here], model.seen.point[is_here] + 1
    return points


def _cameras_binary(model: Model) -> bytes:
    entries = [
        struct.pack("<iiQQ4d", view + 1, PINHOLE, size[1], size[0], *_parameters(intrinsics))
        for view, (size, intrinsics) in enumerate(zip(model.sizes, model.intrinsics, strict=True))
    ]
    return struct.pack("<Q", len(entries)) + b"".join(entries)


def _images_binary(model: Model) -> bytes:
    parts = [struct.pack("<Q", len(model.names))]
    for view, (name, rotation, pose) in enumerate(zip(model.names, _quaternions(model), model.poses, strict=True)):
        points = _points_of_view(model, view)
        parts += [
            struct.pack("<i7di", view + 1, *rotation, *pose[:3, 3], view + 1),
            name.encode() + b"\0",
            struct.pack("<Q", len(points)),
            points.tobytes(),
        ]
    return b"".join(parts)


def _points_binary(model: Model) -> bytes:
    """Each point's record is followed by its track, so places are computed; in blocks, for these places take memory."""
    lengths = np.bincount(model.seen.point, minlength=len(model.cloud))
    ends = np.cumsum(lengths)
    parts = [struct.pack("<Q", len(model.cloud))]
    for start in range(0, len(model.cloud), BLOCK):
        part = slice(start, min(start + BLOCK, len(model.cloud)))
        heads = np.empty(part.stop - start, POINT3D)
        heads["number"] = np.arange(start, part.stop) + 1
        heads["xyz"], heads["rgb"] = model.cloud.positions[part], model.cloud.colours[part]
        heads["error"], heads["track_length"] = model.errors[part], lengths[part]
        track = slice(ends[start] - lengths[start], ends[part.stop - 1])
        elements = np.empty(track.stop - track.start, ELEMENT)
        elements["image"], elements["index"] = model.seen.view[track] + 1, model.seen.index[track]
        content = np.empty(heads.nbytes + elements.nbytes, np.uint8)
        is_head = np.repeat(
            np.tile([True, False], len(heads)),
            np.stack([np.full(len(heads), POINT3D.itemsize), ELEMENT.itemsize * lengths[part]], 1).ravel(),
        )
        content[is_head] = heads.view(np.uint8)
        content[~is_head] = elements.view(np.uint8)
        parts.append(content.tobytes())
    return b"".join(parts)


def _cameras_text(model: Model) -> str:
    rows = ["# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]"]
    for view, (size, intrinsics) in enumerate(zip(model.sizes, model.intrinsics, strict=True)):
        rows.append(f"{view + 1} PINHOLE {size[1]} {size[0]} {_numbers(_parameters(intrinsics))}")
    return "\n".join([*rows, ""])


def _images_text(model: Model) -> str:
    rows = ["# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME", "# POINTS2D[] as (X, Y, POINT3D_ID)"]
    for view, (name, rotation, pose) in enumerate(zip(model.names, _quaternions(model), model.poses, strict=True)):
        rows.append(f"{view + 1} {_numbers([*rotation, *pose[:3, 3]])} {view + 1} {name}")
        points = _points_of_view(model, view)
        pairs = zip(points["xy"].tolist(), points["point"].tolist(), strict=True)
        rows.append(" ".join(f"{x:.9g} {y:.9g} {point}" for (x, y), point in pairs))
    return "\n".join([*rows, ""])


def _points_text(model: Model) -> str:
    cloud, seen = model.cloud, model.seen
    ends = np.cumsum(np.bincount(seen.point, minlength=len(cloud)))
    elements = [f"{view + 1} {index}" for view, index in zip(seen.view.tolist(), seen.index.tolist(), strict=True)]
    rows, start = ["# POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[] as (IMAGE_ID, POINT2D_IDX)"], 0
    columns = (cloud.positions.tolist(), cloud.colours.tolist(), model.errors.tolist(), ends.tolist())
    for number, (xyz, rgb, error, end) in enumerate(zip(*columns, strict=True), 1):
        colour = " ".join(map(str, rgb))
        rows.append(f"{number} {_numbers(xyz)} {colour} {error:.6g} {' '.join(elements[start:end])}")
        start = end
    return "\n".join([*rows, ""])


def _numbers(values: list[float]) -> str:
    return " ".join(f"{value:.17g}" for value in values)
