"""Depth and normals as pictures that programs read: PNG of 8 and 16 bits, TIFF of 32-bit floats."""

import io
from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from g2vlm.geometry.pose import FLIP

LARGEST_UINT16 = 65535
DESCRIPTION = 270
"""The TIFF tag of what a picture shows."""


def depth_step(depths: Iterable[Float[np.ndarray, "_height _width"]]) -> float:
    """Depth of one grey level of the 16-bit PNGs: the farthest point of all views is white."""
    farthest = max(float(depth.max()) for depth in depths)
    return farthest / LARGEST_UINT16 if farthest > 0 else 1.0


def depth_png(depth: Float[np.ndarray, "height width"], step: float, said: dict[str, str]) -> bytes:
    """16-bit grey PNG of depth / step; 0 stays 0 (nothing predicted), and what is more never rounds to 0."""
    levels = np.clip((depth / step).round(), depth > 0, LARGEST_UINT16).astype(np.uint16)
    return _png(levels, {**said, "depth": f"z-depth is the grey level times {step!r}; 0 is unknown"})


def normal_png(
    normals: Float[np.ndarray, "height width 3"], known: Bool[np.ndarray, "height width"], said: dict[str, str]
) -> bytes:
    """Colours as normal maps have them: red to the right, green up, blue to the viewer; black where unknown."""
    colours = (np.where(known[..., None], normals, 0) * FLIP.diagonal()[:3] + 1) * 127.5
    colours = np.where(known[..., None], colours.round(), 0).astype(np.uint8)
    words = "level / 127.5 - 1 is x right, y up, z to the viewer, in the camera's frame; black is unknown"
    return _png(colours, {**said, "normals": words})


def picture_png(image: UInt8[np.ndarray, "height width 3"], said: dict[str, str]) -> bytes:
    """A photo as it is."""
    return _png(image, said)


def _png(pixels: np.ndarray, said: dict[str, str]) -> bytes:
    text = PngInfo()
    for name, value in said.items():
        text.add_itxt(name, value)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()


def depth_tiff(depth: Float[np.ndarray, "height width"], said: tuple[str, ...]) -> bytes:
    """One page of 32-bit floats; 0 is unknown."""
    return _tiff([depth], (*said, "page: z-depth, 0 is unknown"))


def normal_tiff(normals: Float[np.ndarray, "height width 3"], said: tuple[str, ...]) -> bytes:
    """Three pages of 32-bit floats, x, y and z in the camera's frame; 0 is unknown."""
    return _tiff(
        list(np.moveaxis(normals, -1, 0)), (*said, "pages: x, y, z of unit normals, camera frame; 0 is unknown")
    )


def _tiff(pages: list[Float[np.ndarray, "_height _width"]], said: tuple[str, ...]) -> bytes:
    tags = ImageFileDirectory_v2()
    tags[DESCRIPTION] = "\n".join(said)
    first, *others = [Image.fromarray(page.astype(np.float32)) for page in pages]
    buffer = io.BytesIO()
    first.save(buffer, "TIFF", save_all=True, append_images=others, tiffinfo=tags, compression="tiff_adobe_deflate")
    return buffer.getvalue()
