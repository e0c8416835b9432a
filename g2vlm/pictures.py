"""From files to photos, and from photos to what the two encoders read. Sizes are (height, width) everywhere."""

import glob
import re
import struct
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

# The two plugins register themselves: given a closed list of formats, PIL loads only its commonest on its own.
from PIL import Image, ImageOps, TiffImagePlugin, WebPImagePlugin  # noqa: F401
from torch import Tensor

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP")

MAX_PIXELS = 80_000_000
MIN_SIDE = 16
MAX_ASPECT = 8

# What PIL raises for bytes that are not what their header says, found by damaging one file of each format 3000 times.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error)

Resize = Literal["long_side", "first_view_width"]
"""How a photo becomes a view of whole patches; see `working_size`."""


@dataclass(frozen=True)
class Photo:
    """A picture as its viewer meant it: upright, RGB, opaque."""

    name: str
    rgb: UInt8[np.ndarray, "height width 3"]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.rgb.shape[0], self.rgb.shape[1]


PhotoLike = Photo | str | Path | Image.Image
"""What a caller may give for a photo."""

Picture = TypeVar("Picture")


def find_pictures(inputs: Iterable[str], max_views: int | None = None) -> list[Path]:
    """The pictures that paths, folders and globs name, each once.

    Inputs keep their order, for the first view sets the world frame; inside a folder or glob 2.jpg comes before 10.jpg.
    Folders are not searched deeper. More than `max_views` are thinned out evenly.
    """
    found = [path for text in inputs for path in _pictures_of(text)]
    return evenly_spaced(list(dict.fromkeys(found)), max_views)


def evenly_spaced(pictures: Sequence[Picture], max_views: int | None) -> list[Picture]:
    """At most `max_views` of the pictures, in order, the first and the last among them (the first alone, if one)."""
    if max_views is not None and max_views < 1:
        raise ValueError(f"max_views is {max_views}; at least 1 picture is needed")
    if not pictures:
        raise ValueError("no picture was given; name at least one picture, folder or glob")
    if max_views is None or len(pictures) <= max_views:
        return list(pictures)
    return [pictures[i] for i in np.linspace(0, len(pictures) - 1, max_views).round().astype(int)]


def _pictures_of(text: str) -> list[Path]:
    path = Path(text)
    if path.is_dir():
        candidates, place = list(path.iterdir()), f"the folder {text} (deeper folders are not searched)"
    elif path.exists():
        return [path]
    elif glob.has_magic(text):
        candidates, place = [Path(match) for match in glob.glob(text, recursive=True)], f"the glob {text}"
    else:
        raise ValueError(f"{text}: there is no such file or folder; check the path")
    pictures = [p for p in candidates if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and not p.is_dir()]
    if not pictures:
        raise ValueError(
            f"no picture among the {len(candidates)} entries of {place}; wanted are files ending in {' '.join(SUFFIXES)}"
        )
    return sorted(pictures, key=_natural)


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Sorts numbers by value: every odd piece of the split is a run of digits."""
    pieces = re.split(r"(\d+)", str(path).lower())
    return [(int(piece), "") if i % 2 else (-1, piece) for i, piece in enumerate(pieces)], str(path)


def read_photo(
    source: str | Path | BinaryIO, *, name: str | None = None, turn: bool = True, max_pixels: int = MAX_PIXELS
) -> Photo:
    """Read a photo as opaque 8-bit RGB; 16 bits are scaled down, transparency is laid on white.

    name: of a stream, for messages and for the photo. turn: upright, as its EXIF says; False leaves the pixels as they are
    stored, which is what measured intrinsics and depth go with.

    Raises ValueError, naming file, value and cure, for what is not a picture, is damaged, has more than `max_pixels`
    (looked up in the header, before anything is decoded), a side below 16 pixels, or a shape longer than 8:1.
    """
    label = str(source) if name is None else name
    with warnings.catch_warnings():
        # PIL warns of large pictures and odd metadata: the one is limited below, the other does not matter.
        warnings.simplefilter("ignore")
        with _opened(source, label, max_pixels) as image:
            _check_size(label, image.height, image.width, max_pixels)
            return Photo(Path(label).name, _decoded(label, image, turn))


def photo_of(source: PhotoLike, name: str) -> Photo:
    """A photo from whatever a caller gives; name: of a picture that has none. Raises ValueError as `read_photo` does."""
    if isinstance(source, Photo):
        return source
    if isinstance(source, Image.Image):
        _check_size(name, source.height, source.width, MAX_PIXELS)
        return Photo(name, _decoded(name, source, turn=True))
    return read_photo(source)


def _opened(source: str | Path | BinaryIO, label: str, max_pixels: int) -> Image.Image:
    try:
        return Image.open(source, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ValueError(f"{label}: far over the limit of {max_pixels:,} pixels; scale it down") from error
    except Image.UnidentifiedImageError as error:
        raise ValueError(f"{label}: not a JPEG, PNG, WebP, TIFF or BMP picture; convert it or leave it out") from error
    except UNREADABLE as error:
        raise _unreadable(label, error) from error


def _decoded(label: str, image: Image.Image, turn: bool) -> UInt8[np.ndarray, "height width 3"]:
    try:
        return _rgb(ImageOps.exif_transpose(image) if turn else image)
    except UNREADABLE as error:
        raise _unreadable(label, error) from error


def _unreadable(label: str, error: Exception) -> ValueError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return ValueError(f"{label}: cannot be read ({reason}); export it again as JPEG or PNG, or leave it out")


def _check_size(label: str, height: int, width: int, max_pixels: int) -> None:
    size = f"{label}: {width} x {height} pixels (width x height)"
    if height * width > max_pixels:
        raise ValueError(f"{size} is {height * width:,} in all, over the limit of {max_pixels:,}; scale it down")
    if min(height, width) < MIN_SIDE:
        raise ValueError(f"{size} is too small; each side needs at least {MIN_SIDE}")
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise ValueError(f"{size} is longer than {MAX_ASPECT}:1; crop it, or cut it into several photos")


def _rgb(image: Image.Image) -> UInt8[np.ndarray, "height width 3"]:
    if image.mode == "F" or (image.mode == "I" and not _fits_16_bits(image)):
        raise ValueError(f"32-bit values, PIL mode {image.mode}, do not say what is white")
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).astype(np.float64) / 257).round().astype(np.uint8))
    elif image.has_transparency_data:
        transparent = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", transparent.size, "white"), transparent)
    return np.array(image.convert("RGB"))


def _fits_16_bits(image: Image.Image) -> bool:
    values = np.asarray(image)
    return values.min() >= 0 and values.max() <= 65535


def working_size(height: int, width: int, resolution: int, patch: int, rule: Resize = "long_side") -> tuple[int, int]:
    """(height, width) in whole patches at which a photo is seen; resolution is rounded to whole patches first.

    `long_side`: the longer side becomes `resolution`, the other keeps the aspect ratio as far as patches allow.
    `first_view_width`: the width becomes `resolution`, however tall the photo is; meant for the first photo of a scene,
    the others being stretched to its size (the released G2VLM).
    """
    if resolution < patch:
        raise ValueError(f"resolution {resolution} is smaller than one patch; give at least {patch} pixels")

    def whole(pixels: float) -> int:
        return max(round(pixels / patch), 1) * patch

    reference = width if rule == "first_view_width" else max(height, width)
    return whole(height * whole(resolution) / reference), whole(width * whole(resolution) / reference)


def to_views(
    photos: Sequence[Photo], resolution: int, patch: int, rule: Resize = "long_side"
) -> list[Float[Tensor, "3 height width"]]:
    """RGB in [0, 1] of each photo at its working size; Lanczos, no cropping."""
    if not photos:
        raise ValueError("no photo was given; a reconstruction needs at least 1 view")
    sizes = view_sizes([photo.size for photo in photos], resolution, patch, rule)
    return [view_at(photo, size) for photo, size in zip(photos, sizes, strict=True)]


def view_sizes(
    photos: Sequence[tuple[int, int]], resolution: int, patch: int, rule: Resize = "long_side"
) -> list[tuple[int, int]]:
    """(height, width) of the views of photos of these sizes; see `working_size`."""
    sizes = [working_size(*photo, resolution, patch, rule) for photo in photos]
    return [sizes[0]] * len(sizes) if rule == "first_view_width" else sizes


def view_at(photo: Photo, size: tuple[int, int]) -> Float[Tensor, "3 height width"]:
    """RGB in [0, 1] of a photo at this size; Lanczos, no cropping."""
    return torch.from_numpy(resized(photo, size).rgb).permute(2, 0, 1).contiguous() / 255


def resized(photo: Photo, size: tuple[int, int]) -> Photo:
    """A photo at this size (height, width); Lanczos, no cropping."""
    image = Image.fromarray(photo.rgb).resize((size[1], size[0]), Image.Resampling.LANCZOS)
    return Photo(photo.name, np.array(image))


def sharpest(photos: Iterable[Photo]) -> Photo | None:
    """The one whose edges are hardest: of the greatest variance of the Laplacian; None of none. Holds two at a time."""
    best, highest = None, -1.0
    for photo in photos:
        value = sharpness(photo.rgb)
        if value > highest:
            best, highest = photo, value
    return best


def sharpness(rgb: UInt8[np.ndarray, "height width 3"]) -> float:
    """Variance of the Laplacian of the brightness; that of a blurred or a blank picture is small."""
    grey = rgb.mean(2, dtype=np.float32)
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float((around - 4 * grey[1:-1, 1:-1]).var())


MERGED_PATCH = 28
"""Pixels along each side of what the vision tower makes one token of."""


def picture_size(view: tuple[int, int]) -> tuple[int, int]:
    """(height, width) at which the vision tower sees a photo whose view has this size: whole tokens, two at least per side."""
    height, width = (max(round(side / MERGED_PATCH), 2) * MERGED_PATCH for side in view)
    return height, width


def semantic_patches(
    photos: Sequence[Photo],
    size: tuple[int, int] | None = None,
    min_pixels: int = 56 * 56,
    max_pixels: int = 28 * 28 * 1280,
) -> tuple[Float[Tensor, "patches 1176"], Int[Tensor, "views 3"]]:
    """Patches as the Qwen2-VL vision tower reads them, in 2x2-merge order, and each photo's grid (1, rows, columns).

    Photos are first stretched to `size` (height, width) where one is given (the released G2VLM: 768 x 768), then the
    processor rounds both sides to 28 pixels between `min_pixels` and `max_pixels` in all.
    """
    from transformers import Qwen2VLImageProcessorPil  # slow to import, and only the semantic side needs it

    images = [Image.fromarray(photo.rgb) for photo in photos]
    if size is not None:
        images = [image.resize((size[1], size[0]), Image.Resampling.BICUBIC) for image in images]
    processor = Qwen2VLImageProcessorPil(min_pixels=min_pixels, max_pixels=max_pixels)
    patches = processor(images, return_tensors="pt")
    return patches["pixel_values"], patches["image_grid_thw"]
