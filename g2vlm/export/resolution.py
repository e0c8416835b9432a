"""Maps at the size of the original photos, without a depth that lies between two surfaces."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image

from g2vlm.export.cloud import finite_pixels
from g2vlm.geometry.points import depth_jumps
from g2vlm.pictures import Photo
from g2vlm.records import Reconstruction


def at_original_resolution(reconstruction: Reconstruction, photos: Sequence[Photo] | None = None) -> Reconstruction:
    """The same reconstruction with a value for each pixel of the photos.

    Between four neighbours of one surface inverse depth and rays are interpolated, which is exact for a plane; where depth
    jumps between them, or one of them is unknown, a pixel has the depth of the nearest, on its own ray.
    photos: the originals, for colours; without them the pictures that the model saw are enlarged.
    """
    if photos is not None:
        _check_photos(reconstruction, photos)
    views = [
        _enlarged(reconstruction, view, finite_pixels(reconstruction, view), None if photos is None else photos[view])
        for view in range(len(reconstruction.names))
    ]
    return replace(reconstruction, **{name: tuple(view[name] for view in views) for name in views[0]} if views else {})


def _check_photos(reconstruction: Reconstruction, photos: Sequence[Photo]) -> None:
    if len(photos) != len(reconstruction.names):
        raise ValueError(
            f"{len(photos)} photos for {len(reconstruction.names)} views; give one for each, in their order"
        )
    for photo, name, size in zip(photos, reconstruction.names, reconstruction.original_sizes, strict=True):
        if photo.size != size:
            found, wanted = (f"{width} x {height}" for height, width in (photo.size, size))
            raise ValueError(f"{photo.name} is {found} pixels, the photo {name} was {wanted}; give the same photos")


@dataclass(frozen=True)
class _Cells:
    """Which four pixels of a map each pixel of a larger one lies between.

    rows, columns: of the first of the two; the second follows. down, across: how far along, below 0 and above 1 at the border.
    """

    rows: Int[np.ndarray, " height"]
    columns: Int[np.ndarray, " width"]
    down: Float[np.ndarray, "height 1"]
    across: Float[np.ndarray, " width"]
    size: tuple[int, int]

    def corners(self, values: np.ndarray) -> list[np.ndarray]:
        """Left upper, right upper, left lower and right lower."""
        below, right = (np.minimum(x + 1, n - 1) for x, n in zip((self.rows, self.columns), self.size, strict=True))
        return [values[r][:, c] for r in (self.rows, below) for c in (self.columns, right)]

    def nearest(self, values: np.ndarray) -> np.ndarray:
        """As numbers of the nearest pixel."""
        rows = np.clip(self.rows + (self.down[:, 0] >= 0.5), 0, self.size[0] - 1)
        columns = np.clip(self.columns + (self.across >= 0.5), 0, self.size[1] - 1)
        return values[rows][:, columns]

    def between(self, values: np.ndarray) -> np.ndarray:
        """Linearly between the four."""
        down, across = (self.down, self.across) if values.ndim == 2 else (self.down[..., None], self.across[:, None])
        a, b, c, d = self.corners(values)
        return ((a * (1 - across) + b * across) * (1 - down) + (c * (1 - across) + d * across) * down).astype(
            values.dtype
        )


def _cells(size: tuple[int, int], new_size: tuple[int, int]) -> _Cells:
    """Pixel centres lie at +0.5 in both maps."""
    places = [(np.arange(new) + 0.5) * old / new - 0.5 for old, new in zip(size, new_size, strict=True)]
    first = [np.clip(np.floor(x), 0, max(old - 2, 0)).astype(int) for x, old in zip(places, size, strict=True)]
    down, across = ((x - f).astype(np.float32) for x, f in zip(places, first, strict=True))
    return _Cells(first[0], first[1], down[:, None], across, size)


def _enlarged(
    reconstruction: Reconstruction, view: int, finite: Bool[np.ndarray, "height width"], photo: Photo | None
) -> dict[str, np.ndarray]:
    depth, pose = reconstruction.depth[view], reconstruction.poses[view]
    size = reconstruction.original_sizes[view]
    cells = _cells((depth.shape[0], depth.shape[1]), size)
    is_smooth = finite & ~depth_jumps(torch.from_numpy(depth.copy()), torch.from_numpy(finite)).numpy()
    on_surface, known = (np.logical_and.reduce(cells.corners(pixels)) for pixels in (is_smooth, finite))

    inverse = 1 / np.where(finite, depth, 1)
    inside = cells.between(inverse)
    on_surface &= inside > 0
    z = np.where(on_surface, 1 / np.where(on_surface, inside, 1), cells.nearest(depth))

    rotation, centre = pose[:3, :3], pose[:3, 3]
    local = np.where(finite[..., None], (reconstruction.points[view] - centre) @ rotation, 1)
    slopes = local[..., :2] / np.where(finite, depth, 1)[..., None]
    slopes = np.where(known[..., None], cells.between(slopes), cells.nearest(slopes))
    points = np.concatenate([slopes * z[..., None], z[..., None]], axis=-1) @ rotation.T + centre

    def smooth(values: np.ndarray) -> np.ndarray:
        is_between = on_surface if values.ndim == 2 else on_surface[..., None]
        return np.where(is_between, cells.between(values), cells.nearest(values))

    normals = smooth(reconstruction.normals[view])
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    return {
        "images": _picture(reconstruction.images[view], size) if photo is None else photo.rgb,
        "depth": z.astype(depth.dtype),
        "points": points.astype(depth.dtype),
        "normals": (normals / np.where(length > 0, length, 1)).astype(depth.dtype),
        "confidence": np.clip(smooth(reconstruction.confidence[view]), 0, 1),
        "mask": cells.nearest(reconstruction.mask[view]) & cells.nearest(finite),
    }


def _picture(image: UInt8[np.ndarray, "height width 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "rows columns 3"]:
    return np.array(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BICUBIC))
