"""One picture for people: each view's photo, depth, normals and confidence side by side."""

import io
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageDraw, ImageFont

from g2vlm.drawing import FAINT, INK, PAPER, DepthRange, depth_colours, depth_range, even_colours, grey_outside, panel
from g2vlm.export.cloud import finite_pixels
from g2vlm.records import Reconstruction

PANEL = 320
GAP = 12
CAPTION = 26
HEADER = 76
MAX_ROWS = 16

Colours = UInt8[np.ndarray, "height width 3"]


def overview(reconstruction: Reconstruction) -> bytes:
    """PNG with one row per view (at most 16, evenly spaced) and one depth range for these; grey is not finite."""
    num_views = len(reconstruction.names)
    views = np.unique(np.linspace(0, num_views - 1, min(num_views, MAX_ROWS)).round().astype(int)).tolist()
    finite = [finite_pixels(reconstruction, view) for view in views]
    depths = depth_range([reconstruction.depth[view] for view in views], finite)
    rows = [
        [panel(pixels, PANEL) for pixels in pictures_of_view(reconstruction, view, inside, depths)]
        for view, inside in zip(views, finite, strict=True)
    ]
    heights = [max(image.height for image in row) + CAPTION + GAP for row in rows]
    page = Image.new("RGB", (GAP + 4 * (PANEL + GAP), HEADER + sum(heights)), PAPER)
    draw = ImageDraw.Draw(page)
    _header(page, draw, depths, reconstruction.scale)
    top = HEADER
    for view, row, height in zip(views, rows, heights, strict=True):
        draw.text((GAP, top), _caption(reconstruction, view), INK, ImageFont.load_default(15))
        for column, image in enumerate(row):
            page.paste(image, (GAP + column * (PANEL + GAP), top + CAPTION))
        top += height
    buffer = io.BytesIO()
    page.save(buffer, "PNG")
    return buffer.getvalue()


class ViewPictures(NamedTuple):
    """One view's photo and maps as colours, all of the view's working size; grey is not finite."""

    photo: Colours
    depth: Colours
    normals: Colours
    confidence: Colours


def pictures_of_view(
    reconstruction: Reconstruction, view: int, finite: Bool[np.ndarray, "height width"], depths: DepthRange
) -> ViewPictures:
    """Near is bright; normals have the colours that normal maps usually have: x right, y up, z towards the viewer."""
    confidence = reconstruction.confidence[view]
    normals = (reconstruction.normals[view] * [1, -1, -1] + 1) * 127.5
    return ViewPictures(
        photo=reconstruction.images[view],
        depth=depth_colours(reconstruction.depth[view], finite, depths),
        normals=grey_outside(finite, normals),
        confidence=grey_outside(np.isfinite(confidence), even_colours(np.nan_to_num(confidence))),
    )


def _caption(reconstruction: Reconstruction, view: int) -> str:
    height, width = reconstruction.original_sizes[view]
    map_height, map_width = reconstruction.depth[view].shape
    return (
        f"view {view + 1} of {len(reconstruction.names)}   {reconstruction.names[view]}"
        f"   {width} x {height}, seen at {map_width} x {map_height}"
    )


def _header(page: Image.Image, draw: ImageDraw.ImageDraw, depths: DepthRange, scale: str) -> None:
    unit = "metres" if scale == "metric" else "scale-free"
    titles = [
        ("photo", "as the model sees it"),
        (f"depth ({unit})", f"{depths.near:.3g} to {depths.far:.3g}"),
        ("normals", "red right, green up, blue to camera"),
        ("confidence", "0 to 1"),
    ]
    bar = Image.fromarray(np.repeat(even_colours(np.linspace(0, 1, 96))[None], 12, axis=0))
    for column, (title, note) in enumerate(titles):
        left = GAP + column * (PANEL + GAP)
        draw.text((left, 10), title, INK, ImageFont.load_default(22))
        draw.text((left, 40), note, FAINT, ImageFont.load_default(15))
        if title.startswith("depth"):
            page.paste(bar.transpose(Image.Transpose.FLIP_LEFT_RIGHT), (left + PANEL - bar.width, 44))
        if title == "confidence":
            page.paste(bar, (left + PANEL - bar.width, 44))
