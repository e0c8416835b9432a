"""One picture for people: each view's photo, depth, normals and confidence side by side."""

import io
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from g2vlm.export.arrays import finite_pixels
from g2vlm.records import Reconstruction

PANEL = 320
GAP = 12
CAPTION = 26
HEADER = 76
MAX_ROWS = 16

INK, FAINT, PAPER, INVALID = "black", "#666666", "white", 128


def even_colours(values: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape 3"]:
    """Colours for values in [0, 1], from dark violet over red to pale yellow.

    Lightness grows evenly in Oklab (Ottosson, 2020), so that equal steps look equal, also in grey and to the colour-blind.
    """
    v = np.clip(values, 0, 1)
    lightness, chroma, hue = 0.28 + 0.66 * v, 0.08 + 0.30 * v * (1 - v) + 0.02 * v, np.radians(-65 + 165 * v)
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    cone = np.stack(
        [
            lightness + 0.3963377774 * a + 0.2158037573 * b,
            lightness - 0.1055613458 * a - 0.0638541728 * b,
            lightness - 0.0894841775 * a - 1.2914855480 * b,
        ],
        axis=-1,
    )
    to_rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip(cone**3 @ to_rgb.T, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (encoded * 255).round().astype(np.uint8)


@dataclass(frozen=True)
class DepthRange:
    """Nearest and farthest depth that get colours of their own: percentiles 2 and 98 of the finite pixels of all views."""

    near: float
    far: float

    def brightness(self, depth: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
        """1 at the near end, 0 at the far end, even in the logarithm: depth is known up to a factor."""
        span = max(np.log(self.far / self.near), 1e-6)
        return 1 - np.log(np.maximum(depth, self.near) / self.near) / span


def depth_range(depths: list[np.ndarray], finite: list[np.ndarray]) -> DepthRange:
    inside = np.concatenate([depth[v] for depth, v in zip(depths, finite, strict=True)])
    return DepthRange(*map(float, np.percentile(inside, [2, 98]))) if inside.size else DepthRange(1.0, 1.0)


def overview(reconstruction: Reconstruction) -> bytes:
    """PNG with one row per view (at most 16, evenly spaced) and one depth range for all; grey is not finite."""
    finite = finite_pixels(reconstruction)
    num_views = len(reconstruction.names)
    views = np.unique(np.linspace(0, num_views - 1, min(num_views, MAX_ROWS)).round().astype(int)).tolist()
    depths = depth_range(list(reconstruction.depth), finite)
    rows = [_row(reconstruction, view, finite[view], depths) for view in views]
    heights = [max(panel.height for panel in row) + CAPTION + GAP for row in rows]
    page = Image.new("RGB", (GAP + 4 * (PANEL + GAP), HEADER + sum(heights)), PAPER)
    draw = ImageDraw.Draw(page)
    _header(page, draw, depths, reconstruction.scale)
    top = HEADER
    for view, row, height in zip(views, rows, heights, strict=True):
        draw.text((GAP, top), _caption(reconstruction, view), INK, ImageFont.load_default(15))
        for column, panel in enumerate(row):
            page.paste(panel, (GAP + column * (PANEL + GAP), top + CAPTION))
        top += height
    buffer = io.BytesIO()
    page.save(buffer, "PNG")
    return buffer.getvalue()


def _row(reconstruction: Reconstruction, view: int, finite: np.ndarray, depths: DepthRange) -> list[Image.Image]:
    depth, confidence = np.where(finite, reconstruction.depth[view], depths.far), reconstruction.confidence[view]
    # x right, y up, z towards the viewer: the colours that normal maps usually have
    normals = (reconstruction.normals[view] * [1, -1, -1] + 1) * 127.5
    maps = [
        reconstruction.images[view],
        _grey_outside(finite, even_colours(depths.brightness(depth))),
        _grey_outside(finite, normals),
        _grey_outside(np.isfinite(confidence), even_colours(np.nan_to_num(confidence))),
    ]
    return [_panel(pixels) for pixels in maps]


def _grey_outside(inside: np.ndarray, colours: np.ndarray) -> np.ndarray:
    return np.where(inside[..., None], colours, INVALID).round().astype(np.uint8)


def _panel(pixels: UInt8[np.ndarray, "height width 3"]) -> Image.Image:
    height, width = pixels.shape[:2]
    factor = PANEL / max(height, width)
    size = max(round(width * factor), 1), max(round(height * factor), 1)
    # enlarged maps show their true pixels
    kind = Image.Resampling.NEAREST if factor > 1 else Image.Resampling.BOX
    return Image.fromarray(pixels).resize(size, kind)


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
