"""Random changes that keep the truth true: which part of a picture is shown, how large, and in what light."""

import random
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """What is varied at random.

    crop: at most so many pixels are cut off each side. focal: smallest part of the picture that a zoom keeps, in
    (0, 1]; 1 never zooms. colour: strength of gamma, gain, contrast and noise; 0 is off.
    """

    crop: int = 16
    focal: float = 0.9
    colour: float = 1.0

    def __post_init__(self):
        if self.crop < 0 or not 0 < self.focal <= 1 or self.colour < 0:
            raise ValueError(f"crop and colour must be at least 0 and focal in (0, 1], got {self}")


class Box(NamedTuple):
    """Part of a picture, in pixels of the whole: fractions of a pixel are meant."""

    left: float
    top: float
    right: float
    bottom: float


class Fitted(NamedTuple):
    """A picture at its final size, and what is known about it there; depth is 0 where unknown."""

    image: Float[Tensor, "3 height width"]
    depth: Float[Tensor, "height width"] | None
    intrinsics: Float[Tensor, "3 3"] | None


def fit(
    image: UInt8[np.ndarray, "rows columns 3"],
    depth: Float[np.ndarray, "rows columns"] | None,
    intrinsics: Float[np.ndarray, "3 3"] | None,
    size: tuple[int, int],
    draw: random.Random,
    augmentation: Augmentation,
) -> Fitted:
    """A random part of a picture, with the shape of `size` (height, width), resized to it.

    The image is antialiased; depth takes the value at each new pixel's centre, never a mixture.
    """
    centre = None if intrinsics is None else (float(intrinsics[0, 2]), float(intrinsics[1, 2]))
    box = random_box((image.shape[0], image.shape[1]), size, centre, draw, augmentation)
    shown = Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BICUBIC, box=box, reducing_gap=2.0)
    return Fitted(
        torch.from_numpy(np.array(shown)).permute(2, 0, 1).contiguous() / 255,
        None if depth is None else torch.from_numpy(resampled(depth, box, size)),
        None if intrinsics is None else torch.from_numpy(seen_through(intrinsics, box, size)).float(),
    )


def random_box(
    whole: tuple[int, int],
    size: tuple[int, int],
    centre: tuple[float, float] | None,
    draw: random.Random,
    augmentation: Augmentation,
) -> Box:
    """A part of a picture `whole` (height, width) that has the shape of `size`.

    Borders are cut off first, then a zoom is drawn; the largest fitting box then lies around `centre` (x, y), as far as
    the rest allows, so that the principal point stays near the middle.
    """
    height, width = whole
    cuts = [draw.uniform(0, min(augmentation.crop, side / 8)) for side in (width, height, width, height)]
    left, top, right, bottom = cuts[0], cuts[1], width - cuts[2], height - cuts[3]
    zoom = draw.uniform(augmentation.focal, 1)
    scale = zoom * min((right - left) / size[1], (bottom - top) / size[0])
    x, y = centre or ((left + right) / 2, (top + bottom) / 2)
    left = min(max(x - scale * size[1] / 2, left), right - scale * size[1])
    top = min(max(y - scale * size[0] / 2, top), bottom - scale * size[0])
    # Rounding must not carry a box that is as large as the picture beyond its border.
    return Box(max(left, 0), max(top, 0), min(left + scale * size[1], width), min(top + scale * size[0], height))


def seen_through(intrinsics: Float[np.ndarray, "3 3"], box: Box, size: tuple[int, int]) -> Float[np.ndarray, "3 3"]:
    """Intrinsics of a box of a picture resized to (height, width)."""
    x, y = size[1] / (box.right - box.left), size[0] / (box.bottom - box.top)
    return np.array([[x, 0, -x * box.left], [0, y, -y * box.top], [0, 0, 1]]) @ intrinsics


def resampled(
    values: Float[np.ndarray, "rows columns"], box: Box, size: tuple[int, int]
) -> Float[np.ndarray, "height width"]:
    """A box of a map resized to (height, width); each value is the one at the new pixel's centre."""
    rows = box.top + (np.arange(size[0]) + 0.5) * (box.bottom - box.top) / size[0]
    columns = box.left + (np.arange(size[1]) + 0.5) * (box.right - box.left) / size[1]
    return values[rows.astype(int)][:, columns.astype(int)]


def photometric(
    images: Float[Tensor, "views 3 height width"], draw: random.Random, strength: float = 1.0
) -> Float[Tensor, "views 3 height width"]:
    """Random gamma, gain per channel, contrast and sensor noise, the same for all views of a scene; stays in [0, 1]."""
    if strength == 0:
        return images

    def about_one(low: float, high: float) -> float:
        return max(1 + strength * (draw.uniform(low, high) - 1), 0.1)

    gamma, contrast, brightness = about_one(0.7, 1.4), about_one(0.85, 1.15), about_one(0.8, 1.2)
    gain = torch.tensor([brightness * about_one(0.92, 1.08) for _ in range(3)])[:, None, None]
    generator = torch.Generator().manual_seed(draw.getrandbits(60))
    noise = strength * draw.uniform(0, 0.02) * torch.randn(images.shape, generator=generator)
    images = gain * images.clamp_min(1e-4) ** gamma
    middle = images.mean()
    return (middle + contrast * (images - middle) + noise).clamp(0, 1)
