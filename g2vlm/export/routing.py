"""Which layers of a geometry encoder the patches of pictures chose, as one picture for people."""

import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from g2vlm.drawing import FAINT, INK, PAPER, even_colours, panel
from g2vlm.pathways.base import MERGE

PANEL, GAP, HEADER, BAR = 240, 12, 56, 16

Weights = Float[np.ndarray, "rows columns layers"]
"""What each token of a picture took of each layer of the bank; a token's weights sum to 1."""


def weights_of_pictures(
    routing: Float[Tensor, "tokens layers"], image_grid_thw: Int[Tensor, "pictures 3"]
) -> list[Weights]:
    """What `pathways.geo_align.recorded_routing` gives for a batch, picture by picture."""
    grids = [(rows // MERGE, columns // MERGE) for _, rows, columns in image_grid_thw.tolist()]
    parts = routing.float().cpu().split([rows * columns for rows, columns in grids])
    return [part.unflatten(0, grid).numpy() for part, grid in zip(parts, grids, strict=True)]


def routing_overview(
    pictures: Sequence[UInt8[np.ndarray, "_height _width 3"]], weights: Sequence[Weights], layers: Sequence[int]
) -> bytes:
    """PNG with a row for each picture: the picture, the layer that each token took most of, how much it took of it, and
    what all its tokens took of each layer on average.

    layers: numbers of the bank's layers; the first is dark, the last is bright.
    """
    rows = [_row(picture, taken, layers) for picture, taken in zip(pictures, weights, strict=True)]
    heights = [max(image.height for image in row) + GAP for row in rows]
    page = Image.new("RGB", (GAP + 4 * (PANEL + GAP), HEADER + sum(heights)), PAPER)
    pen = ImageDraw.Draw(page)
    titles = [
        ("picture", "as the encoder sees it"),
        ("layer taken most of", f"dark {layers[0]}, bright {layers[-1]}"),
        ("part of that layer", "0 dark, 1 bright"),
        ("mean of all tokens", "percent of each layer"),
    ]
    for column, (title, note) in enumerate(titles):
        left = GAP + column * (PANEL + GAP)
        pen.text((left, 6), title, INK, ImageFont.load_default(18))
        pen.text((left, 32), note, FAINT, ImageFont.load_default(13))
    top = HEADER
    for row, height in zip(rows, heights, strict=True):
        for column, image in enumerate(row):
            page.paste(image, (GAP + column * (PANEL + GAP), top))
        top += height
    buffer = io.BytesIO()
    page.save(buffer, "PNG")
    return buffer.getvalue()


def _row(picture: UInt8[np.ndarray, "height width 3"], weights: Weights, layers: Sequence[int]) -> list[Image.Image]:
    if weights.shape[2] != len(layers):
        raise ValueError(f"weights are of {weights.shape[2]} layers, but layers names {len(layers)}; name each of them")
    colours = even_colours(np.linspace(0, 1, len(layers)))
    return [
        panel(picture, PANEL),
        panel(colours[weights.argmax(2)], PANEL),
        panel(even_colours(weights.max(2)), PANEL),
        _bars(weights.mean((0, 1)), colours, layers),
    ]


def _bars(means: Float[np.ndarray, " layers"], colours: np.ndarray, layers: Sequence[int]) -> Image.Image:
    """A bar for each layer, all on one scale, with its number and its percentage."""
    image = Image.new("RGB", (PANEL, BAR * len(layers)), PAPER)
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(12)
    first, longest = 28, PANEL - 28 - 44
    for i, (layer, mean, colour) in enumerate(zip(layers, means, colours, strict=True)):
        top, end = i * BAR, first + round(longest * float(mean))
        pen.text((0, top), str(layer), FAINT, font)
        pen.rectangle([first, top + 2, end, top + BAR - 4], tuple(colour.tolist()))
        pen.text((end + 4, top), f"{100 * mean:.0f}", INK, font)
    return image
