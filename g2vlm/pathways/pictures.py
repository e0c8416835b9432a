"""What a stock host and the frozen encoder beside it see of a photo, so that their cells match one to one.

Sizes are (height, width) in pixels, images RGB in [0, 1]. Two ways: on Qwen2.5-VL, whose patches are as large as the
encoder's, both see the photo of `cropped`; on Qwen3.5 the host's processor goes first, and the encoder follows its grid.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from g2vlm.pathways.base import MERGE
from g2vlm.pictures import Photo

SIDE = 518
"""Pixels along the side that VGGT was trained with."""

PATCH = 14
WHITE = 1.0


def cropped_size(height: int, width: int) -> tuple[int, int]:
    """Size of a photo after `cropped`: 518 wide, whole patches tall, and no taller than wide."""
    return min(_height_at_full_width(height, width), SIDE), SIDE


def cropped(photo: Photo) -> Float[Tensor, "3 height width"]:
    """A photo stretched to a width of 518 and whole patches, bicubic; what is taller than 518 loses top and bottom alike."""
    height, width = photo.size
    full = _height_at_full_width(height, width)
    kept, _ = cropped_size(height, width)
    top = (full - kept) // 2
    return _resized(photo, full, SIDE)[:, top : top + kept]


def padded(photo: Photo) -> Float[Tensor, "3 518 518"]:
    """A photo whose longer side is stretched to 518, the other to whole patches, in the middle of a white square."""
    height, width = photo.size
    scale = SIDE / max(height, width)
    rows, columns = (max(round(side * scale / PATCH), 1) * PATCH for side in (height, width))
    top, left = (SIDE - rows) // 2, (SIDE - columns) // 2
    return F.pad(_resized(photo, rows, columns), (left, SIDE - columns - left, top, SIDE - rows - top), value=WHITE)


def host_image(image: Float[Tensor, "3 height width"]) -> Float[Tensor, "3 _height _width"]:
    """What Qwen2.5-VL sees of a `cropped` photo: whole cells, the rest cut off on the right and below."""
    cell = MERGE * PATCH
    height, width = (side // cell * cell for side in image.shape[1:])
    return image[:, :height, :width]


def geometry_size(grid: Sequence[int], patch: int = PATCH) -> tuple[int, int]:
    """Size at which an encoder sees as many patches as the host does; grid: (1, rows, columns) of `image_grid_thw`."""
    return grid[1] * patch, grid[2] * patch


def geometry_images(
    photos: Sequence[Photo], image_grid_thw: Int[Tensor, "photos 3"], patch: int = PATCH
) -> list[Float[Tensor, "3 _height _width"]]:
    """What the encoder sees of photos that a host's processor has laid out as `image_grid_thw`; bicubic."""
    grids = image_grid_thw.tolist()
    if len(photos) != len(grids):
        raise ValueError(f"there are {len(photos)} photos, but image_grid_thw has {len(grids)} rows; give one for each")
    return [_resized(photo, *geometry_size(grid, patch)) for photo, grid in zip(photos, grids, strict=True)]


def _height_at_full_width(height: int, width: int) -> int:
    return max(round(height * SIDE / width / PATCH), 1) * PATCH


def _resized(photo: Photo, height: int, width: int) -> Float[Tensor, "3 _height _width"]:
    image = Image.fromarray(photo.rgb).resize((width, height), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous() / 255
